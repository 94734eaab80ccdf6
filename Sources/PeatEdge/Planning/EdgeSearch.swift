import PeatControl

/// The best round as it is believed, bands shared equally.
///
/// With the aim `weighted` progress counts for `rounds` rounds (`CreditedPricing`); with `timeToTarget` the same devices go on until the
/// target is reached (`TeamPricing`). The first is exact where progress adds up over devices (π = 1, d = 0 in `LearningModel`); else, what is
/// found is bettered device by device for as long as that helps. A search chooses no further work.
public struct EdgeSearch: EdgePlanner, Sendable {
  public let rounds: Double

  public init(rounds: Double) { self.rounds = rounds }

  /// As far as a planner that looks ahead counts progress.
  static let lookAhead = EdgeSearch(rounds: 20)

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    let parts = RoundParts(view)
    return best(parts, pricing(parts))
  }

  /// What decisions cost against the best ones, in the objective of this search: all together, and each device's beside the others as they
  /// are; not finite where a part of them is impossible. And what they cost themselves.
  func regret(
    of decisions: [EdgeDecision], _ view: some PlanningView
  ) -> (all: Double, each: [Double], cost: Double) {
    let parts = RoundParts(view)
    let pricing = pricing(parts)
    let best = best(parts, pricing)
    func value(_ sum: RoundSum?) -> Double { sum.map(pricing.value) ?? .infinity }
    let own = value(parts.sum(of: decisions))
    let team = RoundTeam(decisions, parts)
    let each = decisions.indices.map { number in
      decisions[number] == best[number]
        ? 0 : own - value(team?.sum(with: best[number], for: number))
    }
    return (own - value(parts.sum(of: best)), each, own)
  }

  /// What joint decisions for a simulated cell cost in the objective of this search; infinite where a part of them is impossible.
  package func value(of decisions: [EdgeDecision], _ cell: EdgeCell) -> Double {
    let parts = RoundParts(cell)
    return parts.sum(of: decisions).map(pricing(parts).value) ?? .infinity
  }

  /// Decides for a simulated cell.
  package func decisions(for cell: EdgeCell) -> [EdgeDecision] { decide(cell) }

  private func pricing(_ parts: RoundParts<some PlanningView>) -> any DecisionPricing {
    switch parts.view.objective.aim {
    case .weighted: CreditedPricing(parts, rounds: rounds)
    case .timeToTarget: TeamPricing(parts, isRepeated: rounds > 1)
    }
  }

  private func best(
    _ parts: RoundParts<some PlanningView>, _ pricing: any DecisionPricing
  ) -> [EdgeDecision] {
    let found = pricing.search()
    return pricing.isExact ? found : bettered(found, parts, by: pricing)
  }

  /// Changes what one device does for as long as that helps.
  private func bettered(
    _ decisions: [EdgeDecision], _ parts: RoundParts<some PlanningView>,
    by pricing: any DecisionPricing
  ) -> [EdgeDecision] {
    guard var team = RoundTeam(decisions, parts) else { return decisions }
    var value = pricing.value(of: team.sum)
    let moves =
      [EdgeDecision(isSelected: false), EdgeDecision(isSelected: true)]
      + parts.view.levels.indices.map { EdgeDecision(isSelected: true, level: $0) }
    var unchanged = 0
    var number = 0
    while unchanged < decisions.count {
      unchanged += 1
      for move in moves where move != team.decisions[number] {
        guard let sum = team.sum(with: move, for: number) else { continue }
        let new = pricing.value(of: sum)
        // Less by rounding alone is no gain: this ends.
        guard new < value - 1e-9 * max(abs(value), 1) else { continue }
        value = new
        team.change(number, to: move)
        unchanged = 0
      }
      number = (number + 1) % decisions.count
    }
    return team.decisions
  }
}

/// What joint decisions cost.
protocol DecisionPricing {
  /// Whether no decisions cost less than those that are found.
  var isExact: Bool { get }

  /// Decisions that cost little.
  func search() -> [EdgeDecision]

  func value(of sum: RoundSum) -> Double
}
