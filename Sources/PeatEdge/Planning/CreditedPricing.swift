/// What a round's decisions cost where progress counts for some rounds.
///
///     c · w_p · gap / gap₀ · (1 − progress) + w_T · T / T_ref + memory + energy       c: rounds
struct CreditedPricing<View: PlanningView>: DecisionPricing {
  private let parts: RoundParts<View>
  /// What the whole gap is worth: the objective where nobody takes part.
  private let idle: Double

  /// - Parameter rounds: how many progress counts for; no more can profit than there are.
  init(_ parts: RoundParts<View>, rounds: Double) {
    self.parts = parts
    let view = parts.view
    let credit = min(rounds, Double(max(view.rounds - view.round, 1)))
    idle = credit * view.objective.gap * view.gap / view.learning.startGap
  }

  var isExact: Bool {
    parts.view.learning.participation == 1 && parts.view.learning.coverage == 0
  }

  func search() -> [EdgeDecision] {
    parts.search(
      idle: idle, price: price, coverage: { parts.coverage + $0.coverage * $1 },
      gap: parts.view.gap,
      option: { part, progress in
        .init(delay: part.seconds, cost: part.cost - idle * progress)
      })
  }

  func value(of decisions: [EdgeDecision]) -> Double {
    guard let sum = parts.sum(of: decisions) else { return .infinity }
    guard sum.participants > 0 else { return idle }
    let factor = parts.view.learning.togetherness(
      share: sum.share, coverage: parts.coverage + sum.coverage, gap: parts.view.gap)
    return idle * (1 - factor * sum.progress) + sum.cost + price(sum.seconds)
  }

  private func price(_ seconds: Double) -> Double {
    let objective = parts.view.objective
    return objective.time * min(seconds, parts.view.deadline) / objective.referenceTime
  }
}
