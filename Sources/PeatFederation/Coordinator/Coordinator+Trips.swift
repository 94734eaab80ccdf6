import PeatTensor

/// The clients' parts in a round, as the coordinator sees them itself.
extension Coordinator {
  /// A task is there for a client. Where it was before, and the client has joined again since or the round is tried again, its part goes on: else
  /// whoever joins again just before it delivers, or delivers only when it is asked again, would seem to be quick.
  func beginTrip(of client: ClientID, _ round: Int, _ attempt: Int) {
    let traffic = histories[client]?.traffic ?? Traffic()
    if trips[client]?.goesOn(in: round) == true {
      trips[client]?.goOn(in: attempt, traffic: traffic, clock: clock)
    } else {
      trips[client] = Trip(round: round, attempt: attempt, traffic: traffic, clock: clock)
    }
  }

  func endTrip(of client: ClientID) {
    trips[client]?.end(
      uploadSeconds: uploads[client]?.watch.seconds ?? 0,
      traffic: histories[client]?.traffic ?? Traffic())
  }

  /// What was seen of a client's part that came to nothing, until it ended: over all attempts at the round, and in this one alone.
  func missedTrip(
    of client: ClientID, in record: RoundRecord
  ) -> (whole: ObservedTrip?, inAttempt: ObservedTrip?) {
    guard let trip = trips[client], trip.isOf(round: record.round, attempt: record.attempt) else {
      return (nil, nil)
    }
    return (trip.missed, trip.missedInAttempt)
  }

  /// Whether it is looked at now if a client makes progress: its round's deadline is near, or over.
  package func watches(_ client: ClientID) -> Bool {
    tasks[client].map { machine.watches(client, round: $0.round) } ?? false
  }
}
