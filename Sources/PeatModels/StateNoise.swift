import PeatTensor

/// Noise on hidden states behind a block: each value gets a normal one, of a share of its row's root mean square. Gradients pass through it unchanged.
///
/// On the states that an emulator hands to the top it keeps an adapter from fitting what only the emulator does: of our own making, measured in
/// the README.
public struct StateNoise: Sendable {
  /// After how many of the blocks that are run.
  public let place: Int
  /// Of the root mean square.
  public let share: Double
  public let seed: UInt64

  public init(place: Int, share: Double, seed: UInt64) {
    self.place = place
    self.share = share
    self.seed = seed
  }

  /// Adds it in place: the same for the same seed and tokens.
  func add(to states: Activation, tokens: UnsafeBufferPointer<Int32>) {
    var hash = seed
    for token in tokens { hash = (hash ^ UInt64(bitPattern: Int64(token))) &* 0x100_0000_01b3 }
    var random = SeededRandom(seed: hash, "state noise")
    let width = states.columns
    for row in 0..<states.rows {
      let place = states.pointer + row * states.stride
      var square: Float = 0
      for column in 0..<width { square += place[column] * place[column] }
      let scale = Float(share) * (square / Float(width)).squareRoot()
      for column in 0..<width { place[column] += scale * random.normal() }
    }
  }
}
