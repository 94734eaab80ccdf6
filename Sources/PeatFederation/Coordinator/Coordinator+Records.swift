import PeatTensor

/// What is recorded of a round, and remembered of its clients.
extension Coordinator {
  /// A client's update to a round's task is sure to be counted: its next task says so.
  func noteCounted(_ client: ClientID, _ round: Int) {
    histories[client]?.countedRound = round
    if tasks[client]?.countedRound != nil { tasks[client]?.countedRound = round }
  }

  func close(_ record: RoundRecord) {
    var record = completed(record)
    (record.baseDigest, record.adapterDigest) = (installed.base, installed.adapter)
    record.aggregationError = aggregationError
    record.aggregation = aggregationNotes
    for outcome in record.outcomes where outcome.result == .delivered {
      // Of one that is stale, or of an asynchronous run, the client was told when it arrived; its next may have been taken since.
      if outcome.staleness == 0, configuration.rules.buffer == nil {
        noteCounted(outcome.client, record.round)
      }
      drop(outcome.key(in: record))
    }
    current = nil
    rounds.append(record)
    counted = adapter
    countedState = strategyState
    onProgress(.roundEnded(record))
  }

  /// The record with what the machine does not know: traffic, telemetry, time.
  func completed(_ record: RoundRecord) -> RoundRecord {
    var record = record
    record.seconds = roundWatch.seconds
    if let part = serverPart, part.round == record.round {
      record.serverWeight = part.isMixedIn ? server?.weight ?? 0 : 0
      record.serverFailure = part.failure.map(failureReason)
    }
    for i in record.outcomes.indices {
      let client = record.outcomes[i].client
      if record.outcomes[i].result == .delivered,
        let update = accepted[record.outcomes[i].key(in: record)]
      {
        complete(&record.outcomes[i], of: update)
      } else {
        completeFailure(&record.outcomes[i], in: record)
      }
      guard configuration.rules.buffer == nil, record.outcomes[i].staleness == 0 else { continue }
      let history = histories[client, default: History()]
      let traffic = history.traffic - history.trafficBeforeRound
      record.outcomes[i].bytesDown = traffic.bytesDown
      record.outcomes[i].bytesUp = traffic.bytesUp
    }
    return record
  }

  private func complete(_ outcome: inout ClientOutcome, of update: Accepted) {
    let client = outcome.client
    outcome.emulatorLevel = update.level
    outcome.exampleCount = update.header.exampleCount
    outcome.metrics = update.header.metrics
    outcome.telemetry = update.header.telemetry
    outcome.observed = update.observed
    outcome.distance = update.distance
    outcome.signature = update.signature
    outcome.bytesDown = update.observed?.bytesDown ?? 0
    outcome.bytesUp = update.observed?.bytesUp ?? 0
    histories[client, default: History()].delivered += 1
    histories[client]?.late.noteDelivery()
    histories[client]?.missed = nil
  }

  private func completeFailure(_ outcome: inout ClientOutcome, in record: RoundRecord) {
    let client = outcome.client
    let missed = missedTrip(of: client, in: record)
    outcome.observed = missed.inAttempt
    // Others were quicker: that is no fault.
    if outcome.result == .surplus { return }
    histories[client, default: History()].failed += 1
    histories[client]?.missed = missed.whole
    histories[client]?.late.note(
      outcome.result, in: record.round, missed.inAttempt,
      deadline: configuration.rules.deadline)
  }
}
