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
/// any more and enough updates are there, or as many as the plan says are enough (over-selection: Bonawitz et al. 2019, *Towards Federated Learning at Scale*,
/// <https://arxiv.org/abs/1902.01046>); and at the latest when the deadline passes, for those who make no progress any more (`Training`).
///
/// Who is still at work then is not planned again until it asks for work. Its update may be taken all the same, discounted, in a later round
/// (`Staleness`).
///
/// With `rules.buffer` there are no rounds that clients wait for: see `RoundStateMachine+Asynchronous.swift`. A round is then what lies between two aggregations.
///
/// All that it knows is here, as plain values: it can be written down, and goes on from there.
public struct RoundStateMachine: Sendable, Equatable, Codable {
  enum Phase: Sendable, Equatable, Codable {
    case idle
    case gathering
    /// The gathering goes on where an earlier plan was of too few.
    case planning(candidates: Set<ClientID>, earlier: Int?)
    /// So many may take part, which are too few.
    case waiting(participants: Int)
    /// These three are of `training`.
    case training, aggregating, evaluating
    /// Of `buffer`, whatever else goes on.
    case flowing
    case finished(RunEnding)
  }

  public internal(set) var rules: RoundRules
  /// The current round and attempt, from 1.
  public internal(set) var round = 1
  public internal(set) var attempt = 1
  /// The clients that are there now.
  public internal(set) var present: Set<ClientID> = []
  var phase = Phase.idle
  /// The attempt that is under way; it stays until the round is recorded.
  var training: Training?
  /// Of an asynchronous run.
  var buffer: AsynchronousBuffer?
  var goal = RunGoal()
  /// Rounds that were recorded.
  var recorded = 0
  /// Attempts at this round that count.
  var spentAttempts = 0
  /// Clients that were still at work on a task when its round closed, each with that round. They are at it until they ask for work.
  var unfinished: [ClientID: Int] = [:]
  /// Updates of them that came since, for the next aggregation.
  var arrivals: [BufferedUpdate] = []
  /// Whether attempts in which nobody is left are not counted.
  var patience = Patience.whole
  /// Clients whose part in an earlier attempt at this round failed, or whose update was refused: others are asked where there are enough. `nil`: none.
  var failing: Set<ClientID>?
  /// Whether others than those are waited for. `nil`: no.
  var isWaitingForOthers: Bool?
  /// Clients that were there when the coordinator stopped, and are not back since it was started again.
  var awaited: Set<ClientID> = []

  enum Patience: Sendable, Equatable, Codable {
    case whole
    case running(RoundTimer)
    case over
  }

  public init(rules: RoundRules) {
    self.rules = rules
    buffer = rules.buffer.map(AsynchronousBuffer.init)
  }

  public var ending: RunEnding? { if case .finished(let ending) = phase { ending } else { nil } }

  /// Whether an update of this client for this round would be taken now.
  public func expectsUpdate(from client: ClientID, round: Int) -> Bool {
    if let buffer { return phase == .flowing && buffer.expects(client, round) }
    if isClosed(round) { return takesLate(client, round) }
    guard round == self.round, phase == .training else { return false }
    return training?[client] == .working
  }

  /// Which of the client's tasks in a round it is at, from 1; above 1 in asynchronous runs alone.
  public func taskNumber(of client: ClientID, round: Int) -> Int {
    buffer?.number(of: client, round) ?? 1
  }

  /// The task that a client is at in an asynchronous run: which of its tasks in that round, and what it is.
  func openTask(of client: ClientID, round: Int) -> (number: Int, RoundPlan.Assignment)? {
    buffer?.task(of: client, round).map { ($0.number, $0.assignment) }
  }

  /// Whether an update to an attempt at a round's task is one that may be expected: it may go on with what it was told in an earlier attempt.
  public func mayBeOf(attempt: Int, round: Int, from client: ClientID) -> Bool {
    if let buffer { return buffer.number(of: client, round) == attempt }
    return attempt >= 1 && (round != self.round || attempt <= self.attempt)
  }

  /// Whether a client was not heard of again since its task's round closed.
  public func isUnfinished(_ client: ClientID) -> Bool { unfinished[client] != nil }

