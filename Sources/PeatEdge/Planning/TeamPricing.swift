import PeatTensor

/// What a team costs that goes on until the target is reached, or the rounds end.
///
///     (T₁ + (n − 1) · T₂ + n · pause) / T_ref + n · (memory + energy)
///
/// T₁: the first round, in which emulators are sent; T₂: each later one; neither shorter than the server's own part; pause: between rounds. n: the rounds to the target, as `LearningModel` has them, the last in
/// part; where there are not so many, what is missed costs as in `Objective`. Only the team's data is covered. Emulators age from round to
/// round where that is so whatever is sent (`LevelAge.sinceMade`); else that is left out.
struct TeamPricing<View: PlanningView>: DecisionPricing {
  private let parts: RoundParts<View>
  private let isRepeated: Bool
  private let left: Double

  /// - Parameter isRepeated: whether later rounds send no emulator; else each costs what the first does.
  init(_ parts: RoundParts<View>, isRepeated: Bool) {
    self.parts = parts
    self.isRepeated = isRepeated
    left = Double(max(parts.view.rounds - parts.view.round, 1))
  }

  var isExact: Bool { false }

  func value(of sum: RoundSum) -> Double {
    let way = way(of: sum)
    let time = seconds(of: sum, rounds: way.rounds) * way.rounds
    // Waiting for better times is no way to get there.
    let paid = sum.participants > 0 ? 0 : way.rounds
    return max(time / parts.view.objective.referenceTime, paid) + way.rounds * sum.cost
      + (way.gap > parts.view.target ? missed(gap: way.gap) : 0)
  }

  /// Of a round, in the mean.
  private func seconds(of sum: RoundSum, rounds: Double) -> Double {
    let server = parts.view.server.seconds
    let first = max(sum.seconds, server)
    let again = isRepeated ? max(sum.secondsAgain, server) : first
    return again + (first - again) / rounds + parts.view.aggregation
  }

  /// The most rounds that are looked ahead.
  private static var most: Double { 1000 }

  /// Rounds to the target, at most those that there are, and the gap that they leave.
  private func way(of sum: RoundSum) -> (rounds: Double, gap: Double) {
    let learning = parts.view.learning
    let target = parts.view.target
    let isAgeing = parts.view.levelsAge == .sinceMade
    var gap = parts.view.gap
    var rounds = 0.0
    while gap > target, rounds < min(left, Self.most) {
      var pace =
        learning.slowing == 0
        ? 1 : exponential(learning.slowing * naturalLogarithm(gap / parts.view.gap))
      if isAgeing { pace *= learning.freshness(age: rounds) }
      let progress = parts.view.progress(
        ofDevices: pace * sum.progress, share: sum.share, coverage: sum.share, gap: gap)
      guard progress > 0 else { return (left, gap) }
      let next = gap * (1 - progress)
      if next <= target {
        rounds += naturalLogarithm(target / gap) / naturalLogarithm(1 - progress)
        gap = target
      } else {
        rounds += 1
        gap = next
      }
    }
    return (max(rounds, 1), gap)
  }

  private func missed(gap: Double) -> Double {
    let view = parts.view
    return Double(view.rounds) * (1 + (gap - view.target) / view.learning.startGap)
  }

  /// The team that takes the least time for what it does: a ratio's least after Dinkelbach, *On nonlinear fractional programming*, 1967,
  /// <https://doi.org/10.1287/mnsc.13.7.492>. Time and progress are weighed against each other in an exact search, and the found team's ratio is
  /// the next weight. On its way to ever quicker teams of less progress the best by `value` is kept.
  func search() -> [EdgeDecision] {
    let view = parts.view
    let reference = view.objective.referenceTime
    var best = parts.devices.map { _ in EdgeDecision(isSelected: false) }
    var value = self.value(of: RoundSum())
    // So dear that any team beats none; and a first round that is paid at once.
    var weight = 1e12
    var rounds = 1.0
    for _ in 0..<12 {
      let team = parts.search(
        idle: 0, price: { (max($0, view.server.seconds) + view.aggregation) / reference },
        coverage: { $0.share * $1 },
        // Half of the way down.
        gap: (view.gap * max(view.target, 0)).squareRoot(),
        option: { part, progress in
          let again = isRepeated ? part.secondsAgain : part.seconds
          return .init(
            delay: again + (part.seconds - again) / rounds, cost: part.cost - weight * progress)
        })
      guard let sum = parts.sum(of: team), sum.participants > 0 else { break }
      let own = self.value(of: sum)
      if own < value { (best, value) = (team, own) }
      let progress = view.learning.progress(
        together: sum.progress, share: sum.share, coverage: sum.share, gap: view.gap)
      guard progress > 0 else { break }
      rounds = way(of: sum).rounds
      let next = (seconds(of: sum, rounds: rounds) / reference + sum.cost) / progress
      guard next < weight * (1 - 1e-9) else { break }
      weight = next
    }
    return best
  }
}
