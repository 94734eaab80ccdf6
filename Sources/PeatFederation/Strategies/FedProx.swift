import PeatTensor

/// FedAvg whose clients stay near the adapter that a round began with: each adds `μ/2 · ‖w − w₀‖²` to its loss, so `μ·(w − w₀)` to its gradient.
///
/// What the server does is the rule's that it stands on.
///
/// Source: Li et al. 2018, Algorithm 2, <https://arxiv.org/abs/1812.06127>.
public struct FedProx: AggregationStrategy {
  private let rule: any AggregationStrategy
  /// μ.
  public let proximal: Double
  public let name: String

  public init(mu: Double = 0.01) { self.init(FedAvg(), mu: mu, name: "fedprox") }

  /// - Parameter name: the rule's, where none is given.
  package init(_ rule: any AggregationStrategy, mu: Double, name: String? = nil) {
    self.rule = rule
    proximal = mu
    self.name = name ?? rule.name
  }

  public var summary: String {
    "as \(rule.name); clients are held near the adapter that the round began with"
  }
  public var freezesDown: Bool { rule.freezesDown }
  public var keepsFactors: Bool { rule.keepsFactors }
  public var keepsRemainders: Bool { rule.keepsRemainders }
  public var takesMixedRanks: Bool { rule.takesMixedRanks }
  public var needsStart: Bool { rule.needsStart }
  public var usesControls: Bool { rule.usesControls }
  public var comparesUpdates: Bool { rule.comparesUpdates }

  public var approximatesMean: Bool { rule.approximatesMean }

  public func caution(updates: Int) -> String? { rule.caution(updates: updates) }

  public func broadcast(_ adapter: NamedTensors, _ state: StrategyState) -> NamedTensors {
    rule.broadcast(adapter, state)
  }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) throws -> any UpdateAccumulator {
    try rule.makeAccumulator(into: current, round)
  }
}
