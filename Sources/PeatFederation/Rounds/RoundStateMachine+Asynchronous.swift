import PeatTensor

/// An asynchronous run: no round that clients wait for.
///
///     work given as clients come free → updates arrive in the buffer ─ full → aggregating → evaluating → recorded
///              ↑__________ on the newest adapter, while all that goes on ___________|
///
/// A round is what lies between two aggregations. An update began with the adapter of round q; it is aggregated as part of round r, with the staleness
/// s = r − q, at most `rules.staleness.maximum`. A task that can only come too late is withdrawn.
///
/// When the deadline passes before the buffer is full, it is aggregated as it is if `minimumUpdates` are there; else the round has been tried once more. Whoever
/// has been at work for a whole deadline, and where progress counts did not move in it, is let go.
extension RoundStateMachine {
  mutating func flow(_ event: RoundEvent) -> [RoundAction] {
    switch event {
    case .clientJoined(let client, let restarted): return joinFlow(client, restarted)
    case .clientLost(let client, let reason):
      guard present.remove(client) != nil else { return [] }
      guard phase == .flowing, let round = buffer?.working[client]?.round else {
        _ = buffer?.lose(client, reason: reason)
        return []
      }
      _ = buffer?.lose(client, reason: reason)
      return [.withdrawTask(client, round: round)] + giveWork()
    case .planMade(let plan, _, let number):
      guard phase == .flowing, let buffer, buffer.isPlanning, buffer.planNumber == number else {
        return []
      }
      return takePlan(plan)
    case .updateReceived(let client, let round): return endWork(client, round, .delivered)
    case .updateRefused(let client, let round, let refusal):
      return endWork(client, round, .refused(refusal))
    case .clientFailed(let client, let round, let reason):
      return endWork(client, round, .failed(reason: reason))
    case .progressed(let client, let round):
      if watches(client, round: round) { buffer?.noteMove(of: client) }
      return []
    case .timerFired(let timer): return fireInFlow(timer)
    case .aggregated(let round):
      guard buffer?.closing?.round == round, buffer?.closing?.isAggregated == false else {
        return []
      }
      return goOn(after: round)
    case .aggregationFailed(let reason):
      guard let closing = buffer?.closing, !closing.isAggregated else { return [] }
      return finish(
        .failed(reason: "Round \(closing.round) could not be aggregated: \(reason)"))
    case .evaluated(let round, let metrics, let spent):
      guard let closing = buffer?.closing, closing.round == round, closing.isAggregated else {
        return []
      }
      return record(metrics, spent)
    case .evaluationFailed(let reason):
      guard let closing = buffer?.closing, closing.isAggregated else { return [] }
      return finish(.failed(reason: "Round \(closing.round) could not be evaluated: \(reason)"))
    case .started, .clientReady, .planFailed, .cancelled: return []
    }
  }

  /// Enough clients are there: the flow begins.
  mutating func openBuffer() -> [RoundAction] {
    phase = .flowing
    return beginBufferRound() + aggregateAgain() + aggregateIfFull() + takeUpWork() + giveWork()
  }

  /// Those who are here go on with what they were at when the coordinator stopped; the others wait for work.
  private mutating func takeUpWork() -> [RoundAction] {
    present.sorted().compactMap { takeUpWork(of: $0) }
  }

  private mutating func takeUpWork(of client: ClientID) -> RoundAction? {
    let rounds = min(oldestRound, round)...round
    return buffer?.join(client, goingOnIn: rounds).map { .resumeTask(client, round: $0.round) }
  }

  /// After a restart: what was being aggregated, or had been and did not count yet.
  private func aggregateAgain() -> [RoundAction] {
    guard let closing = buffer?.closing, !closing.isAggregated else { return [] }
    return [.aggregate(round: closing.round, clients: [], buffered: closing.arrivals.map(\.update))]
  }

  private mutating func beginBufferRound() -> [RoundAction] {
    [.beginRound(round: round, attempt: 1, plan: RoundPlan([:]))] + beginPeriod()
  }

  private mutating func beginPeriod() -> [RoundAction] {
    let round = round
    guard let (start, cancel) = buffer?.beginPeriod(round) else { return [] }
    let actions: [RoundAction] = cancel.map { [.cancelTimer($0)] } ?? []
    return actions + [.startTimer(start, after: rules.deadline)]
  }

  /// The first round whose tasks may still be answered.
  private var oldestRound: Int { nextRound - (rules.staleness?.maximum ?? 0) }

  /// Whether more work is of use: not once the last round is aggregated.
  private var mayBegin: Bool { round <= rules.rounds }

  // MARK: Clients

  private mutating func joinFlow(_ client: ClientID, _ restarted: Bool) -> [RoundAction] {
    let isNew = present.insert(client).inserted
    if phase == .gathering {
      guard present.count >= needed else { return [] }
      return [.cancelTimer(timer(.gathering))] + openBuffer()
    }
    guard phase == .flowing else { return [] }
    if let work = buffer?.working[client] {
      // It came back without having been missed. Where it was started again it is told what it was at, and goes on from what it kept of that.
      return restarted ? [.resumeTask(client, round: work.round)] : []
    }
    guard isNew || restarted else { return [] }
    return takeUpWork(of: client).map { [$0] } ?? giveWork()
  }

