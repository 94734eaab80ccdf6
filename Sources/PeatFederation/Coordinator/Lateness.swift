import PeatTensor

/// A client's parts that came to nothing.
///
/// A round waited in vain where the client was late, or where its part ended otherwise after more than half of the round's time.
struct Lateness: Sendable, Codable, Equatable {
  /// How often a round waited in vain, and which one did last.
  private(set) var times = 0
  private(set) var lastRound: Int?
  /// Parts since it last delivered, and the round of the last one.
  private var missed = 0
  private var lastMiss: Int?
  /// How often half of a round's time was lost in them: at once, or little by little.
  private var halves = 0
  /// Of the next half, in seconds.
  private var idle = 0.0

  /// Takes a part that came to nothing.
  mutating func note(
    _ result: ClientResult, in round: Int, _ trip: ObservedTrip?, deadline: Duration
  ) {
    let half = 0.5 * deadline.inSeconds
    let seconds = trip?.seconds ?? 0
    missed += 1
    lastMiss = round
    idle += seconds
    if result == .late || idle > half {
      halves += 1
      idle = 0
    }
    if result == .late || seconds > half {
      times += 1
      lastRound = round
    }
  }

  mutating func noteDelivery() { (missed, halves, idle) = (0, 0, 0) }

  /// From when it may take part again: it rests for 2^k rounds, at most 32. k: how often in a row half of a round's time was lost; or, where
  /// that is more, how many parts in a row came to nothing beyond two, however soon they ended.
  var returnRound: Int? {
    let count = max(halves, missed - 2)
    guard count > 0, let lastMiss else { return nil }
    return lastMiss + (1 << min(count, 5)) + 1
  }

  /// Why it takes no part in a round; `nil` where it may.
  func rest(in round: Int) -> String? {
    guard let returnRound, round < returnRound else { return nil }
    let why =
      if halves < missed {
        "its last \(missed) parts came to nothing"
      } else if missed == 1 {
        "a round waited for it in vain"
      } else {
        "\(missed) rounds in a row waited for it in vain"
      }
    return "\(why): rests until round \(returnRound)"
  }
}

extension Coordinator {
  /// Who rests in a round, with the reason. Where a round needs more than the others, those take part whose rest ends first.
  func resting(_ clients: [ClientID], _ round: Int) -> [ClientID: String] {
    let resting = clients.compactMap { client -> (client: ClientID, until: Int, reason: String)? in
      guard let late = histories[client]?.late, let until = late.returnRound,
        let reason = late.rest(in: round)
      else { return nil }
      return (client, until, reason)
    }
    let missing = configuration.rules.minimumUpdates - (clients.count - resting.count)
    let sorted = resting.sorted { ($0.until, $0.client) < ($1.until, $1.client) }
    return Dictionary(
      uniqueKeysWithValues: sorted.dropFirst(max(missing, 0)).map { ($0.client, $0.reason) })
  }
}
