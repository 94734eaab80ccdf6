import Foundation
import PeatEdge
import PeatFederation
import PeatTensor
import Synchronization
import Testing

@Suite("What a run in a simulated cell says of its rounds") struct RunInCellTests {
  /// Still devices of one kind whose reports are right.
  private func cell(
    _ planner: String, _ clients: [ClientID: Double] = ["a": 0.5, "b": 0.3, "c": 0.2],
    share: Double = 0.5, attempts: Int = 3, seed: UInt64 = 4,
    changing change: (inout EdgeConfiguration) -> Void = { _ in },
    onLostRound: @escaping @Sendable (LostRound) -> Void = { _ in }
  ) throws -> SimulatedCell {
    var edge = EdgeConfiguration.pedestrian
    edge.mobility.model = .still
    edge.classes = [edge.classes[0]]
    edge.classes[0].battery = nil
    edge.classes[0].memory = Spread(2e9, 2e9)
    edge.deadline = 1e6
    change(&edge)
    return try SimulatedCell(
      edge, planner: planner, share: share, clients: clients,
      settings: WorkSettings(localSteps: 10, rank: 8), attempts: attempts, seed: seed,
      onLostRound: onLostRound)
  }

  private func state(
    _ round: Int, attempt: Int = 1, minimumUpdates: Int = 1,
    clients: [ClientID] = ["a", "b", "c"], metrics: [String: Double] = [:]
  ) -> FederationState {
    var state = FederationState(
      run: "r", round: round, attempt: attempt, rounds: 10,
      clients: clients.map { .init($0, allowedLevels: Set(0..<8)) },
      levels: (0..<8).map { .init($0, bytes: 1000) }, minimumUpdates: minimumUpdates)
    state.metrics = metrics
    return state
  }

  @Test(arguments: [["plugIn": 3.0], ["plugIn": 0.9, LearningModel.lossMetric: 1.1]])
  func `one that is played again from its memory goes on as it would have`(
    metrics: [String: Double]
  ) async throws {
    func made() throws -> SimulatedCell {
      try cell("lookahead") { $0.learning.finalLoss = 0.5 }
    }
    let first = try made()
    for round in 1...3 {
      _ = try await first.plan(state(round, metrics: round == 1 ? [:] : metrics))
    }
    let again = try made()
    try await again.restore(await first.memory()) { _, _ in true }
    let (before, replayed) = (await first.rounds, await again.rounds)
    #expect(before == replayed)
    // What was measured counts.
    #expect(before[1].predictedGap != before[0].predictedGap)
    let next = state(4, metrics: metrics)
    let plans = (try await first.plan(next), try await again.plan(next))
    #expect(plans.0 == plans.1)
  }

  /// The seconds that reasons give.
  private func expected(_ plan: RoundPlan) -> [Double] {
    plan.assignments.sorted { $0.key < $1.key }.compactMap { assignment in
      assignment.value.reason?.firstMatch(of: /([0-9.e+]+) s expected/).flatMap { Double($0.1) }
    }
  }

