/// A federation that was played by the learning model alone, round by round.
public struct PlayedEpisode: Sendable {
  public let summary: EdgeSummary
  public let rounds: [SimulatedRound]
  /// What is left at the end of the gap to the loss that is never passed, as a share of the first one.
  public let gapLeft: Double

  /// - Parameters: as for `EdgeEnvironment.play`.
  /// - Throws: `badData` or `usage` where the configuration or the planner makes no sense.
  public init(
    _ configuration: EdgeConfiguration, planner: String, share: Double, rounds: Int,
    endsAtTarget: Bool, minimumUpdates: Int, attempts: Int, seed: UInt64, shouldStop: () -> Bool
  ) throws {
    var played: [SimulatedRound] = []
    let environment = try EdgeEnvironment.play(
      configuration, planner: planner, share: share, episodes: 1, rounds: rounds,
      endsAtTarget: endsAtTarget, minimumUpdates: minimumUpdates, attempts: attempts,
      seed: seed, shouldStop: shouldStop
    ) { outcome, lost, cell in
      played.append(
        SimulatedRound(
          round: cell.round, seconds: outcome.seconds, joules: outcome.joules,
          bytesDown: outcome.bytesDown, bytesUp: outcome.bytesUp,
          participants: outcome.participants, delivered: outcome.delivered, lostRounds: lost,
          predictedGap: cell.gap))
    }
    summary = environment.summaries[0]
    self.rounds = played
    gapLeft = summary.gap / configuration.learning.startGap
  }
}
