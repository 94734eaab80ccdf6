import PeatNN
import PeatTensor

/// How a controller's network is built.
public struct NetworkConfiguration: Sendable, Codable, Equatable {
  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// One trunk reads all devices side by side: for a fixed number of them, in a fixed order.
    case flat
    /// One encoder reads each device by itself, and all see what they have in common: for any number, in any order.
    case shared
  }

  public var kind: Kind
  public var width: Int
  /// How often devices of the shared network look at what all have in common.
  public var exchanges: Int

  public init(_ kind: Kind = .shared, width: Int = 64, exchanges: Int = 1) {
    self.kind = kind
    self.width = width
    self.exchanges = exchanges
  }

  /// Throws `usage` where the width is not between 1 and 4096, or there are not 1 to 16 exchanges.
  public func validate() throws {
    guard (1...4096).contains(width) else {
      throw PeatError.usage("A network's width is \(width); it must be between 1 and 4096.")
    }
    guard (1...16).contains(exchanges) else {
      throw PeatError.usage("A network has \(exchanges) exchanges; it must be between 1 and 16.")
    }
  }

  /// A network with fresh weights.
  ///
  /// - Throws: `usage` as `validate` does; `interrupted` where somebody wanted it to stop.
  public func make(
    for shape: ControlShape, seed: UInt64, shouldStop: () -> Bool = { false }
  ) throws -> any ActorCritic {
    try validate()
    var random = SeededRandom(seed: seed, "network")
    return try withoutActuallyEscaping(shouldStop) { shouldStop in
      try network(for: shape) { rows, columns, gain in
        guard
          let matrix = Tensor.orthogonal(
            rows: rows, columns: columns, gain: gain, using: &random, shouldStop: shouldStop)
        else { throw PeatError(.interrupted, "Interrupted while the network was made.") }
        return matrix
      }
    }
  }

  /// A network of zeros, whose weights are still to come.
  func blank(for shape: ControlShape) throws -> any ActorCritic {
    try validate()
    return try network(for: shape) { rows, columns, _ in Tensor(zeros: [rows, columns]) }
  }

  private func network(
    for shape: ControlShape, _ matrix: WeightMaker
  ) throws -> any ActorCritic {
    switch kind {
    case .flat: try FlatActorCritic(shape, width: width, matrix)
    case .shared: try SharedActorCritic(shape, width: width, exchanges: exchanges, matrix)
    }
  }

  /// The name and shape of each weight of a network for a shape, without making one.
  public func layout(for shape: ControlShape) -> [String: [Int]] {
    var result: [String: [Int]] = [:]
    func layer(_ name: String, _ inputs: Int, _ outputs: Int, hasBias: Bool = true) {
      result[name + ".weight"] = [outputs, inputs]
      if hasBias { result[name + ".bias"] = [outputs] }
    }
    switch kind {
    case .flat:
      layer("first", shape.observationSize, width)
      layer("second", width, width)
      layer("policy", width, shape.logits)
    case .shared:
      layer("encoder", shape.deviceFeatures + shape.globalFeatures, width)
      for number in 0..<exchanges {
        layer("exchange.\(number).own", width, width)
        layer("exchange.\(number).common", 2 * width, width, hasBias: false)
      }
      layer("policy", width, shape.branches.width)
      layer("trunk", 2 * width, width)
    }
    layer("value", width, 1)
    return result
  }
}
