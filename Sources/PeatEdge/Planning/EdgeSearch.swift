import PeatControl

/// The best round as it is believed, bands shared equally.
///
/// With the aim `weighted` progress counts for `rounds` rounds (`CreditedPricing`); with `timeToTarget` the same devices go on until the
/// target is reached (`TeamPricing`). The first is exact where progress adds up over devices (π = 1); else, what is
/// found is bettered device by device for as long as that helps. A search chooses no further work.
public struct EdgeSearch: EdgePlanner, Sendable {
  public let rounds: Double

  public init(rounds: Double) { self.rounds = rounds }

  /// As far as a planner that looks ahead counts progress.
  static let lookAhead = EdgeSearch(rounds: 20)

  func decide(_ view: some PlanningView) -> [EdgeDecision] { search(view).best }

  /// What decisions cost against the best ones, in the objective of this search: all together, and each device's beside the others as they
  /// are; not finite where a part of them is impossible.
  func regret(
    of decisions: [EdgeDecision], _ view: some PlanningView
  ) -> (all: Double, each: [Double]) {
    let (best, pricing) = search(view)
    let value = pricing.value(of: decisions)
    let each = decisions.indices.map { number in
      guard decisions[number] != best[number] else { return 0.0 }
      var other = decisions
      other[number] = best[number]
      return value - pricing.value(of: other)
    }
    return (value - pricing.value(of: best), each)
  }

  /// What joint decisions for a simulated cell cost in the objective of this search; infinite where a part of them is impossible.
  package func value(of decisions: [EdgeDecision], _ cell: EdgeCell) -> Double {
    pricing(cell).value(of: decisions)
  }

  /// Decides for a simulated cell.
  package func decisions(for cell: EdgeCell) -> [EdgeDecision] { decide(cell) }

  private func search(
    _ view: some PlanningView
  ) -> (best: [EdgeDecision], pricing: any DecisionPricing) {
    let pricing = pricing(view)
    let found = pricing.search()
    return (pricing.isExact ? found : bettered(found, view, by: pricing), pricing)
  }

  private func pricing(_ view: some PlanningView) -> any DecisionPricing {
    let parts = RoundParts(view)
    return switch view.objective.aim {
    case .weighted: CreditedPricing(parts, rounds: rounds)
    case .timeToTarget: TeamPricing(parts, isRepeated: rounds > 1)
    }
  }

  /// Changes what one device does for as long as that helps.
  private func bettered(
    _ decisions: [EdgeDecision], _ view: some PlanningView, by pricing: any DecisionPricing
  ) -> [EdgeDecision] {
    var decisions = decisions
    var value = pricing.value(of: decisions)
    let moves =
      [EdgeDecision(isSelected: false), EdgeDecision(isSelected: true)]
      + view.levels.indices.map { EdgeDecision(isSelected: true, level: $0) }
    var unchanged = 0
    var number = 0
    while unchanged < decisions.count {
      unchanged += 1
      for move in moves where move != decisions[number] {
        let old = decisions[number]
        decisions[number] = move
        let new = pricing.value(of: decisions)
        // Less by rounding alone is no gain: this ends.
        if new < value - 1e-9 * max(abs(value), 1) {
          value = new
          unchanged = 0
        } else {
          decisions[number] = old
        }
      }
      number = (number + 1) % decisions.count
    }
    return decisions
  }
}

/// What joint decisions cost.
protocol DecisionPricing {
  /// Whether no decisions cost less than those that are found.
  var isExact: Bool { get }

  /// Decisions that cost little.
  func search() -> [EdgeDecision]

  /// Infinite where a part of them is impossible.
  func value(of decisions: [EdgeDecision]) -> Double
}