  /// Whether it is to be told that a client moves.
  public func watches(_ client: ClientID, round: Int) -> Bool {
    if let buffer { return rules.stillness != nil && buffer.watches(client, round) }
    return round == self.round && phase == .training && training?.watches(client) == true
  }

  /// Takes one event and says what is to be done. Events that come too late, twice or from strangers change nothing.
  public mutating func handle(_ event: RoundEvent) -> [RoundAction] {
    if case .finished(let ending) = phase {
      return event == .started ? [.finish(ending)] : []
    }
    switch event {
    case .started: return start()
    case .cancelled(let reason): return finish(.cancelled(reason: reason))
    case .planFailed(let reason):
      guard isPlanning else { return [] }
      return finish(.failed(reason: "Round \(round) could not be planned: \(reason)"))
    case .timerFired(let timer) where timer.purpose == .budget: return runOutOfTime()
    default: break
    }
    if buffer != nil { return flow(event) }
    switch event {
    case .clientJoined(let client, let restarted): return joined(client, restarted: restarted)
    case .clientLost(let client, let reason): return lost(client, reason)
    case .clientReady(let client):
      unfinished[client] = nil
      return []
    case .progressed(let client, let round):
      if watches(client, round: round) { training?.noteMove(of: client) }
      return []
    case .planMade(let plan, let round, let attempt):
      return round == self.round && attempt == self.attempt ? begin(plan) : []
    case .updateReceived(let client, let round):
      return isClosed(round) ? arrivedLate(client, round) : end(client, round, .delivered)
    case .updateRefused(let client, let round, let refusal):
      return end(client, round, .refused(refusal))
    case .clientFailed(let client, let round, let reason):
      return end(client, round, .failed(reason: reason))
    case .timerFired(let timer): return fired(timer)
    case .aggregated(let round):
      guard round == self.round, phase == .aggregating else { return [] }
      phase = .evaluating
      return [.evaluate(round: round)]
    case .aggregationFailed(let reason):
      guard phase == .aggregating else { return [] }
      return finish(.failed(reason: "Round \(round) could not be aggregated: \(reason)"))
    case .evaluated(let round, let metrics, let spent):
      guard round == self.round, phase == .evaluating else { return [] }
      return close(metrics, spent)
    case .evaluationFailed(let reason):
      guard phase == .evaluating else { return [] }
      return finish(.failed(reason: "Round \(round) could not be evaluated: \(reason)"))
    case .started, .planFailed, .cancelled: return []
    }
  }

  private var isPlanning: Bool {
    if case .planning = phase { return true }
    return buffer?.isPlanning == true
  }

  static let budgetTimer = RoundTimer(.budget, round: 0, attempt: 0)

  // MARK: Clients come and go

  private mutating func joined(_ client: ClientID, restarted: Bool) -> [RoundAction] {
    present.insert(client)
    // It no longer knows what it was doing.
    if restarted { unfinished[client] = nil }
    awaited.remove(client)
    switch phase {
    case .gathering: return gathered()
    case .training:
      guard let training, let standing = training[client],
        let assignment = training.plan.assignments[client]
      else { return retryIfStuck() }
      switch standing {
      case .ended(.lost): break
      case .working where restarted: break
      default: return []
      }
      self.training?.set(client, .working)
      return [.sendTask(client, round: round, attempt: attempt, assignment)]
    default: return []
    }
  }

  /// One came who is not of this round; but if nobody else is left in it, those who are here now try it again.
  private mutating func retryIfStuck() -> [RoundAction] {
    guard let training, !training.isAnyoneWorking,
      training.deliveredCount < rules.minimumUpdates, present.count >= rules.minimumUpdates
    else { return [] }
    return [.cancelTimer(timer(.training))] + beginPatience()
      + repeatRound(counts: patience == .over)
  }

  private mutating func lost(_ client: ClientID, _ reason: String) -> [RoundAction] {
    guard present.remove(client) != nil else { return [] }
    // All that come are waited for, as at the beginning.
    if isWaitingForOthers == true, !canPlan { return stopWaitingForOthers() }
    return end(client, round, .lost(reason: reason))
  }

  /// Clients that must be present before a round is planned.
  var needed: Int { round == 1 && attempt == 1 ? firstNeeded : rules.minimumUpdates }
  private var firstNeeded: Int { max(rules.minimumClients, rules.minimumUpdates) }

