import PeatTensor

/// Asks those first who can be counted on, but everybody at times.
///
///     availability = (d + 1) / (d + f + 2) · (p + 1) / (r + 1)
///
/// `d` rounds it delivered in, `f` rounds it was asked in and did not, `p` rounds it was there for when they were planned, of the `r` since it first came. Of two
/// that are alike the one that delivered last comes first, then a draw decides.
///
/// The floor: whoever was not asked for 2n / K rounds comes before all others, who waited longest first. `n` are there and `K` are asked, so at most about half of
/// the places go by the floor, and nobody starves.
public struct AvailabilityPlanner: RoundPlanner {
  public static let name = "availability"
  public let size: SampleSize
  public let seed: UInt64

  public init(size: SampleSize, seed: UInt64) {
    self.size = size
    self.seed = seed
  }

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    let patience = Self.patience(clients: state.clients.count, asked: size)
    let ranked = state.clients.map { client in
      var random = SeededRandom(
        seed: seed, "plan of round \(state.round), attempt \(state.attempt), \(client.client)")
      let waited = client.waited(in: state.round)
      return (
        client: client, overdue: waited >= patience ? waited : 0,
        value: client.availability(in: state.round), ticket: random.next()
      )
    }.sorted { left, right in
      if left.overdue != right.overdue { return left.overdue > right.overdue }
      if left.value != right.value { return left.value > right.value }
      let (last, other) = (left.client.lastDelivered ?? 0, right.client.lastDelivered ?? 0)
      return last != other
        ? last > other
        : (left.ticket, left.client.client) < (right.ticket, right.client.client)
    }
    return state.plan(
      ranked.map { entry in
        let why =
          entry.overdue > 0
          ? "not asked for \(entry.overdue) rounds"
          : "\((entry.value * 1000).rounded() / 1000)"
        return (entry.client, nil, "availability: \(why)")
      }, size: size, name: Self.name)
  }

  /// After so many rounds without being asked a client comes first.
  static func patience(clients: Int, asked size: SampleSize) -> Int {
    let asked = max(size.asked(of: clients), 1)
    return max((2 * clients + asked - 1) / asked, 2)
  }
}

extension FederationState.ClientState {
  /// How far it can be counted on, from 0 to 1.
  func availability(in round: Int) -> Double {
    let reliability = Double(delivered + 1) / Double(delivered + failed + 2)
    let rounds = max(round - firstRound + 1, presences)
    return reliability * Double(presences + 1) / Double(rounds + 1)
  }

  /// Rounds since it was last asked, or came.
  func waited(in round: Int) -> Int { round - (lastAsked ?? max(firstRound - 1, 0)) }
}
