import Foundation
import PeatControl
import PeatEdge
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("What a cell's rounds leave") struct CellRulesTests {
  /// Still devices of one kind, with memory for every level.
  private var still: EdgeConfiguration {
    var edge = EdgeConfiguration.pedestrian
    edge.mobility.model = .still
    edge.classes = [edge.classes[0]]
    edge.classes[0].battery = nil
    edge.classes[0].memory = Spread(2e9, 2e9)
    edge.rounds = 4
    return edge
  }

  // MARK: What the deadline cuts off

  @Test func `a download that the deadline cuts off leaves no emulator`() throws {
    var edge = still
    edge.levels = [edge.levels[0]]
    edge.levels[0].bytes = 1e12
    let played = try EdgeEnvironment.play(edge, planner: "everyone", episodes: 3, seed: 1)
    let receiving =
      edge.classes[0].receivePower * edge.deadline * Double(edge.devices * edge.rounds)
    for summary in played.summaries {
      // It is sent anew in each round, and nobody ever trains.
      #expect(summary.bytesUp == 0 && summary.gap == 1)
      #expect(abs(summary.joules - receiving) < 1e-6 * receiving)
      #expect(summary.exposure > 0 && summary.exposure < 0.5)
      #expect(summary.bytesDown < 0.5 * 1e12 * Double(edge.devices * edge.rounds))
    }
    // Twice the time: twice as much of all that.
    edge.deadline *= 2
    let longer = try EdgeEnvironment.play(edge, planner: "everyone", episodes: 3, seed: 1)
    for (long, short) in zip(longer.summaries, played.summaries) {
      #expect(abs(long.bytesDown / short.bytesDown - 2) < 1e-6)
      #expect(abs(long.joules / short.joules - 2) < 1e-6)
      #expect(abs(long.exposure / short.exposure - 2) < 1e-6)
    }
  }

  @Test func `training that the deadline cuts off takes energy until then`() throws {
    var edge = still
    edge.levels = [edge.levels[0]]
    edge.levels[0].work = 1e20
    // Time enough for every download, and no band for those that are slow anyway.
    edge.radio.sharing = .equal
    edge.deadline = 1e6
    let played = try EdgeEnvironment.play(edge, planner: "everyone", episodes: 3, seed: 1)
    let own = edge.classes[0]
    let most =
      edge.deadline * max(own.receivePower, own.energyPerOperation * own.compute.high)
      * Double(edge.devices * edge.rounds)
    for summary in played.summaries {
      #expect(summary.bytesUp == 0 && summary.gap == 1)
      #expect(summary.joules > 0 && summary.joules <= most)
      // What is on the device is whole, and is not sent again.
      #expect(summary.exposure == 1)
      let once = edge.levels[0].bytes + Double(edge.rounds) * edge.adapterBytes
      #expect(abs(summary.bytesDown - once * Double(edge.devices)) < 1)
    }
  }

  // MARK: What ages

  @Test func `the same bytes once more are no newer, where the owner does not make levels anew`()
    throws
  {
    func play(_ planner: String, _ age: LevelAge, ageing: Double = 0.3) throws -> EdgeSummary {
      var edge = still
      edge.rounds = 12
      (edge.levelsAge, edge.learning.ageing) = (age, ageing)
      return try #require(
        try EdgeEnvironment.play(edge, planner: planner, episodes: 1, seed: 1).summaries.first)
    }
    let (held, sent) = (
      try play("one-level", .sinceSent), try play("one-level-refreshing", .sinceSent)
    )
    #expect(sent.gap < held.gap && sent.bytesDown > 2 * held.bytesDown)
    let (heldMade, sentMade) = (
      try play("one-level", .sinceMade), try play("one-level-refreshing", .sinceMade)
    )
    #expect(sentMade == heldMade && heldMade.bytesDown == held.bytesDown)
    #expect(heldMade.gap > 1.5 * (try play("one-level", .sinceMade, ageing: 0)).gap)
    // The heuristic sends anew after ten rounds what that makes fresh.
    let once = try play("heuristic", .sinceMade)
    #expect(try play("heuristic", .sinceSent).bytesDown > 1.5 * once.bytesDown)
  }

  @Test func `a planner that looks ahead knows that emulators age`() throws {
    var edge = still
    edge.rounds = 40
    edge.deadline = 1e6
    edge.objective.aim = .timeToTarget
    (edge.levelsAge, edge.learning.ageing) = (.sinceMade, 0)
    edge.radio.sharing = .dedicated
    func cost() throws -> Double {
      let cell = try EdgeEnvironment(edge, cells: 1, seed: 2).cells[0]
      let everyone = Array(
        repeating: EdgeDecision(isSelected: true, level: 0), count: edge.devices)
      return EdgeSearch(rounds: 20).value(of: everyone, cell)
    }
    let fresh = try cost()
    #expect(fresh.isFinite)
    edge.learning.ageing = 0.5
    // The target is never reached.
    #expect(try cost() > fresh + Double(edge.rounds))
    // Where what is sent is new, later rounds are left to later decisions.
    edge.levelsAge = .sinceSent
    #expect(try cost() == fresh)
  }

  // MARK: What a level shows

  @Test func `a level shows what its weights say, not all of its blocks`() throws {
    var edge = still
    edge.maxExposure = 0.7
    edge.levels = [edge.levels[0]]
    expectError(.badData, "gives away more than maxExposure") { try edge.validate() }
    edge.levels[0].shown = Array(repeating: 0.075, count: 8)
    let played = try EdgeEnvironment.play(edge, planner: "everyone", episodes: 2, seed: 1)
    for summary in played.summaries { #expect(abs(summary.exposure - 0.6) < 1e-9) }
    edge.levels[0].shown = [0.1]
    expectError(.badData, "'shown'", "8 blocks") { try edge.validate() }
    edge.levels[0].shown = Array(repeating: 0.2, count: 8)
    expectError(.badData, "of all 1") { try edge.validate() }
    edge.levels[0].shown = [0.26] + Array(repeating: 0.05, count: 7)
    expectError(.badData, "at most 0.25") { try edge.validate() }
    // Of a model with an encoder blocks differ.
    edge.levels[0].shown = [0.06, 0.06, 0.06, 0.06, 0.15, 0.15, 0.15, 0]
    try edge.validate()
  }

  @Test func `what levels show of a block adds up as in a run's ledger`() throws {
    var edge = still
    edge.levels = Array(edge.levels.prefix(3))
    let shown = [[0.05, 0.1], [0.05, 0.02], [0.125, 0.02]]
    let contents = shown.map { Dictionary(uniqueKeysWithValues: $0.enumerated().map { ($0, $1) }) }
    for level in 0..<3 {
      edge.levels[level].blocks = [0, 1]
      edge.levels[level].shown = shown[level]
    }
    var ledger = try ExposureLedger(contents: contents, wholeBlock: 0.125)
    for level in 0..<3 { ledger.note(level, for: "a") }
    edge.rounds = 40
    // By chance each level is sent sooner or later.
    let played = try EdgeEnvironment.play(edge, planner: "random", episodes: 4, seed: 1)
    for summary in played.summaries {
      #expect(abs(summary.exposure - ledger.exposure(of: "a")) < 1e-9)
    }
  }

  // MARK: What planners see

  @Test func `a report says nothing of a moment's fading`() throws {
    func seen(_ fading: RadioConfiguration.Fading) throws -> Set<[Float]> {
      var edge = still
      edge.radio.fading = fading
      let environment = try EdgeEnvironment(edge, cells: 1, seed: 3)
      let shape = environment.shape
      var observations = [Float](repeating: 0, count: shape.observationSize)
      let actions = [Int32](repeating: 0, count: shape.choices)
      var outcome = ControlOutcome()
      var result: Set<[Float]> = []
      for _ in 0..<3 {
        environment.observe(into: &observations)
        // The first two numbers of each device are those of its rates.
        result.insert(
          (0..<shape.devices).flatMap {
            [
              observations[$0 * shape.deviceFeatures],
              observations[$0 * shape.deviceFeatures + 1],
            ]
          })
        environment.step(actions, into: &outcome)
      }
      return result
    }
    #expect(try seen(.ergodic).count == 1)
    #expect(try seen(.block).count == 1)
  }

  // MARK: A run's planners

  private func plan(_ planner: String, share: Double) async throws -> RoundPlan {
    var edge = still
    edge.deadline = 1e6
    let cell = try SimulatedCell(
      edge, planner: planner, share: share, clients: ["a": 0.4, "b": 0.3, "c": 0.3],
      settings: WorkSettings(localSteps: 10, rank: 8), seed: 4)
    return try await cell.plan(
      FederationState(
        run: "r", round: 1, attempt: 1, rounds: 10,
        clients: ["a", "b", "c"].map { .init($0, allowedLevels: Set(0..<8)) },
        levels: (0..<8).map { .init($0, bytes: 1000) }))
  }

  @Test func `everyone and random plan in a cell as a coordinator does`() async throws {
    let everyone = try await plan("everyone", share: 0.5)
    #expect(everyone.participants == ["a", "b", "c"])
    #expect(
      everyone.assignments.sorted { $0.key < $1.key }.map(\.value.emulatorLevel) == [0, 1, 2])
    let second = try await plan("everyone:1", share: 0.5)
    #expect(second.assignments.values.allSatisfy { $0.emulatorLevel == 1 })
    let once = try await plan("download-once", share: 0.5)
    #expect(once.participants == everyone.participants)
    for (share, count) in [(0.1, 1), (0.5, 2), (1.0, 3)] {
      let plan = try await plan("random", share: share)
      #expect(plan.participants.count == count)
    }
  }

  // MARK: What a file says

  @Test func `a calibration is of the run that it was made for, and of no other`() {
    var measured = EdgeCalibration()
    (measured.model, measured.roundTokens) = ("abc", 100)
    var run = measured
    (run.bottom, run.top, run.emulators) = (1, 1, [nil, "def"])
    // An older file does not say more.
    #expect(measured.mismatch(with: run) == nil)
    (measured.bottom, measured.top, measured.emulators) = (1, 1, [nil, "def"])
    #expect(measured.mismatch(with: run) == nil)
    measured.bottom = 2
    #expect(measured.mismatch(with: run)?.contains("2 bottom blocks") == true)
    (measured.bottom, measured.emulators) = (1, [nil, nil])
    #expect(measured.mismatch(with: run)?.contains("emulator 1 was distilled") == true)
    var fewer = run
    fewer.emulators = [nil]
    #expect(
      measured.mismatch(with: fewer)?.contains("measured for 2 emulators, the run has 1") == true)
    measured.emulators = run.emulators
    measured.model = "other"
    #expect(measured.mismatch(with: run)?.contains("the model other") == true)
    #expect(EdgeCalibration().mismatch(with: run)?.contains("nothing in it was measured") == true)
  }

  @Test func `what differs from what was measured is said, with what it makes doubtful`() {
    var measured = EdgeCalibration()
    measured.model = "abc"
    (measured.method, measured.alpha) = ("lora of rank 8", 16)
    (measured.roundTokens, measured.stepTokens, measured.context) = (5120, 512, 128)
    measured.learningRate = Double(Float(0.003))
    func differences(_ change: (inout EdgeCalibration) -> Void) -> String {
      var run = measured
      change(&run)
      return measured.differences(from: run, name: "e.yaml", steps: "a guess").joined(
        separator: "\n")
    }
    #expect(differences { _ in }.isEmpty)
    for (change, words): ((inout EdgeCalibration) -> Void, [String]) in [
      ({ $0.method = "lora of rank 16" }, ["'e.yaml'", "rank 8", "rank 16", "memory is counted"]),
      ({ $0.learningRate = 0.01 }, ["rate of 0.003", "the run has 0.01", "how the loss falls"]),
      ({ $0.alpha = 32 }, ["alpha of 16", "has 32"]),
      ({ $0.roundTokens = 10240 }, ["10 local steps", "has 20", "a guess"]),
      (
        { ($0.roundTokens, $0.stepTokens) = (10240, 1024) },
        ["steps of 4 windows of 128 tokens", "has 8 windows of 128", "counted by tokens"]
      ),
      (
        { ($0.stepTokens, $0.roundTokens, $0.context) = (1024, 10240, 256) },
        ["4 windows of 256 tokens"]
      ),
    ] {
      let found = differences(change)
      for word in words { #expect(found.contains(word), "\(word): \(found)") }
      // One thing at a time.
      #expect(!found.contains("\n"), "\(found)")
    }
  }

  @Test func `numbers that can't be are refused with their range`() {
    func refuse(_ word: String, _ change: (inout EdgeConfiguration) -> Void) {
      var edge = EdgeConfiguration.pedestrian
      change(&edge)
      expectError(.badData, word) { try edge.validate() }
    }
    refuse("1e-6 to 1e12") { $0.objective.referenceTime = 1e13 }
    refuse("1 to 1e15") { $0.adapterBytes = 1e16 }
    refuse("1 to 100000") { $0.middleBlocks = 1_000_000 }
    refuse("each once") { $0.work.steps = [1, 1, 1] }
    refuse("each once") { $0.work.uploadBits = [32, 8, 8] }
    refuse("calibration.roundTokens") { $0.calibration.roundTokens = 1e-300 }
  }

  @Test func `more cells than memory holds are refused before they are made`() {
    var edge = EdgeConfiguration.pedestrian
    edge.devices = 100_000
    expectError(.usage, "Playing 100000000 federations", "Play fewer") {
      _ = try EdgeEnvironment(edge, cells: 100_000_000, seed: 0)
    }
  }

  @Test func `an estimate says null where there is no battery`() throws {
    let played = try EdgeEnvironment.play(.pedestrian, planner: "heuristic", episodes: 2, seed: 0)
    let data = try JSONEncoder().encode(EdgeEstimate(played, deadline: nil))
    let text = String(decoding: data, as: UTF8.self)
    #expect(text.contains("\"batteryShare\":null"), "\(text)")
  }
}
