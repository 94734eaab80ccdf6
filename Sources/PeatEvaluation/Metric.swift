/// What the five numbers are numbers of.
public enum Metric: String, Sendable, Codable {
  /// e to the mean loss of predicting each next token.
  case perplexity
  /// e to the mean loss of saying what stands at masked places.
  case maskedPerplexity = "masked-perplexity"
  /// The share of texts whose class is found.
  case accuracy

  public var higherIsBetter: Bool { self == .accuracy }

  /// Whether a value is no worse than another; what is no number is worse than all.
  public func isAsGood(_ value: Double, as other: Double) -> Bool {
    value.isFinite && (!other.isFinite || (higherIsBetter ? value >= other : value <= other))
  }
}

extension FiveNumberSet {
  public init(_ metric: Metric) {
    self.init(metric: metric.rawValue, higherIsBetter: metric.higherIsBetter)
  }
}
