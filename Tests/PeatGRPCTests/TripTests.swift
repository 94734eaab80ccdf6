import Foundation
import PeatFederation
import PeatTensor
import Synchronization
import Testing

/// Lets those take part that have a gigabyte.
private struct Demanding: RoundPlanner {
  func plan(_ state: FederationState) async throws -> RoundPlan {
    var plan = try await EveryonePlanner().plan(state)
    for client in state.clients {
      plan.assignments[client.client]?.participates = (client.freeMemoryBytes ?? 0) >= 1 << 30
    }
    return plan
  }
}

@Suite("Parts in a round, on the coordinator's clock", .timeLimit(.minutes(10)))
struct TripTests {
  @Test(arguments: TransportKind.allCases)
  func `who joins again before it delivers is no quicker for it`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1), clock: clock, heartbeat: .seconds(3600))
      let running = Task { try await federation.coordinator.run() }
      let first = try await federation.stranger("a")
      let task = try await first.task()
      for file in task.package.files {
        try await first.connection.download(
          DownloadRequest(caller: first.caller, digest: file.digest, offset: 0)
        ) { _ in }
      }
      clock.advance(by: .seconds(100))
      let second = try await federation.stranger("a")
      #expect(try await second.task().round == 1)
      #expect(
        try await second.send(second.header(task), SafeTensors.encode(ToyTrainer.adapter))
          == .accepted)
      _ = try await second.connection.nextTask(second.caller)
      let outcome = try #require(try await running.value.rounds.first?.outcomes.first)
      let observed = try #require(outcome.observed)
      #expect(observed.seconds == 100)
      #expect(observed.bytesDown == task.package.bytes)
      for stranger in [first, second] { await stranger.connection.close() }
      await federation.transport.cut()
    }
  }

  @Test func `who lets a round wait in vain rests, for longer each time`() async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let evaluated = Log<Int>()
      let doors = [Door(), Door()]
      let federation = try await Federation(
        .inMemory, in: folder,
        rules: RoundRules(rounds: 9, minimumClients: 2, deadline: .seconds(600)), clock: clock,
        heartbeat: .seconds(100_000),
        onRound: { round, _ in
          await evaluated.add(round)
          if round == 1 { await doors[0].pass() }
          if round == 4 { await doors[1].pass() }
          return [:]
        })
      let running = Task { try await federation.coordinator.run() }
      var late = try await federation.stranger("late")
      let client = try federation.client("quick", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      for (round, door) in zip([1, 4], doors) {
        #expect(try await late.task().round == round)
        try await eventually("the other delivered") {
          await client.report.updates == (round == 1 ? 1 : 4)
        }
        try await eventually("round \(round) is evaluated") {
          clock.advance(by: .seconds(601))
          return await evaluated.values.contains(round)
        }
        // It is there again before the next round is planned.
        late = try await federation.stranger("late")
        await door.open()
      }
      #expect(try await late.task().round == 9)
      try await eventually("the run ends") {
        if await client.report.updates == 9 { clock.advance(by: .seconds(601)) }
        return await federation.coordinator.report.ending != nil
      }
      _ = try await working.value
      let rounds = try await running.value.rounds
      #expect(rounds.map { $0.outcomes.count } == [2, 1, 1, 2, 1, 1, 1, 1, 2])
      #expect(rounds[0].outcomes[0].result == .late)
      #expect(rounds[0].outcomes[0].observed.map { $0.seconds >= 600 } == true)
      let reason = rounds[1].plan.assignments["late"]?.reason
      #expect(reason == "a round waited for it in vain: rests until round 4")
      let second = rounds[4].plan.assignments["late"]?.reason
      #expect(second == "2 rounds in a row waited for it in vain: rests until round 9")
      await late.connection.close()
    }
  }

  @Test func `who is late is asked again at once where a round needs it`() async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        .inMemory, in: folder,
        rules: RoundRules(
          rounds: 1, deadline: .seconds(600), gatheringDeadline: .seconds(100_000)), clock: clock,
        heartbeat: .seconds(100_000))
      let running = Task { try await federation.coordinator.run() }
      let late = try await federation.stranger("late")
      #expect(try await late.task().attempt == 1)
      try await eventually("the first attempt is over") {
        clock.advance(by: .seconds(601))
        return await !federation.coordinator.report.failedAttempts.isEmpty
      }
      let task = try await late.task()
      #expect(task.attempt == 2)
      #expect(
        try await late.send(late.header(task), SafeTensors.encode(ToyTrainer.adapter)) == .accepted)
      _ = try await late.connection.nextTask(late.caller)
      let report = try await running.value
      #expect(report.rounds.first?.attempt == 2)
      // It may have worked on all the time: the second attempt is the same part.
      #expect(report.rounds.first?.outcomes.first?.observed.map { $0.seconds >= 601 } == true)
    }
  }

  @Test func `who delivered in an attempt that did not count begins anew in the next`() async throws
  {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        .inMemory, in: folder,
        rules: RoundRules(
          rounds: 1, minimumClients: 2, minimumUpdates: 2, deadline: .seconds(600),
          gatheringDeadline: .seconds(100_000)), clock: clock, heartbeat: .seconds(100_000))
      let running = Task { try await federation.coordinator.run() }
      let names: [ClientID] = ["quick", "slow"]
      var strangers: [Stranger] = []
      for name in names { strangers.append(try await federation.stranger(name)) }
      let first = try await strangers[0].task()
      _ = try await strangers[1].task()
      clock.advance(by: .seconds(10))
      #expect(
        try await strangers[0].send(
          strangers[0].header(first), SafeTensors.encode(ToyTrainer.adapter)) == .accepted)
      try await eventually("the first attempt is over") {
        clock.advance(by: .seconds(601))
        return await !federation.coordinator.report.failedAttempts.isEmpty
      }
      // Who was late is there again.
      let asking = strangers.map { stranger in Task { try await stranger.task() } }
      var tasks: [TrainingTask] = []
      for task in asking { tasks.append(try await task.value) }
      #expect(tasks.map(\.attempt) == [2, 2])
      clock.advance(by: .seconds(5))
      for (stranger, task) in zip(strangers, tasks) {
        var header = stranger.header(task)
        header.exampleCount = 2
        #expect(
          try await stranger.send(header, SafeTensors.encode(ToyTrainer.adapter)) == .accepted)
      }
      for stranger in strangers { _ = try await stranger.connection.nextTask(stranger.caller) }
      let outcomes = try #require(try await running.value.rounds.first?.outcomes)
      #expect(outcomes.map(\.client) == names)
      #expect(outcomes[0].observed?.seconds == 5)
      #expect(outcomes[1].observed.map { $0.seconds >= 615 } == true)
    }
  }

  @Test func `who fails early again and again is asked less`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 10, minimumClients: 2))
      var failing = ToyTrainer(target: 2)
      failing.onTrain = { _ in throw ToyTrainer.Failure.outOfMemory }
      let (run, clients) = try await federation.run([
        "good": ToyTrainer(target: 1), "weak": failing,
      ])
      // After the third in a row it rests for two rounds, after the fourth for four.
      #expect(run.rounds.map { $0.outcomes.count } == [2, 2, 2, 1, 1, 2, 1, 1, 1, 1])
      #expect(clients["weak"]?.failures == 4)
      let reason = run.rounds[3].plan.assignments["weak"]?.reason
      #expect(reason == "its last 3 parts came to nothing: rests until round 6")
    }
  }

  @Test func `who fails just before half of each round's time is over rests as if it were late`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        .inMemory, in: folder,
        rules: RoundRules(rounds: 6, minimumClients: 2, deadline: .seconds(600)), clock: clock,
        heartbeat: .seconds(100_000))
      var failing = ToyTrainer(target: 2)
      failing.onTrain = { task in
        // The other one's update is there.
        try await eventually("the other delivered") {
          await federation.progress.values.contains {
            if case .updateArrived("good", task.round, _) = $0 { true } else { false }
          }
        }
        clock.advance(by: .seconds(290))
        throw ToyTrainer.Failure.outOfMemory
      }
      let (run, _) = try await federation.run(["good": ToyTrainer(target: 1), "weak": failing])
      #expect(run.rounds.map { $0.outcomes.count } == [2, 2, 1, 1, 2, 1])
      let reason = run.rounds[2].plan.assignments["weak"]?.reason
      #expect(reason == "its last 2 parts came to nothing: rests until round 5")
    }
  }

  @Test func `seconds of an earlier attempt at a round are not counted again in the next`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      var rules = RoundRules(rounds: 2, minimumClients: 2, deadline: .seconds(600))
      // Time passes only where somebody trains.
      rules.retryPause = .zero
      let federation = try await Federation(
        .inMemory, in: folder, rules: rules, clock: clock, heartbeat: .seconds(100_000))
      var good = ToyTrainer(target: 1)
      var weak = ToyTrainer(target: 2)
      weak.onTrain = { task in
        guard task.round == 1 else { return }
        clock.advance(by: .seconds(140))
        throw ToyTrainer.Failure.outOfMemory
      }
      good.onTrain = { task in
        if task.round == 1, task.attempt == 1 { throw ToyTrainer.Failure.outOfMemory }
      }
      let (run, _) = try await federation.run(["good": good, "weak": weak])
      let parts = [run.failedAttempts.first, run.rounds.first].map { $0?.outcomes.last }
      #expect(parts.map { $0?.client } == ["weak", "weak"])
      #expect(parts.map { $0?.observed?.seconds } == [140, 140])
      // Less than half of a round's time in both together, so that it need not rest.
      #expect(run.rounds.map { $0.outcomes.count } == [2, 2])
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a round waits for memory that is short for a moment`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        kind, in: folder,
        rules: RoundRules(rounds: 1, gatheringDeadline: .seconds(1_000_000)),
        planner: Demanding(), clock: clock, heartbeat: .seconds(2_000_000))
      let running = Task { try await federation.coordinator.run() }
      let asked = Counter()
      let client = try Client(
        ClientConfiguration(client: "a"), connection: try federation.transport.connect("a"),
        trainer: ToyTrainer(target: 1), workFolder: folder.appendingPathComponent("client-a"),
        logger: .quiet,
        // There is little when it joins and first asks for work.
        freeMemory: { asked.next() <= 2 ? 1 << 20 : 1 << 31 })
      let working = Task { try await client.run() }
      try await eventually("the run ends") {
        clock.advance(by: .seconds(1))
        return await federation.coordinator.report.ending != nil
      }
      let report = try await running.value
      #expect(report.ending == .completed && report.failedAttempts.isEmpty)
      #expect(report.rounds.first?.attempt == 1)
      let said = await federation.progress.values.filter {
        if case .roundWaits(_, let reason) = $0 {
          reason.contains("planned again")
        } else {
          false
        }
      }
      #expect(said.count == 1)
      _ = try await working.value
      await federation.transport.cut()
    }
  }
}

private final class Counter: Sendable {
  private let value = Mutex(0)
  func next() -> Int {
    value.withLock {
      $0 += 1
      return $0
    }
  }
}