  func timer(_ purpose: RoundTimer.Purpose) -> RoundTimer {
    RoundTimer(purpose, round: round, attempt: attempt)
  }

  // MARK: Tasks of rounds that are over

  /// Whether a client is at work on a task of an earlier round.
  private func isBusy(_ client: ClientID) -> Bool { unfinished[client].map { $0 < round } ?? false }

  private var isClosing: Bool { phase == .aggregating || phase == .evaluating }

  /// Whether updates to a round's tasks come late: they are for the aggregation of another one.
  public func isClosed(_ round: Int) -> Bool {
    round < self.round || round == self.round && isClosing
  }

  /// The round whose aggregation comes next.
  private var nextAggregation: Int { isClosing ? round + 1 : round }

  private func takesLate(_ client: ClientID, _ round: Int) -> Bool {
    guard let staleness = rules.staleness, unfinished[client] == round else { return false }
    return nextAggregation - round <= staleness.maximum && nextAggregation <= rules.rounds
  }

  private mutating func arrivedLate(_ client: ClientID, _ round: Int) -> [RoundAction] {
    guard takesLate(client, round) else { return [] }
    unfinished[client] = nil
    arrivals.append(BufferedUpdate(client, round: round, staleness: nextAggregation - round))
    return []
  }

  // MARK: The phases of a round

  mutating func gather() -> [RoundAction] {
    if canPlan, !mayOthersCome { return plan() }
    phase = .gathering
    let gathering = RoundAction.startTimer(timer(.gathering), after: rules.gatheringDeadline)
    return [gathering] + (canPlan ? waitForOthers() : [])
  }

  /// Whether more clients must come before the round is planned.
  var isShortOfClients: Bool { phase == .gathering && present.count < needed }

  mutating func gathered() -> [RoundAction] {
    guard canPlan else { return [] }
    if mayOthersCome {
      return isWaitingForOthers == true ? [] : waitForOthers()
    }
    return endGathering() + plan()
  }

  /// Takes back what gathering waits for.
  private mutating func endGathering() -> [RoundAction] {
    [.cancelTimer(timer(.gathering))] + stopWaitingForOthers()
  }

  private mutating func waitForOthers() -> [RoundAction] {
    isWaitingForOthers = true
    return [.startTimer(timer(.retrying), after: rules.usedRetryPause)]
  }

  private mutating func stopWaitingForOthers() -> [RoundAction] {
    guard isWaitingForOthers == true else { return [] }
    isWaitingForOthers = nil
    return [.cancelTimer(timer(.retrying))]
  }

  private var canPlan: Bool { present.count >= needed && awaited.isEmpty }

  /// Whether too few are there but those who failed, so that it is worth waiting for others: one device that fails at once would else spend all attempts in a moment.
  private var mayOthersCome: Bool {
    guard let failing, !failing.isEmpty, rules.usedRetryPause > .zero else { return false }
    return present.subtracting(failing).count < rules.minimumUpdates
  }

  /// Those who failed in this round, and those who are at work on an earlier one, are asked where there are too few others.
  private var candidates: Set<ClientID> {
    let free = present.filter { !isBusy($0) }
    for choice in [free.subtracting(failing ?? []), free, present.subtracting(failing ?? [])]
    where choice.count >= rules.minimumUpdates {
      return choice
    }
    return present
  }

  private mutating func plan(earlier: Int? = nil) -> [RoundAction] {
    if buffer != nil { return openBuffer() }
    let candidates = candidates
    phase = .planning(candidates: candidates, earlier: earlier)
    return [.makePlan(round: round, attempt: attempt, clients: candidates.sorted())]
  }

