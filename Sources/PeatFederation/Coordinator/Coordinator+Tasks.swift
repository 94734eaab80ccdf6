import PeatTensor

/// The tasks that clients are given.
extension Coordinator {
  /// What a client that waits is to be told of the round that goes on without it: once for each attempt at it.
  func noticeToTell(_ client: ClientID) -> LeftOut? {
    guard let current, let stay = stays[client],
      stay.toldOf.map({ $0 != (current.round, current.attempt) }) ?? true
    else { return nil }
    let assignment = current.plan.assignments[client]
    guard assignment?.participates != true else { return nil }
    stays[client]?.toldOf = (current.round, current.attempt)
    return LeftOut(
      round: current.round,
      reason: assignment == nil ? reasonOfNoPlan(client) : assignment?.reason)
  }

  /// Why a plan says nothing of a client that is there.
  private func reasonOfNoPlan(_ client: ClientID) -> String {
    machine.failing?.contains(client) == true
      ? "its part in an earlier attempt at it came to nothing, and others are asked first"
      : "it came after the round was planned"
  }

  func task(
    for client: ClientID, _ round: Int, _ attempt: Int, _ assignment: RoundPlan.Assignment,
    level: Int, _ package: Package
  ) -> TrainingTask {
    let left =
      configuration.rules.buffer == nil
      ? configuration.rules.deadline - roundWatch.elapsed : configuration.rules.deadline
    let base = base(of: round) ?? base
    var task = TrainingTask(
      run: configuration.run, round: round, attempt: attempt, client: client,
      level: level, package: package, refresh: assignment.refresh,
      adapter: base.broadcast, baseDigest: base.policy.baseDigest, method: configuration.method,
      rank: configuration.rank, alpha: configuration.alpha, settings: configuration.settings,
      seed: TrainingTask.seed(
        run: configuration.seed, round: round, client: client,
        number: configuration.rules.buffer == nil ? 1 : attempt),
      deadlineSeconds: max(left, .zero).inSeconds, updateSizeLimit: updateSizeLimit)
    task.follow(assignment)
    if let rank = configuration.rank, let limit = stays[client]?.rankLimit, limit < rank {
      task.trainedRank = min(task.trainedRank ?? rank, limit)
    }
    task.components = configuration.components
    let factor = configuration.learningRateFactor(round)
    if factor != 1 { task.learningRateScale = factor * (task.learningRateScale ?? 1) }
    if assignment.uploadBits == nil { (task.uploadBits, task.upload) = configuration.upload.wire }
    if strategy.keepsFactors { task.countedRound = histories[client]?.countedRound ?? 0 }
    return task
  }

  func send(
    _ client: ClientID, _ round: Int, _ attempt: Int, _ assignment: RoundPlan.Assignment
  ) {
    guard let level = assignment.emulatorLevel else { return }
    // Counted before the first byte is sent.
    noteExposure(of: client, to: level)
    histories[client, default: History()].level = level
    histories[client]?.lastAsked = round
    beginTrip(of: client, round, attempt)
    withdrawn[client] = withdrawn[client].flatMap { $0.round < round ? $0 : nil }
    tasks[client] = task(for: client, round, attempt, assignment, level: level, levels[level])
    wake(of: client)
  }

  /// It was away, or one of both was started again, and is at its task again.
  func resume(_ client: ClientID, _ round: Int) {
    guard let (number, assignment) = machine.openTask(of: client, round: round),
      let level = assignment.emulatorLevel
    else { return }
    guard exposure.allows(level, for: client) else {
      return work { coordinator in
        await coordinator.process(
          .clientFailed(
            client, round: round,
            reason:
              "It can't go on with its task: level \(level) was made anew meanwhile, and with that it would pass maxExposure."
          ))
      }
    }
    send(client, round, number, assignment)
  }
}
