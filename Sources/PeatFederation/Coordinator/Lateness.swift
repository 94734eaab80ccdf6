import PeatTensor

/// How often rounds waited for a client in vain.
struct Lateness: Sendable, Equatable {
  /// In all, and since it last delivered.
  private(set) var times = 0
  private(set) var inARow = 0
  /// The last such round.
  private(set) var lastRound: Int?

  /// Takes a part that came to nothing: it was late, or ended otherwise after more than half of the round's time.
  mutating func note(
    _ result: ClientResult, in round: Int, _ missed: ObservedTrip?, deadline: Duration
  ) {
    let seconds = missed?.seconds ?? 0
    guard result == .late || seconds > 0.5 * deadline.inSeconds else { return }
    times += 1
    inARow += 1
    lastRound = round
  }

  mutating func noteDelivery() { inARow = 0 }

  /// From when it may take part again: after k such rounds in a row it rests for 2^k rounds, at most 32.
  var returnRound: Int? {
    guard inARow > 0, let lastRound else { return nil }
    return lastRound + (1 << min(inARow, 5)) + 1
  }

  /// Why it takes no part in a round; `nil` where it may.
  func rest(in round: Int) -> String? {
    guard let returnRound, round < returnRound else { return nil }
    let rounds = inARow == 1 ? "a round" : "\(inARow) rounds in a row"
    return "\(rounds) waited for it in vain: rests until round \(returnRound)"
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
