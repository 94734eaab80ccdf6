import PeatTensor

/// In each round a random share of the clients takes part, each on a random emulator level.
///
/// ⌈share · clients⌉ are drawn without replacement, and where a round needs more updates, others after them. A draw depends on the seed, the round, the
/// attempt at it and the client's name alone, so it does not depend on the order in which clients came.
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
    let clients = Dictionary(uniqueKeysWithValues: state.clients.map { ($0.client, $0) })
    let order = Self.order(
      state.clients.map(\.client), levels: state.levels.count, seed: seed, round: state.round,
      attempt: state.attempt)
    let count = Self.count(share, of: order.count)
    var plan = RoundPlan([:])
    var taking = 0
    for (place, drawn) in order.enumerated() {
      let isBeyond = place >= count
      guard let client = clients[drawn.client], !isBeyond || taking < state.minimumUpdates else {
        plan.assignments[drawn.client] = .leftOut(because: "random: not drawn")
        continue
      }
      let level = state.levels[drawn.level].level
      var assignment = state.assignment(of: client, wanting: level)
      if assignment.reason == nil { assignment.reason = "random: drawn, on level \(level)" }
      if assignment.participates {
        taking += 1
        if isBeyond { assignment.add(asNeeded: state.minimumUpdates) }
      }
      plan.assignments[drawn.client] = assignment
    }
    return plan
  }

  /// How many are drawn of so many clients.
  package static func count(_ share: Double, of clients: Int) -> Int {
    Int((share * Double(clients)).rounded(.up))
  }

  /// The clients in the order in which they are drawn in an attempt at a round, each with the place of the level that is drawn for it: the same for
  /// the same names, wherever they are.
  package static func order(
    _ clients: [ClientID], levels: Int, seed: UInt64, round: Int, attempt: Int
  ) -> [(client: ClientID, level: Int)] {
    let draws = clients.map { client in
      var random = SeededRandom(
        seed: seed, "plan of round \(round), attempt \(attempt), \(client)")
      return (client: client, ticket: random.next(), level: random.integer(below: levels))
    }
    return draws.sorted { ($0.ticket, $0.client) < ($1.ticket, $1.client) }
      .map { ($0.client, $0.level) }
  }
}

extension RoundPlan.Assignment {
  /// Takes part only because a round needs so many updates.
  fileprivate mutating func add(asNeeded updates: Int) {
    isAdded = true
    reason = "added, as a round needs \(updates) updates: " + (reason ?? "")
  }
}