  @Test(arguments: [RadioConfiguration.Sharing.optimal, .equal, .dedicated])
  func `the seconds that are expected are those that pass`(
    sharing: RadioConfiguration.Sharing
  ) async throws {
    let cell = try cell("everyone:0") { $0.radio.sharing = sharing }
    for round in 1...3 {
      let plan = try await cell.plan(state(round))
      let seconds = expected(plan)
      #expect(seconds.count == 3)
      let passed = try #require(await cell.rounds.last?.seconds)
      let aggregation = EdgeConfiguration.pedestrian.aggregation
      let longest = try #require(seconds.max())
      // Reasons are rounded; shadowing moves a little.
      #expect(
        abs(longest + aggregation - passed) < 0.02 * passed + 0.1,
        "\(longest) + \(aggregation), \(passed)")
    }
  }

  @Test func `who stays out is expected to take as long as beside the others`() async throws {
    let cell = try cell("random", share: 0.3)
    let plan = try await cell.plan(state(1))
    #expect(plan.participants.count == 1)
    let all = try self.cell("everyone:0")
    let longest = try #require(expected(try await all.plan(state(1))).max())
    let out = plan.assignments.values.filter { !$0.participates }
    #expect(out.count == 2)
    for assignment in out {
      #expect(assignment.emulatorLevel == nil && assignment.localSteps == nil)
      let reason = try #require(assignment.reason)
      #expect(reason.contains("s expected on level 0"), "\(reason)")
    }
    // Beside one, no longer than beside two on the same level.
    #expect(expected(plan).allSatisfy { $0 <= longest * 1.01 })
  }

  @Test func `rounds that came to nothing are told, and what they left is said`() async throws {
    let told = Mutex<[LostRound]>([])
    let cell = try cell(
      "everyone:0", attempts: 1000, changing: { $0.classes[0].dropout = 0.6 },
      onLostRound: { lost in told.withLock { $0.append(lost) } })
    var words = Set<String>()
    for round in 1...6 {
      let before = told.withLock { $0.count }
      let plan = try await cell.plan(state(round, minimumUpdates: 3))
      let lost = told.withLock { Array($0[before...]) }
      let record = try #require(await cell.rounds.last)
      #expect(record.lostRounds == lost.count && record.round == round)
      #expect(lost.map(\.attempt) == Array(0..<lost.count).map { $0 + 1 })
      for one in lost {
        #expect(one.round == round && one.needed == 3 && one.asked == ["a", "b", "c"])
        #expect(one.delivered.count < 3 && one.seconds > 0)
        #expect(one.deadline == 1e6 && !one.isLast)
      }
      #expect(lost.reduce(0) { $0 + $1.seconds } < record.seconds)
      for assignment in plan.assignments.values {
        let reason = try #require(assignment.reason)
        // Before the first round nobody holds anything.
        #expect(round > 1 || !reason.contains("holds"), "\(reason)")
        words.formUnion(
          ["is sent", "in a lost round", "holds"].filter(reason.contains))
      }
    }
    #expect(words.isSuperset(of: ["in a lost round", "holds"]), "\(words)")
  }

  @Test func `a round is tried as often as the run says, here and in the federation together`()
    async throws
  {
    let told = Mutex<[LostRound]>([])
    func made() throws -> SimulatedCell {
      try cell(
        "everyone:0", changing: { $0.deadline = 0.01 },
        onLostRound: { lost in told.withLock { $0.append(lost) } })
    }
    for (attempt, expected) in [(1, [1, 2, 3]), (2, [2, 3]), (3, [3])] {
      told.withLock { $0 = [] }
      let cell = try made()
      let error = await #expect(throws: PeatError.self) {
        try await cell.plan(state(1, attempt: attempt))
      }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("Round 1 was tried 3 times") == true)
      let lost = told.withLock { $0 }
      #expect(lost.map(\.attempt) == expected && lost.map(\.isLast) == expected.map { $0 == 3 })
      // What it took is counted, although no round came of it.
      #expect(await cell.rounds.isEmpty)
      #expect(await cell.joules > 0)
    }
  }

  @Test func `what is foreseen repeats lost rounds as a run does`() throws {
    var edge = EdgeConfiguration.pedestrian
    for kind in edge.classes.indices { edge.classes[kind].dropout = 0.3 }
    (edge.devices, edge.deadline) = (3, 1e6)
    func play(minimumUpdates: Int, attempts: Int) throws -> [EdgeSummary] {
      try EdgeEnvironment.play(
        edge, planner: "everyone", share: 0.5, episodes: 16, rounds: 10,
        minimumUpdates: minimumUpdates, attempts: attempts, seed: 1
      ).summaries
    }
    for summary in try play(minimumUpdates: 0, attempts: 1) {
      #expect(summary.lostRounds == 0 && summary.rounds == 10 && !summary.endsEarly)
    }
    // All three deliver in every third attempt.
    let patient = try play(minimumUpdates: 3, attempts: 1000)
    for summary in patient { #expect(summary.rounds == 10 && !summary.endsEarly) }
    let lost = Double(patient.reduce(0) { $0 + $1.lostRounds }) / 160
    #expect(abs(lost - (1 / 0.343 - 1)) < 0.6, "\(lost)")
    let once = try play(minimumUpdates: 3, attempts: 1)
    for summary in once {
      #expect(summary.endsEarly == (summary.rounds < 10))
      #expect(summary.lostRounds == (summary.endsEarly ? 1 : 0))
    }
    #expect(once.contains { $0.endsEarly })
  }

  @Test func `the heuristic asks no more than the deadline leaves time for`() throws {
    func play(_ devices: Int, deadline: Double? = nil) throws -> EdgeSummary {
      var edge = EdgeConfiguration.pedestrian
      edge.devices = devices
      if let deadline { edge.deadline = deadline }
      return try EdgeEnvironment.play(
        edge, planner: "heuristic", episodes: 1, rounds: 10, seed: 3
      ).summaries[0]
    }
    // Not all of a hundred can download at once, but some can, and others after them.
    let many = try play(100)
    #expect(many.bytesUp > 100 * 7.5e6 && many.gap < 0.5, "\(many)")
    // Where nobody has time for the largest level, a smaller one does.
    let hasty = try play(10, deadline: 200)
    #expect(hasty.bytesUp > 10 * 7.5e6 && hasty.gap < 1, "\(hasty)")
    #expect(hasty.bytesDown < (try play(10)).bytesDown)
  }

  @Test func `the longest first round has time for all first downloads`() throws {
    var edge = EdgeConfiguration.pedestrian
    edge.deadline = 1e6
    let longest = try EdgeEnvironment.longestFirstRound(edge, episodes: 8, seed: 5)
    edge.deadline = 1.01 * longest
    edge.aggregation = 0
    let played = try EdgeEnvironment.play(
      edge, planner: "heuristic", episodes: 8, rounds: 1, minimumUpdates: 7, attempts: 1, seed: 5)
    for summary in played.summaries { #expect(summary.lostRounds == 0, "\(summary)") }
  }

  @Test func `a round that is planned again did nothing, but took its time`() async throws {
    func made() throws -> SimulatedCell { try cell("everyone:0") { $0.learning.ageing = 0 } }
    let (once, again) = (try made(), try made())
    _ = try await once.plan(state(1))
    _ = try await again.plan(state(1))
    _ = try await again.plan(state(1, attempt: 2))
    let (first, second) = (await once.rounds, await again.rounds)
    #expect(first.count == 1 && second.count == 1)
    #expect(second[0].lostRounds == 1 && second[0].seconds > first[0].seconds)
    #expect(abs(second[0].predictedGap / first[0].predictedGap - 1) < 1e-9)
    #expect(await again.seconds == second[0].seconds)
  }

  @Test func `idle is asked nothing, also where a round needs updates`() async throws {
    let cell = try cell("idle")
    for round in 1...3 {
      let plan = try await cell.plan(state(round, minimumUpdates: 2))
      #expect(plan.participants.isEmpty && plan.skipped != nil)
    }
    let rounds = await cell.rounds
    #expect(rounds.allSatisfy { $0.bytesDown == 0 && $0.joules == 0 && $0.delivered == 0 })
    #expect(rounds.map(\.predictedGap).allSatisfy { $0 == rounds[0].predictedGap })
  }

  @Test func `random draws the same clients and levels as without a cell`() async throws {
    let names = (1...12).map { ClientID(stringLiteral: "client-\($0)") }
    let clients = Dictionary(uniqueKeysWithValues: names.map { ($0, 1.0) })
    for seed: UInt64 in [1, 2] {
      let cell = try cell("random", clients, share: 0.3, seed: seed)
      let live = try RandomPlanner(share: 0.3, seed: seed)
      for round in 1...10 {
        let state = state(round, clients: names.sorted())
        let (inCell, outside) = (try await cell.plan(state), try await live.plan(state))
        #expect(inCell.participants == outside.participants)
        for client in inCell.participants {
          #expect(
            inCell.assignments[client]?.emulatorLevel == outside.assignments[client]?.emulatorLevel)
        }
      }
    }
  }

  @Test(arguments: [1, 4]) func `random draws a round that is tried again as without a cell`(
    minimumUpdates: Int
  ) async throws {
    let names = (1...12).map { ClientID(stringLiteral: "client-\($0)") }
    let clients = Dictionary(uniqueKeysWithValues: names.map { ($0, 1.0) })
    let cell = try cell("random", clients, share: 0.2)
    let live = try RandomPlanner(share: 0.2, seed: 4)
    var first: [ClientID] = []
    for attempt in 1...3 {
      let state = state(
        1, attempt: attempt, minimumUpdates: minimumUpdates, clients: names.sorted())
      let (inCell, outside) = (try await cell.plan(state), try await live.plan(state))
      #expect(inCell.participants.count == max(3, minimumUpdates))
      #expect(inCell.participants == outside.participants)
      for client in inCell.participants {
        let (own, other) = (inCell.assignments[client], outside.assignments[client])
        #expect(own?.emulatorLevel == other?.emulatorLevel && own?.isAdded == other?.isAdded)
      }
      if attempt == 1 { first = inCell.participants } else { #expect(inCell.participants != first) }
    }
  }

  @Test func `who is added although the planner left it out is marked`() async throws {
    let cell = try cell("random", share: 0.3)
    let plan = try await cell.plan(state(1, minimumUpdates: 3))
    #expect(plan.participants.count == 3)
    let added = plan.assignments.values.filter(\.isAdded)
    #expect(added.count == 2)
    for assignment in added {
      #expect(assignment.reason?.hasPrefix("added, as a round needs 3 updates: ") == true)
    }
  }
}
