/// Everyone that can takes part on the most faithful level that it may have, and is sent it.
private struct LargestDownloads: EdgePlanner {
  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    (0..<view.deviceCount).map { number in
      guard view.canTakePart(number), let level = view.bestLevel(number) else {
        return EdgeDecision(isSelected: false)
      }
      return EdgeDecision(isSelected: true, level: level)
    }
  }
}

extension EdgeEnvironment {
  /// How long a first round lasts in which all devices download the largest level that they may have, in seconds: the longest of so many cells'.
  ///
  /// - Throws: `badData` or `usage` where the configuration makes no sense.
  public static func longestFirstRound(
    _ configuration: EdgeConfiguration, episodes: Int, seed: UInt64
  ) throws -> Double {
    let environment = try EdgeEnvironment(configuration, cells: episodes, seed: seed)
    let planner = LargestDownloads()
    for index in environment.cells.indices {
      environment.advance(index, planner.decide(environment.cells[index]))
    }
    return environment.summaries.map(\.longestRound).max() ?? 0
  }

  /// Plays a federation by the learning model alone: no model is tuned.
  ///
  /// - Parameters:
  ///   - share: of the devices, that `random` draws; with it `everyone` and `random` are as a coordinator plans them. `nil`: as `EdgePlanners` has them.
  ///   - rounds: how many are played; `nil`: a whole episode.
  ///   - endsAtTarget: whether an episode is over where the target is reached; `nil`: as the objective's aim says.
  ///   - minimumUpdates: how many must deliver in a round: where fewer are asked, those that are ready first are added, but to `idle` nobody; where
  ///     fewer deliver, the round is played again.
  ///   - attempts: how often a round is tried before the episode is over.
  ///   - onRound: told of each round of each cell that counts: what its attempts took together, and how many were lost before.
  /// - Returns: each cell's episode.
  /// - Throws: `badData` or `usage` where the configuration or the planner makes no sense.
  public static func play(
    _ configuration: EdgeConfiguration, planner name: String, share: Double? = nil, episodes: Int,
    rounds: Int? = nil, endsAtTarget: Bool? = nil, minimumUpdates: Int = 0, attempts: Int = 3,
    seed: UInt64, shouldStop: () -> Bool = { false },
    onRound: (_ spent: EdgeOutcome, _ lost: Int, _ cell: EdgeCell) -> Void = { _, _, _ in }
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
        if environment.summaries[index].endsEarly { continue }
        let isIdle = planner is EdgeIdle
        let lost = environment.summaries[index].lostRounds
        let outcome = environment.play(
          index, minimumUpdates: isIdle ? 0 : minimumUpdates, attempts: attempts
        ) { cell, attempt in
          let drawn = (planner as? DrawnShare)?.drawing(
            round: cell.round + 1, attempt: attempt, minimumUpdates: minimumUpdates)
          var decisions = (drawn ?? planner).decide(cell)
          if !isIdle { cell.complete(&decisions, upTo: minimumUpdates) }
          return decisions
        }
        let summary = environment.summaries[index]
        if !summary.endsEarly {
          onRound(outcome, summary.lostRounds - lost, environment.cells[index])
        }
      }
    }
    return environment
  }
}
