import PeatTensor

/// A mean of updates none of which may go farther than a bound: `wₖ ← w + min(1, C / ‖wₖ − w‖) · (wₖ − w)`, then as the rule that it stands on.
///
/// The norm is over all values that an update holds, of low-rank pairs over A and B as they are: also by rules that work on their products, where it bounds those
/// as far as A and B are bounded. It needs no other client's update, so updates stream.
///
/// Source: Sun et al. 2019, <https://arxiv.org/abs/1911.07963>.
public struct NormBound: AggregationStrategy, MeanRule {
  private let rule: any MeanRule
  /// C, above 0.
  package let bound: Double?
  public let name: String

  public init(_ bound: Double = 1) { self.init(FedAvg(), bound, name: "norm-bound") }

  /// - Parameter name: the rule's, where none is given.
  package init(_ rule: any MeanRule, _ bound: Double, name: String? = nil) {
    self.rule = rule
    self.bound = bound
    self.name = name ?? rule.name
  }

  public var summary: String {
    "as \(rule.name) of updates that are cut to a norm (normBound)"
  }
  public var freezesDown: Bool { rule.freezesDown }
  public var keepsFactors: Bool { rule.keepsFactors }
  public var keepsRemainders: Bool { rule.keepsRemainders }
  public var takesMixedRanks: Bool { false }
  public var needsStart: Bool { true }
  package var makesProducts: Bool { rule.makesProducts }
  package var averagesPairs: Bool { rule.averagesPairs }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) -> any UpdateAccumulator {
    SumAccumulator(makeSums(current, round), rule: self)
  }

  package func next(_ target: RoundTarget) throws -> NamedTensors { try rule.next(target) }
}
