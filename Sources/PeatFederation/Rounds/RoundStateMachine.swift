import PeatTensor

/// The course of a run as a pure value: events go in, actions come out, nothing else happens.
///
///     gathering → planning → training → aggregating → evaluating → planning (next round) … → finished
///         ↑  ↑________↓        |  too few may take part: it is planned again for a while
///         ↑____________________|  too few updates: the round is tried again
///
/// Where all left whose updates an attempt waits for, it is made again with those who come, and does not count among the attempts; but for no longer than
/// clients are gathered.
///
/// Where a plan asks nobody on purpose, aggregating follows on planning.
///
/// Every participant of a round ends with exactly one `ClientResult`. A client that was lost may come back: within the
/// round its task is sent again, later it is planned like any other. The training ends when no participant is at work
/// any more and enough updates are there, and at the latest when the deadline passes.
public struct RoundStateMachine: Sendable, Equatable, Codable {
  /// Where a participant stands in the current round.
  private enum Standing: Sendable, Equatable, Codable {
    case working
    case ended(ClientResult)
  }

  private struct Training: Sendable, Equatable, Codable {
    var plan: RoundPlan
    var standings: [ClientID: Standing]

    var isAnyoneWorking: Bool { standings.values.contains(.working) }
    /// Lost clients may come back until the deadline.
    var mayReturn: Bool {
      standings.values.contains { if case .ended(.lost) = $0 { true } else { false } }
    }
    var delivered: [ClientID] {
      standings.filter { $0.value == .ended(.delivered) }.keys.sorted()
    }

    func record(round: Int, attempt: Int) -> RoundRecord {
      let outcomes = standings.sorted { $0.key < $1.key }.map { client, standing in
        let result: ClientResult = if case .ended(let result) = standing { result } else { .late }
        return ClientOutcome(
          client: client, emulatorLevel: plan.assignments[client]?.emulatorLevel ?? 0,
          result: result)
      }
      return RoundRecord(round: round, attempt: attempt, plan: plan, outcomes: outcomes)
    }
  }

  private enum Phase: Sendable, Equatable, Codable {
    case idle
    case gathering
    /// The gathering goes on where an earlier plan was of too few.
    case planning(candidates: Set<ClientID>, earlier: Int?)
    /// So many may take part, which are too few.
    case waiting(participants: Int)
    case training(Training)
    case aggregating(Training)
    case evaluating(Training)
    case finished(RunEnding)
  }

  public private(set) var rules: RoundRules
  /// The current round and attempt, from 1.
  public private(set) var round = 1
  public private(set) var attempt = 1
  /// The clients that are there now.
  public private(set) var present: Set<ClientID> = []
  private var phase = Phase.idle
  /// Attempts at this round that count.
  private var spentAttempts = 0
  /// Whether attempts in which nobody is left are not counted.
  private var patience = Patience.whole
  /// Clients that were there when the coordinator stopped, and are not back since it was started again.
  private var awaited: Set<ClientID> = []

  private enum Patience: Sendable, Equatable, Codable {
    case whole
    case running(RoundTimer)
    case over
  }

  public init(rules: RoundRules) { self.rules = rules }

  public var ending: RunEnding? { if case .finished(let ending) = phase { ending } else { nil } }

  /// Whether an update of this client for this round would be taken now.
  public func expectsUpdate(from client: ClientID, round: Int) -> Bool {
    guard round == self.round, case .training(let training) = phase else { return false }
    return training.standings[client] == .working
  }

  /// Takes one event and says what is to be done. Events that come too late, twice or from strangers change nothing.
  public mutating func handle(_ event: RoundEvent) -> [RoundAction] {
    if case .finished(let ending) = phase {
      return event == .started ? [.finish(ending)] : []
    }
    switch event {
    case .started: return start()
    case .clientJoined(let client, let restarted): return joined(client, restarted: restarted)
    case .clientLost(let client, let reason): return lost(client, reason)
    case .planMade(let plan, let round, let attempt):
      return round == self.round && attempt == self.attempt ? begin(plan) : []
    case .planFailed(let reason):
      guard case .planning = phase else { return [] }
      return finish(.failed(reason: "Round \(round) could not be planned: \(reason)"))
    case .updateReceived(let client, let round): return end(client, round, .delivered)
    case .updateRefused(let client, let round, let refusal):
      return end(client, round, .refused(refusal))
    case .clientFailed(let client, let round, let reason):
      return end(client, round, .failed(reason: reason))
    case .timerFired(let timer): return fired(timer)
    case .aggregated(let round):
      guard round == self.round, case .aggregating(let training) = phase else { return [] }
      phase = .evaluating(training)
      return [.evaluate(round: round)]
    case .aggregationFailed(let reason):
      guard case .aggregating = phase else { return [] }
      return finish(.failed(reason: "Round \(round) could not be aggregated: \(reason)"))
    case .evaluated(let round, let metrics):
      guard round == self.round, case .evaluating(let training) = phase else { return [] }
      return close(training, metrics)
    case .evaluationFailed(let reason):
      guard case .evaluating = phase else { return [] }
      return finish(.failed(reason: "Round \(round) could not be evaluated: \(reason)"))
    case .cancelled(let reason): return finish(.cancelled(reason: reason))
    }
  }