  /// Asks for a plan for those who wait, as far as there is room. Not while the next adapter is made: it will be there in a moment.
  private mutating func giveWork() -> [RoundAction] {
    guard phase == .flowing, mayBegin, buffer?.closing?.isAggregated != false,
      let clients = buffer?.nextCandidates(), !clients.isEmpty
    else { return [] }
    return [.makePlan(round: round, attempt: buffer?.planNumber ?? 0, clients: clients)]
  }

  private mutating func takePlan(_ plan: RoundPlan) -> [RoundAction] {
    let (round, present, mayBegin) = (round, present, mayBegin)
    let sent =
      buffer?.take(plan, round: round, present: present, mayBegin: mayBegin) ?? []
    return sent.map { client, work in
      .sendTask(client, round: work.round, attempt: work.number, work.assignment)
    } + pauseIfNeeded() + giveWork()
  }

  private mutating func pauseIfNeeded() -> [RoundAction] {
    guard buffer?.beginPause() == true else { return [] }
    return [.startTimer(AsynchronousBuffer.pauseTimer, after: rules.planningPause)]
  }

  private mutating func endWork(
    _ client: ClientID, _ round: Int, _ result: ClientResult
  ) -> [RoundAction] {
    guard phase == .flowing, buffer?.expects(client, round) == true else { return [] }
    let (next, isThere) = (nextRound, present.contains(client))
    buffer?.end(client, result, closes: next, isThere: isThere)
    return [.withdrawTask(client, round: round)] + pauseIfNeeded() + aggregateIfFull() + giveWork()
  }

  /// The round whose aggregation comes next.
  private var nextRound: Int { buffer?.closing?.isAggregated == false ? round + 1 : round }

  // MARK: The buffer

  private mutating func aggregateIfFull() -> [RoundAction] {
    guard let buffer, buffer.closing == nil, mayBegin else { return [] }
    let isDue = goal.isOutOfTime && buffer.arrivals.count >= rules.minimumUpdates
    return buffer.isFull || isDue ? aggregateBuffer() : []
  }

  private mutating func aggregateBuffer() -> [RoundAction] {
    let round = round
    guard let updates = buffer?.close(round) else { return [] }
    // What comes from now on is for the next round, which some tasks are too old for.
    let oldest = oldestRound
    let dropped = buffer?.dropTasks(before: oldest) ?? []
    return [.aggregate(round: round, clients: [], buffered: updates)]
      + dropped.map { .withdrawTask($0.client, round: $0.round) }
  }

  /// The new adapter is there: from now on work begins with it.
  private mutating func goOn(after round: Int) -> [RoundAction] {
    buffer?.closing?.isAggregated = true
    self.round = round + 1
    spentAttempts = 0
    return [.evaluate(round: round)] + takeUpWork() + giveWork()
  }

  private mutating func record(_ metrics: [String: Double], _ spent: RunCost) -> [RoundAction] {
    guard let record = buffer?.record(metrics) else { return [] }
    recorded += 1
    let stop = goal.take(metrics, after: record.round, spent, rules)
    if record.round >= rules.rounds { return [.record(record)] + finish(.completed) }
    if let stop { return [.record(record)] + finish(.stopped(stop)) }
    return [.record(record)] + beginBufferRound() + aggregateIfFull() + giveWork()
  }

  // MARK: Time

  private mutating func fireInFlow(_ fired: RoundTimer) -> [RoundAction] {
    if phase == .gathering, fired == timer(.gathering) { return gatheredTooFew() }
    guard phase == .flowing else { return [] }
    if fired == AsynchronousBuffer.pauseTimer {
      buffer?.endPause()
      return giveWork()
    }
    guard fired == buffer?.timer else { return [] }
    return endPeriod()
  }

  private mutating func endPeriod() -> [RoundAction] {
    var actions: [RoundAction] = []
    for (client, round) in buffer?.endPeriod(progressCounts: rules.stillness != nil) ?? [] {
      let next = nextRound
      buffer?.end(client, .late, closes: next, isThere: false)
      // Asked again when it is heard of: it may have died without a word.
      present.remove(client)
      actions.append(.withdrawTask(client, round: round))
    }
    guard let buffer else { return actions }
    if buffer.closing == nil {
      if buffer.arrivals.count >= rules.minimumUpdates {
        return actions + beginPeriod() + aggregateBuffer() + giveWork()
      }
      spentAttempts += 1
      if spentAttempts >= rules.attempts {
        return actions
          + finish(
            .failed(
              reason:
                "Round \(round) waited \(spentAttempts) times \(rules.deadline) for updates; \(buffer.arrivals.count) of the \(rules.minimumUpdates) updates it needs arrived. Give it a longer deadline, more clients or more attempts."
            ))
      }
    }
    return actions + beginPeriod() + giveWork()
  }

  mutating func runBufferOutOfTime() -> [RoundAction] {
    guard phase == .flowing, let buffer else { return finishOutOfTime() }
    if buffer.closing != nil { return [] }
    return buffer.arrivals.count >= rules.minimumUpdates ? aggregateBuffer() : finishOutOfTime()
  }
}
