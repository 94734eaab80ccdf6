/// What a round's decisions cost where progress counts for some rounds.
///
///     c · w_p · gap / gap₀ · (1 − progress) + w_T · T / T_ref + memory + energy       c: rounds
///
/// The server's own part counts in progress and in T, also where nobody else takes part.
struct CreditedPricing<View: PlanningView>: DecisionPricing {
  private let parts: RoundParts<View>
  /// What the whole gap is worth, and what the server leaves of it.
  private let worth: Double
  private let left: Double

  /// - Parameter rounds: how many progress counts for; no more can profit than there are.
  init(_ parts: RoundParts<View>, rounds: Double) {
    self.parts = parts
    let view = parts.view
    let credit = min(rounds, Double(max(view.rounds - view.round, 1)))
    worth = credit * view.objective.gap * view.gap / view.learning.startGap
    left = worth * (1 - view.server.progress(view.learning, gap: view.gap))
  }

  var isExact: Bool {
    parts.view.learning.participation == 1 && parts.view.learning.coverage == 0
  }

  func search() -> [EdgeDecision] {
    let devices = 1 - parts.view.server.weight
    return parts.search(
      idle: left + price(0), price: { price($0) - price(0) },
      coverage: { parts.coverage + $0.coverage * $1 }, gap: parts.view.gap,
      option: { part, progress in
        .init(delay: part.seconds, cost: part.cost - worth * devices * progress)
      })
  }

  func value(of sum: RoundSum) -> Double {
    let devices = 1 - parts.view.server.weight
    let factor = parts.view.learning.togetherness(
      share: sum.share, coverage: parts.coverage + sum.coverage, gap: parts.view.gap)
    return left - worth * devices * factor * sum.progress + sum.cost + price(sum.seconds)
  }

  private func price(_ seconds: Double) -> Double {
    let view = parts.view
    return view.objective.time * min(max(seconds, view.server.seconds), view.deadline)
      / view.objective.referenceTime
  }
}
