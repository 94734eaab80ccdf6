extension EdgeEnvironment {
  /// Plays a federation by the learning model alone: no model is tuned.
  ///
  /// - Parameters:
  ///   - share: of the devices, that `random` draws; with it `everyone` and `random` are as a coordinator plans them. `nil`: as `EdgePlanners` has them.
  ///   - rounds: how many are played; `nil`: a whole episode.
  ///   - endsAtTarget: whether an episode is over where the target is reached; `nil`: as the objective's aim says.
  ///   - minimumUpdates: how many must take part in a round: those that are ready first are added, but to `idle` nobody.
  ///   - onRound: told of each round of each cell.
  /// - Returns: each cell's episode.
  /// - Throws: `badData` or `usage` where the configuration or the planner makes no sense.
  public static func play(
    _ configuration: EdgeConfiguration, planner name: String, share: Double? = nil, episodes: Int,
    rounds: Int? = nil, endsAtTarget: Bool? = nil, minimumUpdates: Int = 0, seed: UInt64,
    shouldStop: () -> Bool = { false }, onRound: (EdgeOutcome, EdgeCell) -> Void = { _, _ in }
  ) throws -> EdgeEnvironment {
    let environment = try EdgeEnvironment(configuration, cells: episodes, seed: seed)
    let (levels, devices) = (configuration.levels.count, configuration.devices)
    let planner: any EdgePlanner =
      if let share {
        try RunPlanners.make(
          name, share: share, levels: levels, work: configuration.work,
          learning: configuration.learning, devices: devices, seed: seed)
      } else {
        try EdgePlanners.make(
          name, levels: levels, work: configuration.work, learning: configuration.learning,
          devices: devices, seed: seed)
      }
    for _ in 0..<min(rounds ?? configuration.rounds, configuration.rounds) {
      for index in environment.cells.indices where !shouldStop() {
        let cell = environment.cells[index]
        if let endsAtTarget {
          if endsAtTarget, cell.gap <= configuration.target { continue }
        } else if cell.isOver {
          continue
        }
        var decisions = planner.decide(cell)
        if !(planner is EdgeIdle) { cell.complete(&decisions, upTo: minimumUpdates) }
        let outcome = environment.advance(index, decisions)
        onRound(outcome, environment.cells[index])
      }
    }
    return environment
  }
}
