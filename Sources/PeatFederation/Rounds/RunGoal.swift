import PeatTensor

/// Whether a run has come as far as it is to go, beside the number of its rounds.
struct RunGoal: Sendable, Equatable, Codable {
  /// The best value of the plateau's metric by what counts, and the round that it is of.
  private(set) var best: Double?
  private(set) var bestRound = 0
  /// Whether the run's time is over.
  var isOutOfTime = false

  /// Takes a round that counted; says why the run ends with it, if it does.
  mutating func take(
    _ metrics: [String: Double], after round: Int, _ spent: RunCost, _ rules: RoundRules
  ) -> RunStop? {
    if let target = rules.target, let value = metrics[target.metric], value <= target.atMost {
      return RunStop(
        .target,
        "\(target.metric) is \(rounded(value)) after round \(round), at most \(rounded(target.atMost)) was to be reached"
      )
    }
    if let plateau = rules.plateau, let value = metrics[plateau.metric],
      let stop = take(value, after: round, plateau)
    {
      return stop
    }
    if isOutOfTime { return Self.outOfTime(rules) }
    if let bytes = rules.budget.bytes, spent.bytes >= bytes {
      return RunStop(
        .bytes,
        "\(spent.bytes) bytes went down and up by round \(round); the budget is \(bytes)")
    }
    return nil
  }

  static func outOfTime(_ rules: RoundRules) -> RunStop {
    RunStop(.time, "its time of \(rules.budget.time ?? .zero) is over")
  }

  private mutating func take(
    _ value: Double, after round: Int, _ plateau: RoundRules.Plateau
  ) -> RunStop? {
    guard let best, !plateau.isBetter(value, than: best) else {
      (best, bestRound) = (value, round)
      return nil
    }
    guard round - bestRound >= plateau.rounds else { return nil }
    return RunStop(
      .plateau,
      "\(plateau.metric) was \(rounded(best)) after round \(bestRound) and has not become better by \(plateau.gain) of it in \(round - bestRound) rounds"
    )
  }

  private func rounded(_ value: Double) -> Double { (value * 1e4).rounded() / 1e4 }
}
