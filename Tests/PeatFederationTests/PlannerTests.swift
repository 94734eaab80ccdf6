import Foundation
import PeatFederation
import PeatTensor
import Testing

@Suite("RoundPlanner") struct PlannerTests {
  func state(_ names: [ClientID], round: Int = 1, levels: [Int] = [100, 60]) -> FederationState {
    FederationState(
      run: "r", round: round, attempt: 1, rounds: 10,
      clients: names.map {
        FederationState.ClientState($0, allowedLevels: Set(levels.indices))
      },
      levels: levels.enumerated().map { .init($0.offset, bytes: $0.element) })
  }

  @Test func `everyone takes part on the fixed level`() async throws {
    let plan = try await EveryonePlanner(levels: .fixed(1)).plan(state(["a", "b"]))
    #expect(plan.participants == ["a", "b"])
    #expect(plan.assignments.values.allSatisfy { $0.emulatorLevel == 1 && !$0.refresh })
  }

  @Test func `alternating gives clients the levels in turn, by name`() async throws {
    let plan = try await EveryonePlanner(levels: .alternating).plan(state(["a", "b", "c"]))
    #expect(plan.assignments["a"]?.emulatorLevel == 0)
    #expect(plan.assignments["b"]?.emulatorLevel == 1)
    #expect(plan.assignments["c"]?.emulatorLevel == 0)
  }

  @Test func `by memory, a client gets the largest emulator that fits`() async throws {
    var state = state(["large", "silent", "small", "tiny"])
    state.clients[0].freeMemoryBytes = 300
    state.clients[2].freeMemoryBytes = 199
    state.clients[3].freeMemoryBytes = 10
    let plan = try await EveryonePlanner(levels: .byMemory(timesPackage: 2)).plan(state)
    #expect(plan.assignments["large"]?.emulatorLevel == 0)
    #expect(plan.assignments["small"]?.emulatorLevel == 1)
    #expect(plan.assignments["tiny"]?.emulatorLevel == 1)
    #expect(plan.assignments["silent"]?.emulatorLevel == 1)
  }

  @Test func `a level that does not exist is an error`() async {
    await #expect(throws: PeatError.self) {
      try await EveryonePlanner(levels: .fixed(2)).plan(state(["a"]))
    }
  }

  @Test func `random draws the share, rounded up, and over rounds everybody`() async throws {
    let names: [ClientID] = ["a", "b", "c", "d", "e"]
    let planner = try RandomPlanner(share: 0.5, seed: 3)
    var drawn: Set<ClientID> = []
    var levels: Set<Int> = []
    for round in 1...20 {
      let plan = try await planner.plan(state(names, round: round))
      #expect(plan.participants.count == 3)
      drawn.formUnion(plan.participants)
      levels.formUnion(plan.assignments.values.compactMap(\.emulatorLevel))
    }
    #expect(drawn == Set(names))
    #expect(levels == [0, 1])
  }

  @Test func `random draws as many as a round needs, those first that it draws anyway`()
    async throws
  {
    let names: [ClientID] = ["a", "b", "c", "d", "e"]
    let planner = try RandomPlanner(share: 0.2, seed: 3)
    for round in 1...10 {
      var state = state(names, round: round)
      let one = try await planner.plan(state)
      #expect(one.participants.count == 1 && !one.assignments.values.contains { $0.isAdded })
      state.minimumUpdates = 3
      // Who may be sent nothing is no help.
      let drawn = try #require(one.participants.first)
      let barred = try #require(names.first { $0 != drawn })
      for number in state.clients.indices where state.clients[number].client == barred {
        state.clients[number].allowedLevels = []
      }
      let plan = try await planner.plan(state)
      #expect(plan.participants.count == 3 && plan.participants.contains(drawn))
      #expect(!plan.participants.contains(barred))
      #expect(plan.assignments[drawn] == one.assignments[drawn])
      for (client, assignment) in plan.assignments where assignment.participates {
        #expect(assignment.isAdded == (client != drawn))
        let isSaid = assignment.reason?.hasPrefix("added, as a round needs 3 updates: random")
        #expect(isSaid == assignment.isAdded)
      }
    }
  }

  @Test func `random does not depend on the order in which clients came`() async throws {
    let planner = try RandomPlanner(share: 0.4, seed: 9)
    let one = try await planner.plan(state(["a", "b", "c", "d", "e"]))
    let other = try await planner.plan(state(["e", "c", "a", "d", "b"]))
    #expect(one == other)
    let otherSeed = try RandomPlanner(share: 0.4, seed: 10)
    var differs = false
    for round in 1...10 {
      let s = state(["a", "b", "c", "d", "e"], round: round)
      if try await planner.plan(s) != otherSeed.plan(s) { differs = true }
    }
    #expect(differs)
  }

  @Test(arguments: [0, -1, 1.1, .nan]) func `a share that makes no sense is refused`(share: Double)
  {
    #expect(throws: PeatError.self) { try RandomPlanner(share: share, seed: 0) }
  }

  @Test func `planners are found by name`() throws {
    #expect(
      Planners.names == [
        "availability", "by-memory", "download-once", "everyone", "everyone:LEVEL", "idle",
        "random",
        "utility",
      ])
    #expect(try Planners.named("random", seed: 1) is RandomPlanner)
    let error = #expect(throws: PeatError.self) { try Planners.named("evryone", seed: 1) }
    #expect(error?.message.contains("Did you mean 'everyone'?") == true)
  }

  @Test func `everyone can be told a level, or to stay with what is held`() async throws {
    #expect(Planners.knows("everyone:1") && !Planners.knows("everyone1"))
    let fixed = try await Planners.named("everyone:1", seed: 1).plan(state(["a", "b"]))
    #expect(fixed.assignments.values.allSatisfy { $0.emulatorLevel == 1 && $0.participates })
    #expect(fixed.assignments["a"]?.reason == "everyone takes part, on level 1")
    for name in ["everyone:", "everyone:-1", "everyone:x"] {
      let error = #expect(throws: PeatError.self) { try Planners.named(name, seed: 1) }
      #expect(error?.message.contains("number of an emulator") == true)
    }
    var state = state(["a", "b", "c"])
    state.clients[0].holds = [1]
    state.clients[2].holds = [1]
    let held = try await Planners.named("download-once", seed: 1).plan(state)
    #expect(["a", "b", "c"].map { held.assignments[$0]?.emulatorLevel } == [1, 1, 1])
    #expect(held.participants.count == 3)
  }

  @Test func `a plan is written with client names as keys`() throws {
    let plan = RoundPlan(["a": .init(emulatorLevel: 1, localSteps: 5)])
    let data = try JSONEncoder().encode(plan)
    #expect(try JSONDecoder().decode(RoundPlan.self, from: data) == plan)
    #expect(String(decoding: data, as: UTF8.self).contains("\"a\":{"))
  }
}

@Suite("ClientID") struct ClientIDTests {
  @Test(arguments: ["a", "Anna-2", "site_3.lab", "0", String(repeating: "x", count: 64)])
  func `plain names are taken`(name: String) throws { #expect(try ClientID(name).name == name) }

  @Test(arguments: [
    "", ".", "..", ".hidden", "-rf", "a/b", "a b", "ä", "a\n", "a\0",
    String(repeating: "x", count: 65),
  ])
  func `names that could be something else in a path or a log are refused`(name: String) {
    #expect(throws: PeatError.self) { try ClientID(name) }
    #expect(throws: PeatError.self) { try RunID(name) }
  }
}