  private mutating func begin(_ plan: RoundPlan) -> [RoundAction] {
    guard case .planning(let candidates, let earlier) = phase else { return [] }
    let participants = plan.participants.filter(candidates.contains)
    if plan.skipped != nil, participants.isEmpty { return pass(plan, earlier: earlier) }
    guard participants.count >= rules.minimumUpdates else {
      return wait(plan, participants.count, earlier: earlier)
    }
    var standings: [ClientID: Training.Standing] = [:]
    for client in participants {
      standings[client] =
        present.contains(client)
        ? .working : .ended(.lost(reason: "It left before the round began."))
    }
    let training = Training(plan: plan, standings: standings, rules: rules)
    self.training = training
    phase = .training
    var actions: [RoundAction] = earlier == nil ? [] : [.cancelTimer(timer(.gathering))]
    actions += [
      .beginRound(round: round, attempt: attempt, plan: plan),
      .startTimer(timer(.training), after: training.end),
    ]
    for client in participants where standings[client] == .working {
      if unfinished[client] == round { unfinished[client] = nil }
      if let assignment = plan.assignments[client] {
        actions.append(.sendTask(client, round: round, attempt: attempt, assignment))
      }
    }
    return actions + closeIfDone()
  }

  /// A round without clients. Nobody is waited for; the coordinator's own part counts.
  private mutating func pass(_ plan: RoundPlan, earlier: Int?) -> [RoundAction] {
    let actions: [RoundAction] = earlier == nil ? [] : [.cancelTimer(timer(.gathering))]
    training = Training(plan: plan, standings: [:], rules: rules)
    return actions + [.beginRound(round: round, attempt: attempt, plan: plan)] + aggregate()
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
  mutating func end(
    _ client: ClientID, _ round: Int, _ result: ClientResult
  ) -> [RoundAction] {
    if isClosed(round), unfinished[client] == round { unfinished[client] = nil }
    guard round == self.round, phase == .training, training?[client] == .working else { return [] }
    training?.set(client, .ended(result))
    return [.withdrawTask(client, round: round)] + closeIfDone()
  }

  mutating func closeIfDone() -> [RoundAction] {
    guard let training else { return [] }
    if training.hasEnough(rules) { return closeWithout(.surplus) }
    if training.isAnyoneWorking { return [] }
    if training.deliveredCount >= rules.minimumUpdates {
      return [.cancelTimer(timer(.training))] + aggregate()
    }
    // Too few, but one that was lost may come back until the deadline.
    if training.mayReturn { return [] }
    return [.cancelTimer(timer(.training))] + repeatRound()
  }

  /// Closes the round with what is there; whoever is still at work gets this result.
  private mutating func closeWithout(_ result: ClientResult) -> [RoundAction] {
    [.cancelTimer(timer(.training))] + letGo(training?.atWork ?? [], result) + aggregate()
  }

  private mutating func letGo(_ clients: [ClientID], _ result: ClientResult) -> [RoundAction] {
    clients.map { client in
      training?.set(client, .ended(result))
      unfinished[client] = round
      return .withdrawTask(client, round: round)
    }
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

  // MARK: Time passes

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
      let actions = stopWaitingForOthers()
      if present.count >= needed {
        awaited = []
        return actions + plan()
      }
      return actions + gatheredTooFew()
    case (.retrying, .gathering):
      guard isWaitingForOthers == true else { return [] }
      isWaitingForOthers = nil
      return [.cancelTimer(timer(.gathering))] + plan()
    case (.replanning, .waiting(let participants)):
      if present.count >= needed { return plan(earlier: participants) }
      return [.startTimer(timer(.replanning), after: rules.planningPause)]
    case (.gathering, .waiting(let participants)): return giveUp(participants)
    case (.gathering, .planning(_, let participants?)): return giveUp(participants)
    case (.training, .training): return endStretch()
    default: return []
    }
  }

  mutating func gatheredTooFew() -> [RoundAction] {
    phase = .idle
    let (clients, were) = (needed == 1 ? "client" : "clients", present.count == 1 ? "was" : "were")
    let key = needed > rules.minimumUpdates ? "minimumClients" : "minimumUpdates"
    return finish(
      .failed(
        reason:
          "Round \(round) needs \(needed) \(clients), but only \(present.count) \(were) there "
          + "after \(rules.gatheringDeadline). Start more clients"
          + (needed > 1 ? ", or lower \(key)." : ".")))
  }

  private mutating func endStretch() -> [RoundAction] {
    let rules = rules
    guard let (late, next) = training?.endStretch(rules) else { return [] }
    // Not planned again until they ask for work: they may have died without a word.
    present.subtract(late)
    let actions = letGo(late, .late)
    if let next { return actions + [.startTimer(timer(.training), after: next)] }
    guard let training, training.deliveredCount >= rules.minimumUpdates else {
      return actions + repeatRound()
    }
    return actions + aggregate()
  }

