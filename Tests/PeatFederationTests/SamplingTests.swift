import PeatFederation
import PeatTensor
import Testing

@Suite("Sampling of clients") struct SamplingTests {
  typealias State = FederationState.ClientState

  func state(
    _ clients: [State], round: Int = 10, minimumUpdates: Int = 1, levels: [Int] = [100, 60]
  ) -> FederationState {
    FederationState(
      run: "r", round: round, attempt: 1, rounds: 100, clients: clients,
      levels: levels.enumerated().map { .init($0.offset, bytes: $0.element) },
      minimumUpdates: minimumUpdates)
  }

  func client(_ name: ClientID, _ change: (inout State) -> Void = { _ in }) -> State {
    var state = State(name, allowedLevels: [0, 1])
    change(&state)
    return state
  }

  // MARK: How many

  @Test func `the goal is a share or a number, and more are asked for it`() throws {
    let share = try SampleSize(share: 0.25, overSelection: 1.3)
    #expect(share.goal(of: 40) == 10 && share.asked(of: 40) == 13)
    // 1.1 · 10 is no 11 in binary.
    #expect(try SampleSize(count: 10, overSelection: 1.1).asked(of: 40) == 11)
    #expect(try SampleSize(count: 10, overSelection: 3).asked(of: 12) == 12)
    #expect(try SampleSize(count: 10).goal(of: 4) == 4)
  }

