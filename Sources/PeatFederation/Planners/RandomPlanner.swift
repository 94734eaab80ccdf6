import PeatTensor

/// In each round a random part of the clients takes part, each on a random emulator level.
///
/// They are drawn without replacement, as many as `size` says, and where a round needs more updates, others after them. A draw depends on the seed, the round, the
/// attempt at it and the client's name alone, so it does not depend on the order in which clients came.
public struct RandomPlanner: RoundPlanner {
  public static let name = "random"
  public let size: SampleSize
  public let seed: UInt64

  /// Throws where the share lies outside of 0 < share ≤ 1.
  public init(share: Double = 0.5, seed: UInt64) throws {
    self.init(size: try SampleSize(share: share), seed: seed)
  }

  public init(size: SampleSize, seed: UInt64) {
    self.size = size
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
    return state.plan(
      order.compactMap { drawn in
        clients[drawn.client].map { ($0, state.levels[drawn.level].level, "random: drawn") }
      }, size: size, name: Self.name)
  }

  /// How many are drawn of so many clients.
  package static func count(_ share: Double, of clients: Int) -> Int {
    SampleSize.roundedUp(share * Double(clients))
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
