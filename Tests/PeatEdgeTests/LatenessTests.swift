import PeatEdge
import PeatFederation
import PeatTensor
import Testing

@Suite("Clients that do not deliver, in a live federation") struct LatenessTests {
  private static let levels = [
    EmulatorLevel("large", bytes: 1e6, work: 1e9, memory: 1e7, fidelity: 1, blocks: []),
    EmulatorLevel("small", bytes: 3e5, work: 3e8, memory: 3e6, fidelity: 0.7, blocks: []),
  ]

  private func planner(_ name: String) throws -> LivePlanner {
    try LivePlanner(
      name,
      settings: LiveSettings(
        levels: Self.levels, adapterBytes: 1e5, deadline: 600,
        work: WorkSettings(localSteps: 10, rank: 8)), seed: 0)
  }

  /// Four clients of equal claims; those of `quick` claim a thousand times as much.
  private func state(quick: Set<ClientID> = []) -> FederationState {
    FederationState(
      run: "r", round: 1, attempt: 1, rounds: 50,
      clients: (["a", "b", "c", "d"] as [ClientID]).map { name in
        var client = FederationState.ClientState(name, allowedLevels: [0, 1])
        client.freeMemoryBytes = 1 << 30
        let factor = quick.contains(name) ? 1e3 : 1
        client.rates = DeviceRates(download: 1e6, upload: 1e6, compute: 1e9 * factor)
        return client
      },
      levels: [.init(0, bytes: 1_000_000), .init(1, bytes: 300_000)])
  }

  /// All but the last have delivered in each round so far.
  private func deliver(_ state: inout FederationState, round: Int) {
    state.round = round
    for number in 0..<3 {
      state.clients[number].delivered += 1
      state.clients[number].holds = [0]
      let seen = ObservedTrip(
        seconds: 2, downloadSeconds: 0.1, uploadSeconds: 0.1, bytesDown: 100_000, bytesUp: 100_000)
      state.clients[number].observed = seen
      state.clients[number].telemetry = Telemetry(
        bytesDown: 100_000, downloadSeconds: 0.1, computeSeconds: 1)
    }
  }

  @Test(arguments: ["heuristic", "oort", "lookahead", "one-round"])
  func `who says that it is quick and lets a round wait until the deadline stays out`(
    name: String
  ) async throws {
    let planner = try planner(name)
    var state = state(quick: ["d"])
    let first = try await planner.plan(state)
    // To Oort it is as good as the others, and half of them take part.
    #expect(["oort", "one-round"].contains(name) || first.participants.contains("d"))
    deliver(&state, round: 4)
    state.clients[3].failed = 1
    state.clients[3].late = 1
    state.clients[3].lastLate = 1
    state.clients[3].missed = ObservedTrip(seconds: 600, downloadSeconds: 0.1, bytesDown: 100_000)
    for round in [4, 5] {
      state.round = round
      let plan = try await planner.plan(state)
      #expect(!plan.participants.contains("d"), "\(plan.assignments)")
    }
  }

  @Test func `what a part took until it came to nothing is the least that it takes`() async throws {
    // It failed after a minute, and no round waited for it until the deadline.
    let planner = try planner("heuristic")
    var state = state(quick: ["d"])
    _ = try await planner.plan(state)
    deliver(&state, round: 2)
    state.clients[3].failed = 1
    state.clients[3].missed = ObservedTrip(seconds: 60, downloadSeconds: 0.1, bytesDown: 100_000)
    let reason = try #require(try await planner.plan(state).assignments["d"]?.reason)
    #expect(reason.contains("stays out"), "\(reason)")
    let words = reason.split(separator: " ")
    let place = try #require(words.firstIndex(of: "s"))
    #expect(try #require(Double(words[place - 1])) > 50, "\(reason)")
  }

  @Test func `what happened long ago is forgotten`() async throws {
    let planner = try planner("heuristic")
    var state = state()
    _ = try await planner.plan(state)
    deliver(&state, round: 2)
    for number in state.clients.indices {
      state.clients[number].delivered = 100
      state.clients[number].holds = [0]
      state.clients[number].observed = state.clients[0].observed
      state.clients[number].telemetry = state.clients[0].telemetry
    }
    state.clients[3].late = 1
    state.clients[3].lastLate = 1
    #expect(try await !planner.plan(state).participants.contains("d"))
    state.round = 300
    let reason = try #require(try await planner.plan(state).assignments["d"]?.reason)
    #expect(!reason.contains("deadline"), "\(reason)")
  }

  @Test(arguments: ["heuristic", "oort"])
  func `of those that are as quick, the one that fails often stays out`(name: String) async throws {
    var state = state()
    for number in state.clients.indices { state.clients[number].delivered = 10 }
    // Of the highest rank beside equals, by its name.
    state.clients[0].failed = 10
    let plan = try await planner(name).plan(state)
    #expect(
      !plan.participants.contains("a") && plan.participants.count >= 2, "\(plan.participants)")
  }

  @Test(arguments: [0, 1e-300])
  func `who reports that it hardly computed is not believed`(compute: Double) async throws {
    let planner = try planner("heuristic")
    var state = state(quick: ["d"])
    #expect(try await planner.plan(state).participants.contains("d"))
    deliver(&state, round: 2)
    let seen = ObservedTrip(
      seconds: 300, downloadSeconds: 0.1, uploadSeconds: 0.1, bytesDown: 100_000, bytesUp: 100_000)
    state.clients[3].delivered = 1
    state.clients[3].holds = [0]
    // Nothing is left of the trip beside the download.
    var served = seen
    served.downloadSeconds = 299.9
    for bounds in [seen, served] {
      state.clients[3].observed = bounds
      state.clients[3].telemetry = Telemetry(downloadSeconds: 1e9, computeSeconds: compute)
        .bounded(by: bounds)
      state.clients[3].telemetry?.bytesDown = 1_000_000_000
      let plan = try await planner.plan(state)
      #expect(!plan.participants.contains("d"), "\(plan.assignments)")
      state.round += 1
      state.clients[3].delivered += 1
    }
  }
}