  /// The run's time is over: a round that is under way closes with what is there.
  private mutating func runOutOfTime() -> [RoundAction] {
    goal.isOutOfTime = true
    if buffer != nil { return runBufferOutOfTime() }
    switch phase {
    case .aggregating, .evaluating: return []
    case .training where (training?.deliveredCount ?? 0) >= rules.minimumUpdates:
      return closeWithout(.late)
    default: return finishOutOfTime()
    }
  }

  mutating func finishOutOfTime() -> [RoundAction] {
    let stop = RunGoal.outOfTime(rules)
    guard recorded > 0 else {
      return finish(
        .failed(
          reason: "No round counted before \(stop.reason). Give it more time, or smaller rounds."))
    }
    return finish(.stopped(stop))
  }

  // MARK: A round ends

  mutating func aggregate() -> [RoundAction] {
    phase = .aggregating
    return endPatience(.over) + [
      .aggregate(
        round: round, clients: training?.delivered ?? [], buffered: arrivals.sorted())
    ]
  }

  private mutating func repeatRound(counts: Bool = true) -> [RoundAction] {
    guard let training else { return [] }
    phase = .idle
    if counts { spentAttempts += 1 }
    // Lost ones that come back may still be at it.
    let record = training.record(round: round, attempt: attempt)
    for outcome in record.outcomes where outcome.result.isOwnFault {
      failing = (failing ?? []).union([outcome.client])
    }
    let reason =
      "\(training.deliveredCount) of the \(rules.minimumUpdates) updates it needs arrived"
    self.training = nil
    let failed = RoundAction.recordFailedAttempt(record, reason: reason)
    if spentAttempts >= rules.attempts {
      return [failed]
        + finish(
          .failed(
            reason: "Round \(round) was tried \(attempt) times; the last time \(reason). "
              + record.failures))
    }
    let discard = RoundAction.discardUpdates(round: round)
    attempt += 1
    return [failed, discard] + gather()
  }

  private mutating func close(_ metrics: [String: Double], _ spent: RunCost) -> [RoundAction] {
    guard let training else { return [] }
    var record = training.record(round: round, attempt: attempt)
    record.metrics = metrics
    // What came while this round was aggregated is for the next one.
    let taken = arrivals.filter { $0.round + $0.staleness == round }
    arrivals.removeAll { $0.round + $0.staleness == round }
    record.outcomes += taken.sorted().map { update in
      var outcome = ClientOutcome(client: update.client, emulatorLevel: 0, result: .delivered)
      outcome.staleness = update.staleness
      return outcome
    }
    for (client, standing) in training.standings {
      if case .ended(.lost) = standing { unfinished[client] = round }
    }
    self.training = nil
    let (ended, rules) = (round, rules)
    let stop = goal.take(metrics, after: ended, spent, rules)
    recorded += 1
    if round >= rules.rounds { return [.record(record)] + finish(.completed) }
    if let stop { return [.record(record)] + finish(.stopped(stop)) }
    round += 1
    attempt = 1
    spentAttempts = 0
    patience = .whole
    failing = nil
    return [.record(record)] + gather()
  }

  mutating func finish(_ ending: RunEnding) -> [RoundAction] {
    var actions = endPatience(.over)
    if rules.budget.time != nil, !goal.isOutOfTime {
      actions.append(.cancelTimer(Self.budgetTimer))
    }
    switch phase {
    case .gathering, .planning(_, .some): actions += endGathering()
    case .waiting:
      actions += [.cancelTimer(timer(.gathering)), .cancelTimer(timer(.replanning))]
    case .training:
      actions.append(.cancelTimer(timer(.training)))
      for client in training?.atWork ?? [] {
        actions.append(.withdrawTask(client, round: round))
      }
    case .flowing: actions += buffer?.end() ?? []
    default: break
    }
    phase = .finished(ending)
    return actions + [.finish(ending)]
  }
}

extension BufferedUpdate: Comparable {
  /// By client, then by round and number.
  public static func < (left: Self, right: Self) -> Bool {
    (left.client, left.round, left.number) < (right.client, right.round, right.number)
  }
}
