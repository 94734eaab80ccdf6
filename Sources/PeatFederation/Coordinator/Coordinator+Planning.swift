import PeatTensor

/// What planners are told, and what is made of their plans.
extension Coordinator {
  func plan(_ round: Int, _ attempt: Int, _ clients: [ClientID]) {
    // Where too few could take part, nobody is left to rest.
    let isAgain = planned.map { $0 == (round, attempt) } ?? false
    planned = (round, attempt)
    if !isAgain, attempt == 1 || configuration.rules.buffer != nil {
      for client in clients { histories[client]?.presences += 1 }
    }
    let resting = isAgain ? [:] : resting(clients, round)
    work { coordinator in
      do {
        try await coordinator.renewLevels(before: round, clients)
        let state = await coordinator.state(
          round, attempt, of: clients.filter { resting[$0] == nil })
        var plan = try await coordinator.planner.plan(state)
        try await coordinator.rememberPlanner()
        for (client, reason) in resting {
          plan.assignments[client] = .leftOut(because: reason)
        }
        try await coordinator.take(plan, for: state)
      } catch { await coordinator.fail(error) { .planFailed(reason: $0) } }
    }
  }

  private func state(
    _ round: Int, _ attempt: Int, of clients: [ClientID]
  ) -> FederationState {
    FederationState(
      run: configuration.run, round: round, attempt: attempt, rounds: configuration.rules.rounds,
      clients: clients.map(state),
      levels: levels.enumerated().map {
        .init(
          $0.offset, bytes: $0.element.bytes,
          memoryBytes: configuration.levelMemory.indices.contains($0.offset)
            ? configuration.levelMemory[$0.offset] : nil)
      },
      minimumUpdates: configuration.rules.minimumUpdates, exposure: exposure,
      metrics: rounds.last?.metrics ?? [:])
  }

  private func state(of client: ClientID) -> FederationState.ClientState {
    let history = histories[client] ?? History()
    let stay = stays[client]
    let held = levels.indices.filter { stay?.holds.contains(levels[$0].digest) ?? false }
    var state = FederationState.ClientState(
      client: client, holds: Set(held), freeMemoryBytes: stay?.freeMemoryBytes,
      rates: stay?.rates ?? DeviceRates(),
      telemetry: history.telemetry, observed: history.observed, exampleCount: history.exampleCount,
      allowedLevels: Set(levels.indices.filter { exposure.allows($0, for: client) }),
      exposure: exposure.exposure(of: client), delivered: history.delivered, failed: history.failed)
    state.missed = history.missed
    state.late = history.late.times
    state.lastLate = history.late.lastRound
    (state.presences, state.firstRound) = (history.presences, history.firstRound)
    (state.lastAsked, state.lastDelivered) = (history.lastAsked, history.lastDelivered)
    state.loss = history.loss
    if configuration.rules.buffer != nil { state.place = history.place }
    return state
  }

  /// Takes a plan: in one go, so that no client can say in between what it holds.
  private func take(_ plan: RoundPlan, for state: FederationState) throws {
    var plan = plan
    try checkLevels(of: &plan, for: state)
    process(.planMade(plan, round: state.round, attempt: state.attempt))
  }

  private func checkLevels(of plan: inout RoundPlan, for state: FederationState) throws {
    for (client, assignment) in plan.assignments where assignment.participates {
      guard let level = assignment.emulatorLevel, levels.indices.contains(level) else {
        let level = assignment.emulatorLevel.map { "the emulator level \($0)" } ?? "no emulator"
        throw PeatError.usage(
          "The planner gives '\(client)' \(level); this run has levels 0 to \(levels.count - 1).")
      }
      guard exposure.allows(level, for: client) else {
        let seen = state.clients.first { $0.client == client }
        // The planner could not know.
        if seen?.allowedLevels.contains(level) == true {
          plan.assignments[client] = .leftOut(
            because:
              "it said, while the round was planned, that it holds another level: with level \(level) it would pass maxExposure"
          )
          continue
        }
        throw PeatError.usage(
          "The planner gives '\(client)' the emulator level \(level), with which it would have seen "
            + "\(exposure.exposure(of: client, with: level)) of the middle; maxExposure is \(exposure.limit)."
        )
      }
    }
  }

  func noteClaim(of client: ClientID, to level: Int) { exposure.noteClaim(level, for: client) }

  func noteExposure(of client: ClientID, to level: Int) { exposure.note(level, for: client) }

  /// Before the next round is planned, as nobody would train on them after the last one: once for each round.
  private func renewLevels(before round: Int, _ clients: [ClientID]) async throws {
    guard let last = rounds.last, last.round == round - 1, renewedAfter < last.round else { return }
    let inUse = Set(clients.compactMap { histories[$0]?.level })
    let renewed = try await onRenewal(last.round, adapter, inUse)
    renewedAfter = last.round
    for (level, renewed) in renewed.sorted(by: { $0.key < $1.key }) {
      try renew(level, renewed, after: last.round)
    }
    guard !renewed.isEmpty else { return }
    try await rememberPlanner()
    keepRenewal()
  }

  private func renew(_ level: Int, _ renewed: RenewedLevel, after round: Int) throws {
    guard levels.indices.contains(level) else {
      throw PeatError(.internalError, "There is no level \(level) to give anew.")
    }
    try renewed.package.validate(sizeLimit: .max)
    guard renewed.package.digest != levels[level].digest else { return }
    levels[level] = renewed.package
    exposure.renew(level, contents: renewed.contents)
    rounds[rounds.count - 1].renewedLevels.append(level)
    onProgress(.levelRenewed(level, round: round + 1, bytes: renewed.package.bytes))
  }
}
