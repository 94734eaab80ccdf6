import PeatTensor

/// In each round a random share of the clients takes part, each on a random emulator level.
///
/// ⌈share · clients⌉ are drawn without replacement. A draw depends on the seed, the round and the client's name alone,
/// so it does not depend on the order in which clients came.
public struct RandomPlanner: RoundPlanner {
  public static let name = "random"
  /// 0 < share ≤ 1.
  public let share: Double
  public let seed: UInt64

  /// Throws where the share lies outside of 0 < share ≤ 1.
  public init(share: Double = 0.5, seed: UInt64) throws {
    guard share > 0, share <= 1 else {
      throw PeatError.usage(
        "The share of clients in a round is \(share); it must be above 0 and at most 1.")
    }
    self.share = share
    self.seed = seed
  }

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    guard !state.levels.isEmpty else {
      throw PeatError.usage("There is no emulator to give to clients.")
    }
    let drawn = Self.draw(
      state.clients.map(\.client), share: share, levels: state.levels.count, seed: seed,
      round: state.round, attempt: state.attempt)
    var plan = RoundPlan([:])
    for client in state.clients {
      guard let place = drawn[client.client] else {
        plan.assignments[client.client] = .leftOut(because: "random: not drawn")
        continue
      }
      let level = state.levels[place].level
      var assignment = state.assignment(of: client, wanting: level)
      if assignment.reason == nil { assignment.reason = "random: drawn, on level \(level)" }
      plan.assignments[client.client] = assignment
    }
    return plan
  }

  /// Who takes part in an attempt at a round, each with the level that was drawn for it: the same for the same names, wherever they are.
  package static func draw(
    _ clients: [ClientID], share: Double, levels: Int, seed: UInt64, round: Int, attempt: Int
  ) -> [ClientID: Int] {
    let draws = clients.map { client in
      var random = SeededRandom(
        seed: seed, "plan of round \(round), attempt \(attempt), \(client)")
      return (client: client, ticket: random.next(), level: random.integer(below: levels))
    }
    let ranked = draws.sorted { ($0.ticket, $0.client) < ($1.ticket, $1.client) }
    let count = Int((share * Double(draws.count)).rounded(.up))
    return Dictionary(uniqueKeysWithValues: ranked.prefix(count).map { ($0.client, $0.level) })
  }
}