  @Test func `numbers that make no sense are refused`() {
    for (share, count, over) in [
      (0, nil, 1), (1.1, nil, 1), (0.5, 0, 1), (0.5, nil, 0.9), (0.5, nil, 11),
      (Double.nan, nil, 1), (0.5, nil, Double.nan),
    ] as [(Double, Int?, Double)] {
      #expect(throws: PeatError.self) {
        try SampleSize(share: share, count: count, overSelection: over)
      }
    }
  }

  @Test func `a plan that asks more than needed says how many are enough`() async throws {
    let clients = (0..<20).map { client(ClientID(stringLiteral: "c\($0)")) }
    let size = try SampleSize(count: 8, overSelection: 1.5)
    for name in Planners.samplers {
      let plan = try await Planners.named(name, size: size, seed: 3).plan(state(clients))
      #expect(plan.participants.count == 12 && plan.enough == 8, "\(name)")
      let exact = try await Planners.named(name, size: SampleSize(count: 8), seed: 3)
        .plan(state(clients))
      #expect(exact.participants.count == 8 && exact.enough == nil, "\(name)")
      let needed = try await Planners.named(name, size: size, seed: 3)
        .plan(state(clients, minimumUpdates: 15))
      #expect(needed.participants.count == 15 && needed.enough == nil, "\(name)")
    }
  }

  // MARK: By availability

  @Test func `who can be counted on comes first`() async throws {
    let clients = [
      client("fails") { ($0.delivered, $0.failed, $0.presences, $0.lastAsked) = (2, 7, 10, 9) },
      client("rarely") { ($0.delivered, $0.failed, $0.presences, $0.lastAsked) = (2, 0, 2, 9) },
      client("steady") { ($0.delivered, $0.failed, $0.presences, $0.lastAsked) = (9, 0, 10, 9) },
    ]
    let planner = AvailabilityPlanner(size: try SampleSize(count: 1), seed: 1)
    let plan = try await planner.plan(state(clients))
    #expect(plan.participants == ["steady"])
    // (9 + 1) / (9 + 0 + 2) · (10 + 1) / (10 + 1)
    #expect(plan.assignments["steady"]?.reason?.contains("0.909") == true, "\(plan)")
  }

  @Test func `of two alike the one that delivered last comes first`() async throws {
    let clients = [
      client("a") { ($0.delivered, $0.presences, $0.lastAsked, $0.lastDelivered) = (5, 10, 8, 8) },
      client("b") { ($0.delivered, $0.presences, $0.lastAsked, $0.lastDelivered) = (5, 10, 9, 9) },
    ]
    let planner = AvailabilityPlanner(size: try SampleSize(count: 1), seed: 1)
    #expect(try await planner.plan(state(clients)).participants == ["b"])
  }

  @Test func `nobody starves`() async throws {
    // Ten clients, two a round: whoever waits for 2 · 10 / 2 rounds comes first.
    var clients = (0..<10).map { client(ClientID(stringLiteral: "c\($0)")) }
    let planner = AvailabilityPlanner(size: try SampleSize(count: 2), seed: 5)
    var longest = 0
    for round in 1...100 {
      for place in clients.indices { clients[place].presences += 1 }
      let plan = try await planner.plan(state(clients, round: round))
      #expect(plan.participants.count == 2)
      for place in clients.indices {
        let name = clients[place].client
        longest = max(longest, round - (clients[place].lastAsked ?? 0))
        guard plan.participants.contains(name) else { continue }
        clients[place].lastAsked = round
        // One of them never delivers.
        if name == "c3" {
          clients[place].failed += 1
        } else {
          (clients[place].delivered, clients[place].lastDelivered) =
            (clients[place].delivered + 1, round)
        }
      }
    }
    #expect(longest <= 14, "one waited for \(longest) rounds")
    let times = clients.map { $0.delivered + $0.failed }
    #expect((times.min() ?? 0) >= 7, "\(times)")
    // The one that fails is asked less often than those who deliver.
    #expect(clients[3].failed <= 12, "\(times)")
  }

  // MARK: By utility

  func seen(
    _ name: ClientID, examples: Int, loss: Double, seconds: Double, last: Int = 9
  ) -> State {
    client(name) {
      ($0.exampleCount, $0.loss, $0.lastAsked) = (examples, loss, last)
      $0.observed = ObservedTrip(seconds: seconds)
    }
  }

  @Test func `what the data teaches is weighed with the time that it takes`() async throws {
    // As shares of the largest: 300, 100, 300. Of 10, 10, 40 seconds the third quartile is 40.
    let clients = [
      seen("much", examples: 100, loss: 3, seconds: 10),
      seen("little", examples: 100, loss: 1, seconds: 10),
      seen("slow", examples: 100, loss: 3, seconds: 40),
      seen("slowest", examples: 100, loss: 3, seconds: 80),
    ]
    let plan = try await UtilityPlanner(size: try SampleSize(count: 4), seed: 1)
      .plan(state(clients))
    // 1 + √(0.1 · ln 10 / 9) = 1.16; a third of 1 and the same; 1.16 · (40 / 80)².
    let reasons = plan.assignments.mapValues { $0.reason ?? "" }
    #expect(reasons["much"]?.hasPrefix("utility: 1.16,") == true, "\(reasons)")
    #expect(reasons["little"]?.hasPrefix("utility: 0.493,") == true, "\(reasons)")
    #expect(reasons["slow"]?.hasPrefix("utility: 1.16,") == true, "\(reasons)")
    #expect(reasons["slowest"]?.hasPrefix("utility: 0.29,") == true, "\(reasons)")
  }

  @Test func `newcomers get their places, fewer as rounds pass`() async throws {
    let known = (0..<20).map {
      seen(ClientID(stringLiteral: "k\($0)"), examples: 10, loss: 1, seconds: 1)
    }
    let new = (0..<20).map { client(ClientID(stringLiteral: "n\($0)")) }
    let planner = UtilityPlanner(size: try SampleSize(count: 10), seed: 2)
    func newcomers(_ round: Int) async throws -> Int {
      try await planner.plan(state(known + new, round: round)).participants
        .filter { $0.name.hasPrefix("n") }.count
    }
    // 0.9 · 10; 0.9 · 0.98^30 = 0.49; at least 0.2.
    #expect(try await newcomers(1) == 9)
    #expect(try await newcomers(31) == 5)
    #expect(try await newcomers(500) == 2)
  }

  @Test func `the useful are drawn more often, and what was said long ago is doubted`()
    async throws
  {
    let clients = [
      seen("a", examples: 100, loss: 2, seconds: 1), seen("b", examples: 100, loss: 2, seconds: 1),
      seen("c", examples: 100, loss: 0.1, seconds: 1),
    ]
    let planner = UtilityPlanner(size: try SampleSize(count: 1), seed: 2)
    var times: [ClientID: Int] = [:]
    for round in 10..<60 {
      for client in try await planner.plan(state(clients, round: round)).participants {
        times[client, default: 0] += 1
      }
    }
    #expect(times["c"] == nil && (times["a"] ?? 0) > 10 && (times["b"] ?? 0) > 10, "\(times)")
    var old = clients
    old[2].lastAsked = 1
    old[2].loss = 1.9
    let fresh = UtilityPlanner.utilities(of: old, round: 60)
    #expect(fresh[2] > fresh[0])
  }

  // MARK: Levels

  @Test func `each gets the largest emulator that it has memory for`() async throws {
    var state = state(
      [
        client("large") { $0.freeMemoryBytes = 1000 }, client("silent"),
        client("small") { $0.freeMemoryBytes = 500 }, client("tiny") { $0.freeMemoryBytes = 10 },
      ], minimumUpdates: 4)
    state.levels = [
      .init(0, bytes: 100, memoryBytes: 900), .init(1, bytes: 60, memoryBytes: 500),
    ]
    for planner in [
      try Planners.named("by-memory", seed: 1), try Planners.named("everyone:0", seed: 1),
      AvailabilityPlanner(size: try SampleSize(count: 4), seed: 1),
      UtilityPlanner(size: try SampleSize(count: 4), seed: 1),
    ] {
      let plan = try await planner.plan(state)
      #expect(plan.assignments["large"]?.emulatorLevel == 0)
      #expect(plan.assignments["silent"]?.emulatorLevel == 0)
      #expect(plan.assignments["small"]?.emulatorLevel == 1)
      // It may have means of its own: it looks before it downloads.
      #expect(plan.assignments["tiny"]?.emulatorLevel == 1)
    }
    let fixed = try await Planners.named("everyone:0", seed: 1).plan(state)
    #expect(
      fixed.assignments["small"]?.reason
        == "level 0 would take 900 bytes of memory, and 500 are free; level 1 instead")
  }
}