  // MARK: Clients come and go

  private mutating func joined(_ client: ClientID, restarted: Bool) -> [RoundAction] {
    present.insert(client)
    awaited.remove(client)
    switch phase {
    case .gathering:
      return isReady ? [.cancelTimer(timer(.gathering))] + plan() : []
    case .training(var training):
      guard let standing = training.standings[client],
        let assignment = training.plan.assignments[client]
      else {
        // Not one of this round; but if nobody else is left in it, those who are here now try it again.
        let isStuck = !training.isAnyoneWorking && training.delivered.count < rules.minimumUpdates
        guard isStuck, present.count >= rules.minimumUpdates else { return [] }
        return [.cancelTimer(timer(.training))] + beginPatience()
          + repeatRound(training, counts: patience == .over)
      }
      switch standing {
      case .ended(.lost): break
      case .working where restarted: break
      default: return []
      }
      training.standings[client] = .working
      phase = .training(training)
      return [.sendTask(client, round: round, attempt: attempt, assignment)]
    default: return []
    }
  }

  private mutating func lost(_ client: ClientID, _ reason: String) -> [RoundAction] {
    guard present.remove(client) != nil else { return [] }
    return end(client, round, .lost(reason: reason))
  }

  /// Clients that must be present before a round is planned.
  private var needed: Int { round == 1 && attempt == 1 ? firstNeeded : rules.minimumUpdates }
  private var isReady: Bool { present.count >= needed && awaited.isEmpty }
  private var firstNeeded: Int { max(rules.minimumClients, rules.minimumUpdates) }

  private func timer(_ purpose: RoundTimer.Purpose) -> RoundTimer {
    RoundTimer(purpose, round: round, attempt: attempt)
  }

  // MARK: The phases of a round

  private mutating func gather() -> [RoundAction] {
    if isReady { return plan() }
    phase = .gathering
    return [.startTimer(timer(.gathering), after: rules.gatheringDeadline)]
  }

  private mutating func plan(earlier: Int? = nil) -> [RoundAction] {
    phase = .planning(candidates: present, earlier: earlier)
    return [.makePlan(round: round, attempt: attempt, clients: present.sorted())]
  }

  private mutating func begin(_ plan: RoundPlan) -> [RoundAction] {
    guard case .planning(let candidates, let earlier) = phase else { return [] }
    let participants = plan.participants.filter(candidates.contains)
    if plan.skipped != nil, participants.isEmpty { return pass(plan, earlier: earlier) }
    guard participants.count >= rules.minimumUpdates else {
      return wait(plan, participants.count, earlier: earlier)
    }
    var standings: [ClientID: Standing] = [:]
    for client in participants {
      standings[client] =
        present.contains(client)
        ? .working : .ended(.lost(reason: "It left before the round began."))
    }
    let training = Training(plan: plan, standings: standings)
    phase = .training(training)
    var actions: [RoundAction] = earlier == nil ? [] : [.cancelTimer(timer(.gathering))]
    actions += [
      .beginRound(round: round, attempt: attempt, plan: plan),
      .startTimer(timer(.training), after: rules.deadline),
    ]
    for client in participants where standings[client] == .working {
      if let assignment = plan.assignments[client] {
        actions.append(.sendTask(client, round: round, attempt: attempt, assignment))
      }
    }
    return actions + closeIfDone(training)
  }

  /// A round without clients. Nobody is waited for; the coordinator's own part counts.
  private mutating func pass(_ plan: RoundPlan, earlier: Int?) -> [RoundAction] {
    let actions: [RoundAction] = earlier == nil ? [] : [.cancelTimer(timer(.gathering))]
    return actions + [.beginRound(round: round, attempt: attempt, plan: plan)]
      + aggregate(Training(plan: plan, standings: [:]), [])
  }

  /// What clients report changes, memory that is free for example, and others come: it is planned again for as long as clients are
  /// gathered.
  private mutating func wait(
    _ plan: RoundPlan, _ participants: Int, earlier: Int?
  ) -> [RoundAction] {
    phase = .waiting(participants: participants)
    var actions = [RoundAction.startTimer(timer(.replanning), after: rules.planningPause)]
    if earlier == nil {
      actions.append(.startTimer(timer(.gathering), after: rules.gatheringDeadline))
    }
    if earlier != participants {
      let record = RoundRecord(round: round, attempt: attempt, plan: plan, outcomes: [])
      actions.append(
        .waitForParticipants(
          record,
          reason: tooFew(participants)
            + "; it is planned again for up to \(rules.gatheringDeadline)"))
    }
    return actions
  }

