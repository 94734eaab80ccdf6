/// How queries and keys turn by their position: how fast each pair of values does, and by what they are multiplied.
public struct RotaryEmbedding: Sendable, Hashable {
  public let headWidth: Int
  /// The angle of each pair per position, in radians. Fewer pairs than half of a head leave the values behind them as they are.
  public let frequencies: [Float]
  /// What turned values are multiplied with.
  public let scale: Float

  public init(headWidth: Int, frequencies: [Float], scale: Float = 1) {
    precondition(
      2 * frequencies.count <= headWidth,
      "RotaryEmbedding: \(frequencies.count) pairs in a head of \(headWidth)")
    self.headWidth = headWidth
    self.frequencies = frequencies
    self.scale = scale
  }

  /// Frequencies θ^(−2i/R) of pairs i = 0 … R/2 − 1.
  ///
  /// - Parameter width: R, how many values of a head turn; `nil`: all.
  public init(headWidth: Int, width: Int? = nil, theta: Double) {
    self.init(
      headWidth: headWidth,
      frequencies: Self.frequencies(width: width ?? headWidth, theta: theta).map { Float($0) })
  }

  /// θ^(−2i/R), for each pair of R values; where R is odd its last value makes a pair with the next one.
  public static func frequencies(width: Int, theta: Double) -> [Double] {
    (0..<(width + 1) / 2).map { 1 / power(theta, 2 * Double($0) / Double(width)) }
  }
}
