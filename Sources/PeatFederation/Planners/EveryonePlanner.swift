import PeatTensor

/// Every client takes part in every round.
public struct EveryonePlanner: RoundPlanner {
  /// How clients are spread over the emulator levels.
  public enum LevelRule: Sendable, Equatable {
    /// All clients on one level.
    case fixed(Int)
    /// The first client (by name) on the first level, the second on the second, and so on in a circle.
    case alternating
    /// Each stays with what it holds, also when that was made anew; who holds nothing gets levels as in `alternating`.
    case held
    /// The largest whose training fits into the client's free memory, by what it takes as far as that is known.
    case fitting
    /// The largest package that fits `timesPackage` times into the client's free memory; the smallest if none does,
    /// or if the client does not say how much it has.
    case byMemory(timesPackage: Double)
  }

  public static let name = "everyone"
  public let levels: LevelRule

  public init(levels: LevelRule = .fixed(0)) { self.levels = levels }

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    guard !state.levels.isEmpty else {
      throw PeatError.usage("There is no emulator to give to clients.")
    }
    var plan = RoundPlan([:])
    for (place, client) in state.clients.enumerated() {
      // Where clients are planned for one by one, each has a place of its own.
      let wanted = try level(of: client, client.place ?? place, state)
      var assignment =
        wanted.map { state.assignment(of: client, wanting: $0) }
        ?? state.fittingAssignment(of: client)
      if assignment.reason == nil, let level = assignment.emulatorLevel {
        assignment.reason = "everyone takes part, on level \(level)"
      }
      plan.assignments[client.client] = assignment
    }
    return plan
  }

  private func level(
    of client: FederationState.ClientState, _ place: Int, _ state: FederationState
  ) throws -> Int? {
    switch levels {
    case .fitting: return nil
    case .fixed(let level):
      guard state.levels.contains(where: { $0.level == level }) else {
        let known = state.levels.map { String($0.level) }.joined(separator: ", ")
        throw PeatError.usage("There is no emulator level \(level). Known: \(known).")
      }
      return level
    case .alternating: return state.levels[place % state.levels.count].level
    case .held: return client.holds.min() ?? state.levels[place % state.levels.count].level
    case .byMemory(let factor):
      let bySize = state.levels.sorted { ($1.bytes, $0.level) < ($0.bytes, $1.level) }
      let free = Double(client.freeMemoryBytes ?? 0)
      return (bySize.first { Double($0.bytes) * factor <= free } ?? bySize[bySize.count - 1]).level
    }
  }
}
