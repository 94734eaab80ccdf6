import Foundation
import PeatFederation
import PeatTensor
import Testing

/// Everyone takes part on the first level; a plan takes until it is let go.
private struct SlowPlanner: RoundPlanner {
  let begun = Door()
  let end = Door()

  func plan(_ state: FederationState) async throws -> RoundPlan {
    await begun.open()
    await end.pass()
    return try await EveryonePlanner().plan(state)
  }
}

/// What may go wrong beside a client's own work, and must not stop a run.
@Suite("Coordinator faults", .timeLimit(.minutes(10))) struct CoordinatorFaultTests {
  @Test(arguments: TransportKind.allCases)
  func `a client that dies right after joining does not hold up the round`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(600)),
        clock: clock, heartbeat: .seconds(10), grace: .seconds(3))
      let running = Task { try await federation.coordinator.run() }
      let dead = try await federation.stranger("dead")
      await dead.connection.close()
      let client = try federation.client("alive", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      try await eventually("the other delivered") { await client.report.updates == 1 }
      #expect(await federation.coordinator.report.rounds.isEmpty)
      try await eventually("the grace ends") {
        clock.advance(by: .milliseconds(100))
        return await federation.coordinator.report.ending != nil
      }
      let report = try await running.value
      #expect(report.rounds.first?.delivered == ["alive"])
      #expect(
        report.rounds.first?.outcomes.last?.result
          == .lost(reason: "Nothing was heard from it any more."))
      _ = try await working.value
      await federation.transport.cut()
    }
  }

  @Test func `who was turned away is not waited for, and what is waited for is told`() async throws
  {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      var rules = RoundRules(rounds: 1, minimumUpdates: 2, deadline: .seconds(600))
      rules.gatheringDeadline = .seconds(60)
      let federation = try await Federation(
        .inMemory, in: folder, rules: rules, clock: clock, heartbeat: .seconds(10),
        grace: .seconds(3))
      func waits(_ present: Int) async -> Bool {
        await federation.progress.values.contains {
          if case .waitsForClients(round: 1, present, needed: 2, atMost: .seconds(60)) = $0 {
            true
          } else {
            false
          }
        }
      }
      let running = Task { try await federation.coordinator.run() }
      try await eventually("nobody is there") { await waits(0) }
      let dead = try await federation.stranger("dead")
      let client = try federation.client("alive", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      try await eventually("the other delivered") { await client.report.updates == 1 }
      await federation.coordinator.turnedAway("dead", reason: "The certificate 1f was revoked.")
      await dead.connection.close()
      // Not until the round's deadline: only until the grace is over, and then until that of gathering.
      let start = clock.now
      try await eventually("the run ends") {
        clock.advance(by: .milliseconds(500))
        return await federation.coordinator.report.ending != nil
      }
      #expect(start.duration(to: clock.now) < .seconds(300))
      _ = try? await running.value
      let report = await federation.coordinator.report
      #expect(
        report.failedAttempts.first?.outcomes.last?.result
          == .failed(reason: "It was turned away. The certificate 1f was revoked."))
      #expect(await waits(1))
      guard case .failed(let reason)? = report.ending else {
        Issue.record("\(String(describing: report.ending))")
        return
      }
      #expect(reason.contains("only 1 was there") && reason.contains("lower minimumUpdates"))
      _ = try? await working.value
      await federation.transport.cut()
    }
  }

  /// What was taken in an attempt that came to nothing is sent again, and counts.
  @Test(arguments: TransportKind.allCases)
  func `a round that is tried again takes the update that it had`(kind: TransportKind) async throws
  {
    try await withTemporaryFolder { folder in
      var rules = RoundRules(rounds: 2, minimumClients: 2, minimumUpdates: 2)
      rules.retryPause = .milliseconds(20)
      let federation = try await Federation(kind, in: folder, rules: rules)
      let taken = Door()
      var failing = ToyTrainer(target: 1)
      failing.onTrain = { task in
        guard task.round == 1, task.attempt == 1 else { return }
        await taken.pass()
        throw PeatError.inputOutput("no room just now")
      }
      let steady = ToyTrainer(target: 1)
      let running = Task { try await federation.coordinator.run() }
      let clients = [
        try federation.client("a", steady), try federation.client("b", failing),
      ]
      let working = clients.map { client in Task { try await client.run() } }
      try await eventually("a's update was taken") {
        await federation.progress.values.contains {
          if case .updateArrived("a", round: 1, _) = $0 { true } else { false }
        }
      }
      await taken.open()
      let report = try await running.value
      #expect(report.rounds.map(\.attempt) == [2, 1])
      #expect(report.rounds.map(\.delivered) == [["a", "b"], ["a", "b"]])
      try await eventually("others were waited for, and that was told") {
        await federation.progress.values.contains {
          if case .waitsForOthers(round: 1, atMost: .milliseconds(20)) = $0 { true } else { false }
        }
      }
      // a did not train twice for it.
      #expect(await steady.seen.tasks.map(\.round) == [1, 2])
      for work in working { _ = try await work.value }
      await federation.transport.cut()
    }
  }

  @Test func `the server's own part may fail, and the round goes on without it`() async throws {
    try await withTemporaryFolder { folder in
      var broken = ToyTrainer(target: 5)
      broken.onTrain = { task in
        if task.round == 1 { throw PeatError.inputOutput("no server data") }
      }
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 2),
        server: try ServerParticipation(weight: 0.5, trainer: broken))
      let run = try await federation.run(["a": ToyTrainer(target: 1)]).run
      #expect(run.rounds.map(\.serverWeight) == [0, 0.5])
      #expect(run.rounds[0].serverFailure == "no server data")
      #expect(run.rounds[1].serverFailure == nil)
      let told = await federation.progress.values.contains {
        if case .serverFailed(round: 1, let reason) = $0 {
          reason == "no server data"
        } else {
          false
        }
      }
      #expect(told)
    }
  }

  @Test func `the server's own part does not outlast the deadline`() async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      var slow = ToyTrainer(target: 5)
      // Longer than any deadline; ends when it is cancelled.
      slow.onTrain = { _ in try await Task.sleep(for: .seconds(3600)) }
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 1, deadline: .seconds(600)),
        server: try ServerParticipation(weight: 0.5, trainer: slow), clock: clock)
      let running = Task { try await federation.coordinator.run() }
      let client = try federation.client("a", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      try await eventually("the client delivered") { await client.report.updates == 1 }
      #expect(await federation.coordinator.report.rounds.isEmpty)
      try await eventually("the round's time is over") {
        clock.advance(by: .seconds(601))
        return await federation.coordinator.report.ending != nil
      }
      let report = try await running.value
      #expect(report.rounds.first?.serverWeight == 0)
      #expect(report.rounds.first?.serverFailure?.contains("the round's time was over") == true)
      _ = try await working.value
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client holds one call open while it waits, and one while it trains`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      let (begun, end) = (Door(), Door())
      var trainer = ToyTrainer(target: 1)
      trainer.onTrain = { _ in
        await begun.open()
        await end.pass()
      }
      func expectOneCall() async throws {
        try await eventually("a call is open") {
          await federation.coordinator.openAttendances(of: "a") == 1
        }
        // And stays the only one.
        for _ in 0..<20 {
          try await Task.sleep(for: .milliseconds(5))
          #expect(await federation.coordinator.openAttendances(of: "a") <= 1)
        }
      }
      let clients = [
        try federation.client("a", trainer), try federation.client("b", ToyTrainer(target: 1)),
      ]
      var working = [Task { try await clients[0].run() }]
      try await expectOneCall()
      working.append(Task { try await clients[1].run() })
      await begun.pass()
      try await expectOneCall()
      await end.open()
      #expect(try await running.value.rounds.first?.delivered.count == 2)
      for client in working { _ = try await client.value }
      await federation.transport.cut()
    }
  }

  @Test func `only so many clients are remembered`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 1), clientLimit: 2)
      _ = try await federation.stranger("a")
      _ = try await federation.stranger("b")
      _ = try await federation.stranger("a")
      let error = await #expect(throws: PeatError.self) { try await federation.stranger("c") }
      #expect(error?.code == .unavailable)
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that froze is lost although its connection stands`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(600)),
        heartbeat: .milliseconds(200), grace: .seconds(2))
      let running = Task { try await federation.coordinator.run() }
      let client = try federation.client("alive", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      try await eventually("the other client is there") { await client.report.run != nil }
      let frozen = try await federation.stranger("frozen")
      let attendance = Task { try await frozen.connection.attend(frozen.caller) }
      // It is told to attend again, and does not.
      #expect(try await attendance.value == .again)
      let report = try await running.value
      #expect(report.rounds.first?.delivered == ["alive"])
      guard case .lost? = report.rounds.first?.outcomes.last?.result else {
        Issue.record("\(report.rounds)")
        return
      }
      _ = try await working.value
      await frozen.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that froze while it asked for work is not planned again`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        kind, in: folder,
        rules: RoundRules(rounds: 2, minimumClients: 2, gatheringDeadline: .seconds(100_000)),
        clock: clock, pollTimeout: .seconds(100_000), heartbeat: .seconds(10), grace: .seconds(5))
      let running = Task { try await federation.coordinator.run() }
      let frozen = try await federation.stranger("frozen")
      // Its last two calls are open, and then nothing more comes from it.
      let attendance = Task { try await frozen.connection.attend(frozen.caller) }
      let request = Task { try await frozen.connection.nextTask(frozen.caller) }
      try await eventually("the calls wait") {
        await federation.coordinator.openAttendances(of: "frozen") == 2
      }
      // One for all that wait, beside the gathering.
      try await eventually("it sleeps") { clock.sleeperCount == 2 }
      clock.advance(by: .seconds(10))
      #expect(try await attendance.value == .again)
      try await eventually("it is lost") {
        clock.advance(by: .seconds(1))
        return await federation.losses(of: "frozen") == 1
      }
      // The call for work hears of those who come now.
      let others = try ["a", "b"].map { try federation.client($0, ToyTrainer(target: 1)) }
      let working = others.map { client in Task { try await client.run() } }
      try await eventually("the run ends", within: .seconds(60)) {
        await federation.coordinator.report.ending != nil
      }
      #expect(try await request.value == .wait)
      let report = try await running.value
      #expect(report.rounds.map { $0.outcomes.map(\.client) } == [["a", "b"], ["a", "b"]])
      for client in working { #expect(try await client.value.updates == 2) }
      await frozen.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that asks for work but does not attend is lost, each time`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(600)),
        heartbeat: .milliseconds(200), grace: .seconds(1))
      let running = Task { try await federation.coordinator.run() }
      let end = Door()
      var steady = ToyTrainer(target: 1)
      steady.onTrain = { _ in await end.pass() }
      let client = try federation.client("alive", steady)
      let working = Task { try await client.run() }
      let silent = try await federation.stranger("silent")
      for times in 1...2 {
        #expect(try await silent.task().round == 1)
        try await eventually("it is lost") { await federation.losses(of: "silent") >= times }
      }
      await end.open()
      #expect(try await running.value.rounds.first?.delivered == ["alive"])
      _ = try await working.value
      await silent.connection.close()
      await federation.transport.cut()
    }
  }

  @Test func `a piece of an update that was written in part is not in the next one's way`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(.inMemory, in: folder, rules: RoundRules(rounds: 1))
      let coordinator = federation.coordinator
      let running = Task { try await coordinator.run() }
      let stranger = try await federation.stranger("a")
      let task = try await stranger.task()
      let payload = SafeTensors.encode(ToyTrainer.adapter)
      let offer = UploadOffer(
        caller: stranger.caller, header: try stranger.header(task).json(),
        payload: BlobReference(digest: Digest(of: payload), bytes: payload.count))
      guard case .send(let ticket, offset: 0) = try await stranger.connection.offer(offer) else {
        Issue.record("the update was not asked for")
        return
      }
      let half = payload.count / 2
      try await coordinator.receive(Data(payload.prefix(half)), ticket: ticket, offset: 0)
      // What a full disk leaves of the next piece: it was not taken, and is sent again.
      let file = folder.appendingPathComponent(
        "coordinator/a.\(offer.payload.digest.hex).incoming")
      let handle = try FileHandle(forWritingTo: file)
      try handle.seekToEnd()
      try handle.write(contentsOf: Data(repeating: 7, count: payload.count))
      try handle.close()
      #expect(try await stranger.connection.offer(offer) == .send(ticket: ticket, offset: half))
      try await coordinator.receive(Data(payload.dropFirst(half)), ticket: ticket, offset: half)
      #expect(try await coordinator.finishUpload(ticket: ticket) == .accepted)
      _ = try await stranger.connection.nextTask(stranger.caller)
      #expect(try await running.value.rounds.first?.delivered == ["a"])
      await stranger.connection.close()
    }
  }

  @Test
  func `a client that says while a round is planned what it holds is left out, not the run ended`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let planner = SlowPlanner()
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2), planner: planner,
        // Either level may be seen, but not both.
        exposure: try ExposureLedger(
          contents: [[0: 0.5], [1: 0.5]], limit: 0.5, wholeBlock: 0.5))
      let running = Task { try await federation.coordinator.run() }
      let first = try await federation.stranger("a")
      let client = try federation.client("b", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      await planner.begun.pass()
      let other = await federation.coordinator.levels[1].digest
      let second = try await federation.stranger("a", holds: [other])
      await planner.end.open()
      let report = try await running.value
      #expect(report.rounds.first?.delivered == ["b"])
      let assignment = try #require(report.rounds.first?.plan.assignments["a"])
      #expect(!assignment.participates)
      #expect(assignment.reason?.contains("maxExposure") == true, "\(assignment)")
      #expect(report.exposures["a"] == 0.5)
      _ = try await working.value
      for stranger in [first, second] { await stranger.connection.close() }
    }
  }

  @Test func `when all of a round are lost, it is tried again with those who came since`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 1, deadline: .seconds(600)))
      let running = Task { try await federation.coordinator.run() }
      let first = try await federation.stranger("first")
      _ = try await first.task()
      await first.connection.close()
      try await first.connection.leave(first.caller)
      let client = try federation.client("second", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      let report = try await running.value
      #expect(report.rounds.first?.delivered == ["second"])
      #expect(report.rounds.first?.attempt == 2)
      _ = try await working.value
    }
  }
}
