import PeatTensor

/// Nobody ever takes part: the baseline that costs nothing. Rounds pass without clients, and plug-in stays what the full model was.
///
/// Nobody is added either where a round needs updates (`minimumUpdates`). A coordinator that takes part itself trains alone.
public struct IdlePlanner: RoundPlanner {
  public static let name = "idle"

  public init() {}

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    .skipping(state.clients.map(\.client), because: "idle: nobody is ever asked")
  }
}