  private func tooFew(_ participants: Int) -> String {
    "its plan lets \(participants) of \(present.count) clients take part, but it needs "
      + "\(rules.minimumUpdates) updates"
  }

  /// The gathering is over, and still too few may take part.
  private mutating func giveUp(_ participants: Int) -> [RoundAction] {
    let isWaiting = phase == .waiting(participants: participants)
    let actions: [RoundAction] = isWaiting ? [.cancelTimer(timer(.replanning))] : []
    phase = .idle
    return actions
      + finish(
        .failed(
          reason: "Round \(round) could not begin for \(rules.gatheringDeadline): "
            + "\(tooFew(participants)). The plan says why the others take no part; let more take part, "
            + "or lower minimumUpdates."))
  }

  /// A participant's part in the round ends, unless it already did.
  private mutating func end(
    _ client: ClientID, _ round: Int, _ result: ClientResult
  ) -> [RoundAction] {
    guard round == self.round, case .training(var training) = phase,
      training.standings[client] == .working
    else { return [] }
    training.standings[client] = .ended(result)
    phase = .training(training)
    return [.withdrawTask(client, round: round)] + closeIfDone(training)
  }

  private mutating func closeIfDone(_ training: Training) -> [RoundAction] {
    if training.isAnyoneWorking { return [] }
    let delivered = training.delivered
    if delivered.count >= rules.minimumUpdates {
      return [.cancelTimer(timer(.training))] + aggregate(training, delivered)
    }
    // Too few, but one that was lost may come back until the deadline.
    if training.mayReturn { return [] }
    return [.cancelTimer(timer(.training))] + repeatRound(training)
  }

  /// From the first attempt at a round on in which nobody was left.
  private mutating func beginPatience() -> [RoundAction] {
    guard patience == .whole else { return [] }
    let timer = timer(.comingAndGoing)
    patience = .running(timer)
    return [.startTimer(timer, after: rules.gatheringDeadline)]
  }

  private mutating func endPatience(_ next: Patience) -> [RoundAction] {
    defer { patience = next }
    if case .running(let timer) = patience { return [.cancelTimer(timer)] }
    return []
  }

  private mutating func fired(_ fired: RoundTimer) -> [RoundAction] {
    if patience == .running(fired) {
      patience = .over
      return [
        .warn(
          round: round,
          "for \(rules.gatheringDeadline) clients came and left without an update; from now on each attempt that all leave counts"
        )
      ]
    }
    if fired.purpose == .returning { return stopAwaiting() }
    guard fired.round == round, fired.attempt == attempt else { return [] }
    switch (fired.purpose, phase) {
    case (.gathering, .gathering):
      if present.count >= needed {
        awaited = []
        return plan()
      }
      phase = .idle
      return finish(
        .failed(
          reason: "Round \(round) needs \(needed) clients, but only \(present.count) were there "
            + "after \(rules.gatheringDeadline). Start more clients, or lower minimumClients."))
    case (.replanning, .waiting(let participants)):
      if present.count >= needed { return plan(earlier: participants) }
      return [.startTimer(timer(.replanning), after: rules.planningPause)]
    case (.gathering, .waiting(let participants)): return giveUp(participants)
    case (.gathering, .planning(_, let participants?)): return giveUp(participants)
    case (.training, .training(var training)):
      var actions: [RoundAction] = []
      for client in training.standings.keys.sorted() where training.standings[client] == .working {
        training.standings[client] = .ended(.late)
        // Not planned again until it asks for work: it may have died without a word.
        present.remove(client)
        actions.append(.withdrawTask(client, round: round))
      }
      let delivered = training.delivered
      if delivered.count >= rules.minimumUpdates {
        return actions + aggregate(training, delivered)
      }
      return actions + repeatRound(training)
    default: return []
    }
  }

  private mutating func aggregate(
    _ training: Training, _ delivered: [ClientID]
  ) -> [RoundAction] {
    phase = .aggregating(training)
    return endPatience(.over) + [.aggregate(round: round, clients: delivered)]
  }

  private mutating func repeatRound(
    _ training: Training, counts: Bool = true
  ) -> [RoundAction] {
    phase = .idle
    if counts { spentAttempts += 1 }
    let record = training.record(round: round, attempt: attempt)
    let arrived = training.delivered.count
    let reason = "\(arrived) of the \(rules.minimumUpdates) updates it needs arrived"
    let failed = RoundAction.recordFailedAttempt(record, reason: reason)
    if spentAttempts >= rules.attempts {
      return [failed]
        + finish(
          .failed(
            reason: "Round \(round) was tried \(attempt) times; the last time \(reason). "
              + Self.summary(record)))
    }
    let discard = RoundAction.discardUpdates(round: round)
    attempt += 1
    return [failed, discard] + gather()
  }

