import PeatTensor

/// A coordinator that was started again: the machine goes on with what is kept.
extension RoundStateMachine {
  /// The machine as a coordinator that was started again goes on with it: nobody is there yet, timers begin anew, and what was under way and is not kept is
  /// done again.
  ///
  /// - Parameters:
  ///   - rules: as they are now.
  ///   - missing: updates that were taken, but are no longer whole: their clients are asked again, where that can be.
  package func restored(
    _ rules: RoundRules, missing: Set<BufferedUpdate.Key> = []
  ) -> RoundStateMachine {
    var machine = self
    machine.rules = rules
    machine.awaited = awaited.union(present)
    machine.present = []
    machine.unfinished = [:]
    machine.arrivals.removeAll { missing.contains($0.id) }
    if case .running = patience { machine.patience = .whole }
    machine.isWaitingForOthers = nil
    switch phase {
    case .idle, .gathering, .planning, .waiting: machine.phase = .idle
    case .flowing:
      machine.phase = .idle
      if let round = machine.buffer?.restart(at: round, without: missing) { machine.round = round }
    case .training, .aggregating, .evaluating:
      guard var training else {
        machine.phase = .idle
        break
      }
      let lost = training.delivered.filter { missing.contains(.init(client: $0, round: round)) }
      for client in lost { training.set(client, .working) }
      machine.awaited.formUnion(lost)
      machine.phase = phase == .training || !lost.isEmpty ? .training : .aggregating
      machine.training = training
    case .finished(.completed), .finished(.stopped): break
    case .finished:
      // It is tried again from the round that could not be made.
      machine.phase = .idle
      machine.training = nil
      machine.attempt += 1
      machine.spentAttempts = 0
      machine.patience = .whole
      if let round = machine.buffer?.restart(at: round, without: missing) { machine.round = round }
    }
    return machine
  }

  /// The machine of a run that goes back to what it was after a round.
  package func rolledBack(to round: Int) -> RoundStateMachine {
    var machine = RoundStateMachine(rules: rules)
    machine.round = round + 1
    machine.recorded = round
    // Those who were there are waited for, as in a run that was stopped: else the first to come would be all.
    machine.awaited = awaited.union(present)
    return machine
  }

  /// Whether updates of the current round are waited for, or being aggregated.
  package var isInRound: Bool {
    switch phase {
    case .training, .aggregating, .evaluating, .flowing: true
    default: false
    }
  }

  /// Whether an attempt at a round was carried out by its plan.
  package func hasCarriedOut(round: Int, attempt: Int) -> Bool {
    // A run that is over stands at its last round, which is recorded.
    round <= recorded || (round, attempt) < (self.round, self.attempt)
      || isInRound && (round, attempt) == (self.round, self.attempt)
  }

  /// Whether an update that was taken is still to be aggregated.
  package func needs(_ update: BufferedUpdate.Key) -> Bool {
    if let buffer { return buffer.holds(update) }
    if arrivals.contains(where: { $0.id == update }) { return true }
    guard isInRound, update.round == round, update.number == 1 else { return false }
    return training?[update.client] == .ended(.delivered)
  }

  mutating func start() -> [RoundAction] {
    var actions: [RoundAction] = []
    if let time = rules.budget.time { actions.append(.startTimer(Self.budgetTimer, after: time)) }
    if !awaited.isEmpty {
      actions.append(.startTimer(timer(.returning), after: rules.returnPause))
    }
    switch phase {
    case .idle: return actions + gather()
    case .training:
      guard let plan = training?.plan else { return actions + gather() }
      training?.beginTimeAnew(rules)
      return actions + [
        .goOn(round: round, attempt: attempt, plan: plan),
        .startTimer(timer(.training), after: training?.end ?? rules.deadline),
      ] + closeIfDone()
    case .aggregating:
      guard let plan = training?.plan else { return actions + gather() }
      return actions + [.goOn(round: round, attempt: attempt, plan: plan)] + aggregate()
    default: return []
    }
  }

  /// Who was there and did not come back is waited for no longer.
  mutating func stopAwaiting() -> [RoundAction] {
    let gone = awaited
    awaited = []
    switch phase {
    case .gathering: return gathered()
    case .training:
      return gone.sorted().flatMap {
        end(
          $0, round, .lost(reason: "It did not come back after the coordinator was started again."))
      }
    default: return []
    }
  }
}

extension AsynchronousBuffer {
  /// Goes back to what is kept: updates that were taken, and tasks that were given. Whoever was at one of them goes on with it.
  ///
  /// What was aggregated and did not count yet is aggregated again, of the same updates: the adapter comes out the same, so that what clients have made of it
  /// since counts.
  ///
  /// - Parameter round: the one that was under way.
  /// - Returns: the round that is under way now.
  mutating func restart(at round: Int, without missing: Set<BufferedUpdate.Key>) -> Int {
    var fresh = AsynchronousBuffer(rules)
    let now = closing?.round ?? round
    if var closing, closing.arrivals.allSatisfy({ !missing.contains($0.update.id) }) {
      closing.isAggregated = false
      fresh.closing = closing
      fresh.take(arrivals.filter { !missing.contains($0.update.id) }, of: self, upTo: now + 1)
    } else {
      let updates = ((closing?.arrivals ?? []) + arrivals).filter {
        // What began with an adapter that will not come out again can't be read any more.
        $0.update.round <= now && !missing.contains($0.update.id)
      }
      fresh.take(
        updates.map { arrival in
          var arrival = arrival
          arrival.update.staleness = now - arrival.update.round
          return arrival
        }, of: self, upTo: now)
    }
    self = fresh
    return now
  }

  func holds(_ update: BufferedUpdate.Key) -> Bool {
    (arrivals + (closing?.arrivals ?? [])).contains { $0.update.id == update }
  }
}
