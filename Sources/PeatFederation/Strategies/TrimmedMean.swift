import PeatTensor

/// The mean of each value without the ⌊β·n⌋ smallest and as many of the largest.
///
/// Of low-rank pairs it is taken of the values of A and B, as `CoordinateMedian` takes its median.
///
/// Source: Yin et al. 2018, <https://arxiv.org/abs/1803.01498>.
public struct TrimmedMean: AggregationStrategy, RobustRule {
  /// β, 0 ≤ β < 1/2.
  public let share: Double

  public init(share: Double = 0.1) { self.share = share }

  public var name: String { "trimmed-mean" }
  public var summary: String {
    "the mean of each value without the largest and the smallest (trimmedShare)"
  }

  /// How many values of so many are left out at each end.
  private func cut(of updates: Int) -> Int {
    // 0.29 · 100 is a little less than 29.
    Int((share * Double(updates) + 1e-9).rounded(.down))
  }

  public func caution(updates: Int) -> String? {
    guard cut(of: updates) == 0 else { return nil }
    let way =
      updates < 3
      ? "Of three or more it can."
      : share > 0
        ? "It does from \(Int((1 / share - 1e-9).rounded(.up))) updates on, or with a larger trimmedShare."
        : "It needs a trimmedShare above 0."
    return
      "Of \(updates) \(updates == 1 ? "update" : "updates") 'trimmed-mean' leaves out none (trimmedShare \(share)): it is a plain mean, and one wrong update leads it away. \(way)"
  }

  func combine(
    _ stack: UpdateStack, from current: NamedTensors
  ) throws -> (tensors: NamedTensors, notes: [String: Double]) {
    let cut = cut(of: stack.count)
    let kept = cut..<stack.count - cut
    return (
      try stack.combined { values in
        Float(values[kept].reduce(0.0) { $0 + Double($1) } / Double(kept.count))
      }, ["taken": Double(kept.count)]
    )
  }
}