  private static func summary(_ record: RoundRecord) -> String {
    record.outcomes.prefix(8).map { outcome in
      switch outcome.result {
      case .delivered: "\(outcome.client) delivered."
      case .failed(let reason): "\(outcome.client) failed: \(reason)"
      case .refused(let refusal): "\(outcome.client) was refused: \(refusal.message)"
      case .lost(let reason): "\(outcome.client) was lost: \(reason)"
      case .late: "\(outcome.client) was late."
      }
    }.joined(separator: " ")
  }

  private mutating func close(
    _ training: Training, _ metrics: [String: Double]
  ) -> [RoundAction] {
    var record = training.record(round: round, attempt: attempt)
    record.metrics = metrics
    guard round < rules.rounds, !rules.isReached(by: metrics) else {
      return [.record(record)] + finish(.completed)
    }
    round += 1
    attempt = 1
    spentAttempts = 0
    patience = .whole
    return [.record(record)] + gather()
  }

  private mutating func finish(_ ending: RunEnding) -> [RoundAction] {
    var actions = endPatience(.over)
    switch phase {
    case .gathering, .planning(_, .some): actions.append(.cancelTimer(timer(.gathering)))
    case .waiting:
      actions += [.cancelTimer(timer(.gathering)), .cancelTimer(timer(.replanning))]
    case .training(let training):
      actions.append(.cancelTimer(timer(.training)))
      for client in training.standings.keys.sorted() where training.standings[client] == .working {
        actions.append(.withdrawTask(client, round: round))
      }
    default: break
    }
    phase = .finished(ending)
    return actions + [.finish(ending)]
  }

  // MARK: A coordinator that was started again

  /// The machine as a coordinator that was started again goes on with it: nobody is there yet, timers begin anew, and what was under way and is not kept is
  /// done again.
  ///
  /// - Parameters:
  ///   - rules: as they are now.
  ///   - missing: clients whose update was taken, but is no longer whole: they are asked again.
  package func restored(_ rules: RoundRules, missing: Set<ClientID> = []) -> RoundStateMachine {
    var machine = self
    machine.rules = rules
    machine.awaited = awaited.union(present)
    machine.present = []
    if case .running = patience { machine.patience = .whole }
    switch phase {
    case .idle, .gathering, .planning, .waiting: machine.phase = .idle
    case .training(let training), .aggregating(let training), .evaluating(let training):
      var training = training
      let lost = missing.filter { training.standings[$0] == .ended(.delivered) }
      for client in lost { training.standings[client] = .working }
      machine.awaited.formUnion(lost)
      var isTraining = !lost.isEmpty
      if case .training = phase { isTraining = true }
      machine.phase = isTraining ? .training(training) : .aggregating(training)
    case .finished(.completed): break
    case .finished:
      // It is tried again from the round that could not be made.
      machine.phase = .idle
      machine.attempt += 1
      machine.spentAttempts = 0
      machine.patience = .whole
    }
    return machine
  }

  /// The machine of a run that goes back to what it was after a round.
  package func rolledBack(to round: Int) -> RoundStateMachine {
    var machine = RoundStateMachine(rules: rules)
    machine.round = round + 1
    return machine
  }

  /// Whether updates of the current round are waited for, or being aggregated: those that were taken are needed.
  package var isInRound: Bool {
    switch phase {
    case .training, .aggregating, .evaluating: true
    default: false
    }
  }

  private mutating func start() -> [RoundAction] {
    let returning: [RoundAction] =
      awaited.isEmpty ? [] : [.startTimer(timer(.returning), after: rules.returnPause)]
    switch phase {
    case .idle: return returning + gather()
    case .training(let training):
      return returning + [
        .goOn(round: round, attempt: attempt, plan: training.plan),
        .startTimer(timer(.training), after: rules.deadline),
      ] + closeIfDone(training)
    case .aggregating(let training):
      return returning + [.goOn(round: round, attempt: attempt, plan: training.plan)]
        + aggregate(training, training.delivered)
    default: return []
    }
  }

  /// Who was there and did not come back is waited for no longer.
  private mutating func stopAwaiting() -> [RoundAction] {
    let gone = awaited
    awaited = []
    switch phase {
    case .gathering: return isReady ? [.cancelTimer(timer(.gathering))] + plan() : []
    case .training:
      return gone.sorted().flatMap {
        end(
          $0, round, .lost(reason: "It did not come back after the coordinator was started again."))
      }
    default: return []
    }
  }
}
