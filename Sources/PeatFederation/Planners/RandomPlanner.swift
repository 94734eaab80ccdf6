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
    let draws = state.clients.map { client in
      var random = SeededRandom(
        seed: seed, "plan of round \(state.round), attempt \(state.attempt), \(client.client)")
      let ticket = random.next()
      return (client, ticket, state.levels[random.integer(below: state.levels.count)].level)
    }
    let chosen = Int((share * Double(draws.count)).rounded(.up))
    var plan = RoundPlan([:])
    let ranked = draws.sorted { ($0.1, $0.0.client) < ($1.1, $1.0.client) }
    for (place, draw) in ranked.enumerated() {
      var assignment = state.assignment(of: draw.0, wanting: draw.2)
      if place >= chosen {
        assignment.participates = false
        assignment.reason = "random: not drawn"
      } else if assignment.reason == nil {
        assignment.reason = "random: drawn, on level \(draw.2)"
      }
      plan.assignments[draw.0.client] = assignment
    }
    return plan
  }
}
