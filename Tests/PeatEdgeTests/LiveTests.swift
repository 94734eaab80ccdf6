import Foundation
import PeatControl
import PeatEdge
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("Planning a live federation") struct LiveTests {
  private static func level(_ name: String, _ bytes: Double, _ fidelity: Double) -> EmulatorLevel {
    EmulatorLevel(
      name, bytes: bytes, work: bytes * 1000, memory: bytes * 10, fidelity: fidelity, blocks: [])
  }

  private static let levels = [level("large", 1e6, 1), level("small", 3e5, 0.7)]

  private func planner(_ name: String, choices: WorkChoices = WorkChoices()) throws -> LivePlanner {
    try LivePlanner(
      name,
      settings: LiveSettings(
        levels: Self.levels, adapterBytes: 1e5, deadline: 600, choices: choices,
        work: WorkSettings(localSteps: 10, rank: 8)), seed: 0)
  }

  /// Clients of these link rates in bytes per second.
  private func state(
    _ rates: [ClientID: Double?], round: Int = 1, minimumUpdates: Int = 1
  ) -> FederationState {
    FederationState(
      run: "r", round: round, attempt: 1, rounds: 20,
      clients: rates.keys.sorted().map { name in
        var client = FederationState.ClientState(name, allowedLevels: [0, 1])
        client.freeMemoryBytes = 1 << 30
        if let rate = rates[name] ?? nil {
          client.rates = DeviceRates(download: rate, upload: rate, compute: 1e10)
        }
        return client
      },
      levels: [.init(0, bytes: 1_000_000), .init(1, bytes: 300_000)],
      minimumUpdates: minimumUpdates)
  }

  @Test func `who is much slower than the others stays out, with a reason and a regret`()
    async throws
  {
    for name in ["heuristic", "lookahead"] {
      let plan = try await planner(name).plan(state(["a": 1e6, "b": 1e6, "c": 8e5, "d": 2e3]))
      #expect(plan.participants == ["a", "b", "c"], "\(name)")
      #expect(plan.assignments["d"]?.reason?.contains("stays out") == true)
      #expect(plan.assignments.values.allSatisfy { $0.regret != nil })
      #expect(try #require(plan.regret) >= 0)
    }
    // The search regrets nothing against itself.
    let plan = try await planner("lookahead").plan(state(["a": 1e6, "b": 1e6]))
    #expect(plan.regret == 0)
  }

  @Test(arguments: 1...14)
  func `the heuristic leaves out the slowest three tenths, rounded down`(count: Int) async throws {
    let rates = (0..<count).map {
      (ClientID(stringLiteral: "client-\(10 + $0)"), Optional(1e6 - 1e4 * Double($0)))
    }
    let plan = try await planner("heuristic").plan(
      state(Dictionary(uniqueKeysWithValues: rates)))
    let kept = count - count * 3 / 10
    #expect(plan.participants == rates.prefix(kept).map(\.0))
    for assignment in plan.assignments.values where !assignment.participates {
      #expect(assignment.emulatorLevel == nil)
    }
  }

  @Test func `who is not known begins on the smallest emulator`() async throws {
    let plan = try await planner("lookahead").plan(state(["a": nil, "b": 1e6]))
    #expect(plan.assignments["a"]?.emulatorLevel == 1)
    #expect(plan.assignments["a"]?.reason?.contains("nothing is known") == true)
  }

  @Test func `the smallest that would lock the best out is not where to begin`() async throws {
    var state = state(["a": nil])
    // After the small level, the large one would pass the limit.
    state.exposure = try ExposureLedger(contents: [[0: 0.5, 1: 0.25], [2: 0.25]], limit: 0.8)
    let plan = try await planner("lookahead").plan(state)
    #expect(plan.assignments["a"]?.emulatorLevel == 0)
  }

  @Test func `a level that was made anew is worth what it is worth now`() async throws {
    let planner = try planner("lookahead")
    var state = state(["a": 1e6])
    #expect(try await planner.plan(state).assignments["a"]?.emulatorLevel == 0)
    state.round = 2
    state.clients[0].delivered = 1
    state.clients[0].holds = [0, 1]
    await planner.update(fidelities: [0.1, 0.7])
    #expect(try await planner.plan(state).assignments["a"]?.emulatorLevel == 1)
    await planner.renew(0, fidelity: 0.95)
    // The new one is not there yet, and worth sending.
    state.clients[0].holds = [1]
    #expect(try await planner.plan(state).assignments["a"]?.emulatorLevel == 0)
  }

  @Test func `a round gets the updates that it needs`() async throws {
    let plan = try await planner("heuristic").plan(
      state(["a": 1e6, "b": 1e6, "c": 1e6, "d": 1e3], minimumUpdates: 4))
    #expect(plan.participants == ["a", "b", "c", "d"])
    #expect(plan.assignments["d"]?.reason?.contains("added") == true)
    #expect(plan.assignments.filter(\.value.isAdded).map(\.key) == ["d"])
  }

  @Test func `memory and exposure are kept to`() async throws {
    var state = state(["a": 1e6, "b": 1e6, "c": 1e6])
    state.clients[0].freeMemoryBytes = 5_000_000
    state.clients[1].freeMemoryBytes = 1_000_000
    state.clients[2].allowedLevels = []
    for name in LivePlanner.names {
      let plan = try await planner(name).plan(state)
      #expect(plan.assignments["a"].map { !$0.participates || $0.emulatorLevel == 1 } == true)
      #expect(plan.assignments["b"]?.participates == false)
      #expect(plan.assignments["b"]?.reason?.contains("memory") == true)
      #expect(plan.assignments["c"]?.participates == false)
      #expect(plan.assignments["c"]?.reason?.contains("maxExposure") == true)
    }
  }

  @Test func `what clients report is believed within what is possible`() async throws {
    let planner = try planner("lookahead")
    var state = state(["a": .infinity, "b": -5, "c": .nan, "d": 1e300])
    for number in state.clients.indices {
      state.clients[number].rates = DeviceRates(
        download: [.infinity, -5, .nan, 1e300][number], upload: 1, compute: 1e-300)
    }
    _ = try await planner.plan(state)
    for round in 2..<6 {
      state.round = round
      for number in state.clients.indices {
        state.clients[number].delivered = round - 1
        state.clients[number].telemetry = Telemetry(
          bytesDown: .max, bytesUp: .max, downloadSeconds: 1e-300, computeSeconds: 1e300,
          uploadSeconds: 1e-300)
        state.clients[number].exampleCount = .max
      }
      let plan = try await planner.plan(state)
      #expect(plan.participants.count >= 1)
      #expect(plan.regret.map(\.isFinite) ?? true)
    }
  }

  @Test func `who says that it is quick is believed only until a round shows that it is not`()
    async throws
  {
    let planner = try planner("heuristic")
    var state = state(["a": 1e6, "b": 1e6, "c": 1e6, "d": 1e9])
    state.clients[3].rates.compute = 1e15
    #expect(try await planner.plan(state).participants.contains("d"))
    // Each reports a quick round; of the last one the coordinator saw five minutes.
    for round in 2...3 {
      state.round = round
      for number in state.clients.indices {
        let seconds = number == 3 ? 300.0 : 1
        let seen = ObservedTrip(
          seconds: seconds, downloadSeconds: 0.1 * seconds, uploadSeconds: 0.2 * seconds,
          bytesDown: 100_000, bytesUp: 100_000)
        let claim = Telemetry(
          bytesDown: .max, bytesUp: .max, downloadSeconds: 1e-9, computeSeconds: 1e-9,
          uploadSeconds: 1e-9)
        state.clients[number].delivered = round - 1
        state.clients[number].holds = [1]
        state.clients[number].observed = seen
        state.clients[number].telemetry = claim.bounded(by: seen)
      }
      let plan = try await planner.plan(state)
      #expect(plan.participants == ["a", "b", "c"], "\(plan.assignments)")
    }
  }

  @Test func `who takes much longer than the heuristic's slowest is decided for by the heuristic`()
    async throws
  {
    // The search would wait for b: it has nearly all of the data.
    var state = state(["a": 1e6, "b": 1e5, "c": 1e6, "d": 1e6])
    for number in state.clients.indices {
      state.clients[number].exampleCount = number == 1 ? 1_000 : 100
    }
    let plan = try await planner("lookahead").plan(state)
    let assignment = try #require(plan.assignments["b"])
    #expect(assignment.reason?.hasPrefix("shield: ") == true, "\(assignment)")
    #expect(!assignment.participates)
  }

  @Test func `one client's claim of much data does not push the others out`() async throws {
    var state = state(["a": 1e6, "b": 1e6, "c": 1e6, "d": 1e6])
    for number in state.clients.indices {
      state.clients[number].exampleCount = number == 0 ? 1_000_000_000 : 100
    }
    let plan = try await planner("lookahead").plan(state)
    #expect(plan.participants == ["a", "b", "c", "d"])
  }

  @Test func `what a client no longer holds is sent again`() async throws {
    let planner = try planner("lookahead")
    var state = state(["a": 1e6])
    _ = try await planner.plan(state)
    state.round = 2
    state.clients[0].delivered = 1
    state.clients[0].telemetry = Telemetry(
      bytesDown: 1_000_000, bytesUp: 100_000, downloadSeconds: 1, computeSeconds: 0.1)
    state.clients[0].holds = [0]
    #expect(try await planner.plan(state).assignments["a"]?.reason?.contains("holds") == true)
    state.round = 3
    state.clients[0].holds = []
    #expect(try await planner.plan(state).assignments["a"]?.reason?.contains("is sent") == true)
  }

  @Test func `a level that lost its fidelity is left for a better one`() async throws {
    let planner = try planner("heuristic")
    var state = state(["a": nil, "b": nil])
    #expect(try await planner.plan(state).assignments["a"]?.emulatorLevel == 1)
    state.round = 2
    for number in state.clients.indices {
      state.clients[number].delivered = 1
      state.clients[number].holds = [1]
      state.clients[number].telemetry = Telemetry(
        bytesDown: 100_000, bytesUp: 100_000, downloadSeconds: 0.1, computeSeconds: 0.1,
        uploadSeconds: 0.1)
    }
    #expect(try await planner.plan(state).assignments["a"]?.emulatorLevel == 1)
    await planner.update(fidelities: [1, 0.5])
    state.round = 3
    let plan = try await planner.plan(state)
    #expect(
      plan.participants.allSatisfy { plan.assignments[$0]?.emulatorLevel == 0 },
      "\(plan.assignments)")
    #expect(!plan.participants.isEmpty)
  }

  @Test func `a controller plans for any number of clients, and for no other levels`() async throws
  {
    try await inTemporaryFolderAsync { folder in
      var edge = EdgeConfiguration.pedestrian
      edge.levels = Array(edge.levels.prefix(2))
      edge.work = .usual
      let shape = try EdgeEnvironment(edge, cells: 1, seed: 0).shape
      let network = try NetworkConfiguration(.shared, width: 8).make(for: shape, seed: 1)
      let file = folder.appendingPathComponent("c.safetensors")
      try ControllerFile(
        network,
        facts: .init(
          network: NetworkConfiguration(.shared, width: 8), shape: shape, environment: "x", steps: 1
        )
      ).write(to: file)
      let name = "learned:" + file.path
      try LivePlanner.check(name)
      let planner = try planner(name, choices: .usual)
      for count in [1, 3, 40] {
        let names = (0..<count).compactMap { try? ClientID("c\($0)") }
        let plan = try await planner.plan(
          state(Dictionary(uniqueKeysWithValues: names.map { ($0, 1e6) })))
        #expect(plan.assignments.count == count)
        for assignment in plan.assignments.values where assignment.participates {
          #expect([nil, 5, 20].contains(assignment.localSteps))
          #expect([nil, 0.5, 2].contains(assignment.learningRateScale))
          #expect([nil, 4].contains(assignment.trainedRank))
          #expect([32, 8].contains(assignment.uploadBits))
        }
      }
      // Trained to choose a device's work too, but here there is no choice.
      expectError(.badData, "was trained for") { _ = try self.planner(name) }
      try Data("x".utf8).write(to: file)
      expectError(.badData) { try LivePlanner.check(name) }
      expectError(.inputOutput, "gone") {
        try LivePlanner.check("learned:" + folder.path + "/gone")
      }
      expectError(.usage, "Unknown planner 'lookahed'", "lookahead") {
        try LivePlanner.check("lookahed")
      }
    }
  }
}

/// `inTemporaryFolder` for work that waits.
private func inTemporaryFolderAsync(_ body: (URL) async throws -> Void) async throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
    "live-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try await body(folder)
}
