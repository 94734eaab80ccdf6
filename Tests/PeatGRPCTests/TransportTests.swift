import Foundation
import PeatFederation
import PeatGRPC
import PeatTensor
import Testing

/// What a transport must do, the same for each.
@Suite("Transport", .timeLimit(.minutes(10))) struct TransportTests {
  static let rules = RoundRules(rounds: 3, minimumClients: 3)

  static func trainers() -> [ClientID: ToyTrainer] {
    [
      "anna": ToyTrainer(target: 1, examples: 10), "bo": ToyTrainer(target: -2, examples: 30),
      "cy": ToyTrainer(target: 0.5, examples: 5),
    ]
  }

  @Test(arguments: TransportKind.allCases)
  func `clients join, train and deliver until the run is complete`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: Self.rules,
        onRound: { round, adapter in
          ["round": Double(round), "first": Double(adapter["layers.0.lora_B"]?.scalars[0] ?? 0)]
        })
      let (run, clients) = try await federation.run(Self.trainers())

      #expect(run.ending == .completed)
      #expect(run.rounds.map(\.round) == [1, 2, 3])
      for record in run.rounds {
        #expect(record.delivered == ["anna", "bo", "cy"])
        #expect(record.metrics["round"] == Double(record.round))
        #expect(record.outcomes.map(\.exampleCount) == [10, 30, 5])
        #expect(record.outcomes.allSatisfy { $0.telemetry?.tokens == 10 })
      }
      #expect(run.adapter != ToyTrainer.adapter)
      #expect(
        run.rounds.last?.metrics["first"]
          == run.adapter["layers.0.lora_B"].map { Double($0.scalars[0]) })
      for (id, client) in clients {
        #expect(client.updates == 3 && client.rounds == 3 && client.failures == 0)
        #expect(client.ending == .completed)
        // Adapter three times, emulator once; the coordinator counted the same, and `update.json` on top.
        let adapter = SafeTensors.encode(ToyTrainer.adapter).count
        #expect(client.bytesDown == 3 * adapter + 1000 + 12)
        #expect(client.bytesUp == 3 * adapter)
        #expect(run.traffic[id]?.bytesDown == client.bytesDown)
        #expect((run.traffic[id]?.bytesUp ?? 0) > client.bytesUp)
      }
      let left = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      #expect(!left.contains("coordinator"), "the coordinator's folder is cleaned up")
    }
  }

  @Test func `both transports, and any order of arrival, give the same bits`() async throws {
    func adapter(
      _ kind: TransportKind, seed: UInt64 = 7, delays: [ClientID: Int] = [:]
    ) async throws -> NamedTensors {
      try await withTemporaryFolder { folder in
        let federation = try await Federation(
          kind, in: folder, rules: Self.rules, planner: EveryonePlanner(levels: .alternating),
          server: try ServerParticipation(weight: 0.25, trainer: ToyTrainer(target: 3)), seed: seed)
        var trainers = Self.trainers()
        for (id, milliseconds) in delays {
          trainers[id]?.onTrain = { _ in try await Task.sleep(for: .milliseconds(milliseconds)) }
        }
        return try await federation.run(trainers).run.adapter
      }
    }
    let inMemory = try await adapter(.inMemory)
    #expect(try await adapter(.gRPC) == inMemory)
    #expect(try await adapter(.gRPC, delays: ["anna": 30, "bo": 15]) == inMemory)
    #expect(try await adapter(.inMemory, delays: ["bo": 20, "cy": 40]) == inMemory)
    #expect(try await adapter(.inMemory, seed: 8) != inMemory)
  }

  @Test(arguments: TransportKind.allCases)
  func `a download goes on where it stopped`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(kind, in: folder, rules: RoundRules(rounds: 1))
      let stranger = try await federation.stranger("x")
      let blob = try #require(await federation.coordinator.levels[0].files.last)
      struct Enough: Error {}
      // Without a task there is nothing to fetch.
      let early = await #expect(throws: PeatError.self) {
        try await stranger.connection.download(
          DownloadRequest(caller: stranger.caller, digest: blob.digest)
        ) { _ in }
      }
      #expect(early?.message.contains("has no task") == true)
      let running = Task { try await federation.coordinator.run() }
      _ = try await stranger.task()

      let received = Log<Data>()
      await #expect(throws: (any Error).self) {
        try await stranger.connection.download(
          DownloadRequest(caller: stranger.caller, digest: blob.digest)
        ) { data in
          await received.add(data)
          if await received.values.count == 3 { throw Enough() }
        }
      }
      var data = await received.values.reduce(Data(), +)
      #expect(data.count == 192)

      let rest = Log<Data>()
      try await stranger.connection.download(
        DownloadRequest(caller: stranger.caller, digest: blob.digest, offset: data.count)
      ) { await rest.add($0) }
      data = await rest.values.reduce(data, +)
      #expect(data.count == blob.bytes && Digest(of: data) == blob.digest)

      for (digest, offset) in [(blob.digest, 5000), (Digest(of: Data("none".utf8)), 0)] {
        await #expect(throws: PeatError.self) {
          try await stranger.connection.download(
            DownloadRequest(caller: stranger.caller, digest: digest, offset: offset)
          ) { _ in }
        }
      }
      await federation.coordinator.cancel(reason: "enough")
      _ = await running.result
      await stranger.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that was stopped fetches only the rest of its emulator`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 1))
      let blob = try #require(await federation.coordinator.levels[0].files.last)
      let store = try FolderBlobStore(folder.appendingPathComponent("client-a"))
      try await store.append(Data(repeating: 1, count: 900), to: blob.digest, at: 0)

      let (_, clients) = try await federation.run(["a": ToyTrainer(target: 1)])
      let adapter = SafeTensors.encode(ToyTrainer.adapter).count
      #expect(clients["a"]?.bytesDown == adapter + 100 + 12)
    }
  }

  @Test func `an emulator that was changed on the disk is fetched again`() async throws {
    try await withTemporaryFolder { folder in
      func bytesDown() async throws -> Int? {
        let federation = try await Federation(
          .inMemory, in: folder, rules: RoundRules(rounds: 1, minimumClients: 1))
        let before = try await federation.run(["a": ToyTrainer(target: 1)]).clients["a"]
        return before?.bytesDown
      }
      let adapter = SafeTensors.encode(ToyTrainer.adapter).count
      #expect(try await bytesDown() == adapter + 1012)
      #expect(try await bytesDown() == adapter)
      let packages = folder.appendingPathComponent("client-a/packages")
      let package = try #require(
        try FileManager.default.contentsOfDirectory(atPath: packages.path).first)
      let file = packages.appendingPathComponent(package).appendingPathComponent("config.json")
      let handle = try FileHandle(forWritingTo: file)
      try handle.write(contentsOf: Data("X".utf8))
      try handle.close()
      #expect(try await bytesDown() == adapter + 1012)
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `an upload goes on where it stopped`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 1))
      let running = Task { try await federation.coordinator.run() }
      let stranger = try await federation.stranger("x")
      let task = try await stranger.task()
      let header = try stranger.header(task).json()
      let payload = SafeTensors.encode(ToyTrainer.adapter)
      let offer = UploadOffer(
        caller: stranger.caller, header: header,
        payload: BlobReference(digest: Digest(of: payload), bytes: payload.count))

      guard case .send(let ticket, 0) = try await stranger.connection.offer(offer) else {
        Issue.record("not asked for the update")
        return
      }
      try await federation.coordinator.receive(payload.prefix(50), ticket: ticket, offset: 0)
      guard case .send(let again, 50) = try await stranger.connection.offer(offer) else {
        Issue.record("not asked for the rest")
        return
      }
      let reply = try await stranger.connection.upload(payload, ticket: again, from: 50)
      #expect(reply == .accepted)
      // The verdict was lost on the way: asking again does no harm.
      #expect(try await stranger.connection.offer(offer) == .accepted)
      #expect(try await stranger.connection.nextTask(stranger.caller) == .finished(.completed))
      let report = try await running.value
      #expect(report.adapter == ToyTrainer.adapter)
      #expect(report.traffic["x"]?.bytesUp == payload.count + 2 * header.count)
      await stranger.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that fails is an outcome, and the round goes on`(kind: TransportKind) async throws
  {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(kind, in: folder, rules: Self.rules)
      var trainers = Self.trainers()
      trainers["bo"]?.onTrain = { task in
        if task.round == 2 { throw ToyTrainer.Failure.outOfMemory }
      }
      let (run, clients) = try await federation.run(trainers)
      #expect(
        run.rounds.map(\.delivered) == [
          ["anna", "bo", "cy"], ["anna", "cy"], ["anna", "bo", "cy"],
        ])
      guard
        case .failed(let reason)? = run.rounds[1].outcomes.first(where: { $0.client == "bo" })?
          .result
      else {
        Issue.record("\(run.rounds[1].outcomes)")
        return
      }
      #expect(reason == "out of memory")
      #expect(clients["bo"]?.failures == 1 && clients["bo"]?.updates == 2)
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that disappears does not hold up the round, and may come back`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 3, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      // "lost" takes its task, then its connection breaks without a word.
      let lost = try await federation.stranger("lost")
      let attendance = Task { try await lost.connection.attend(lost.caller) }
      var steady = ToyTrainer(target: 1)
      let secondRound = Door()
      steady.onTrain = { task in if task.round == 2 { await secondRound.pass() } }
      let client = try federation.client("steady", steady)
      let working = Task { try await client.run() }
      _ = try await lost.task()
      // Over gRPC the socket is closed under the open call, as when a process is killed.
      if kind == .inMemory { attendance.cancel() }
      await lost.connection.close()
      _ = await attendance.result
      // Round 1 closes without it.
      try await eventually("round 1 ends") { await federation.coordinator.report.rounds.count == 1 }
      // It comes back while round 2 is on, and takes part in round 3.
      let back = try federation.client("lost", ToyTrainer(target: 2))
      let returned = Task { try await back.run() }
      try await eventually("it joined") { await back.report.run != nil }
      await secondRound.open()

      let report = try await running.value
      #expect(report.rounds.map(\.delivered) == [["steady"], ["steady"], ["lost", "steady"]])
      guard case .lost? = report.rounds[0].outcomes.first?.result else {
        Issue.record("\(report.rounds[0].outcomes)")
        return
      }
      _ = try await working.value
      #expect(try await returned.value.updates == 1)
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client that starts anew within the round gets its task again`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      let door = Door()
      var slow = ToyTrainer(target: 1)
      slow.onTrain = { _ in await door.pass() }
      let other = try federation.client("other", slow)
      let working = Task { try await other.run() }

      let first = try await federation.stranger("restarts")
      let task = try await first.task()
      let second = try federation.client("restarts", ToyTrainer(target: 2))
      let again = Task { try await second.run() }
      try await eventually("it delivered") { await second.report.updates == 1 }
      // The first process learns that it is no longer listened to.
      #expect(try await first.connection.nextTask(first.caller) == .superseded)
      #expect(try await first.connection.attend(first.caller) == .superseded)
      await door.open()
      let report = try await running.value
      #expect(report.rounds.map(\.delivered) == [["other", "restarts"]])
      #expect(task.round == 1)
      _ = try await working.value
      _ = try await again.value
      await first.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `without a coordinator a client says so, tries again and gives up`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      let heard = Log<ClientProgress>()
      let client = try federation.client(
        "a", ToyTrainer(target: 1), onProgress: { event in Task { await heard.add(event) } })
      let working = Task { try await client.run() }
      try await eventually("it joined") { await client.report.run != nil }
      await federation.transport.cut()

      let error = await #expect(throws: PeatError.self) { try await working.value }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("4 tries") == true)
      try await eventually("it was told") {
        let tries = await heard.values.compactMap { event in
          if case .unreachable(_, _, let attempt, 4) = event { attempt } else { nil }
        }
        return Set(tries) == [2, 3, 4]
      }
      running.cancel()
      _ = await running.result
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `two emulator levels train one adapter`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: Self.rules, planner: EveryonePlanner(levels: .alternating))
      let trainers = Self.trainers()
      let (run, clients) = try await federation.run(trainers)
      #expect(run.rounds[0].outcomes.map(\.emulatorLevel) == [0, 1, 0])
      #expect(run.rounds.allSatisfy { $0.delivered.count == 3 })
      let adapter = SafeTensors.encode(ToyTrainer.adapter).count
      #expect(clients["anna"]?.bytesDown == 3 * adapter + 1012)
      #expect(clients["bo"]?.bytesDown == 3 * adapter + 712)
      for (id, level) in [("anna", 0), ("bo", 1), ("cy", 0)] {
        let trainer = try #require(trainers[try ClientID(id)])
        let seen = await trainer.seen.preparations.last
        #expect(seen?.level == level)
        #expect(seen?.files == ["config.json", "model.safetensors"])
      }
    }
  }

  struct Refreshing: RoundPlanner {
    func plan(_ state: FederationState) async throws -> RoundPlan {
      var plan = try await EveryonePlanner().plan(state)
      plan.assignments["a"]?.refresh = state.round == 2
      plan.assignments["a"]?.localSteps = state.round
      // The planner sees what the client holds, and what it measured.
      if state.round > 1, state.clients.first?.holds != [0] || state.clients.first?.telemetry == nil
      {
        throw PeatError.badData("the state does not say what the client holds and measured")
      }
      return plan
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a refresh fetches the emulator again, and the plan's steps are done`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 3, minimumClients: 1), planner: Refreshing())
      let trainer = ToyTrainer(target: 1)
      let (_, clients) = try await federation.run(["a": trainer])
      let adapter = SafeTensors.encode(ToyTrainer.adapter).count
      #expect(clients["a"]?.bytesDown == 3 * adapter + 2 * 1012)
      #expect(await trainer.seen.tasks.map(\.localSteps) == [1, 2, 3])
      #expect(await trainer.seen.preparations.count == 2)
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `the random planner's choice takes part, and no one else`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let planner = try RandomPlanner(share: 0.6, seed: 4)
      let federation = try await Federation(kind, in: folder, rules: Self.rules, planner: planner)
      let (run, clients) = try await federation.run(Self.trainers())
      for record in run.rounds {
        #expect(record.delivered.count == 2)
        #expect(record.delivered == record.plan.participants)
      }
      #expect(clients.values.reduce(0) { $0 + $1.updates } == 6)
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a cancelled run ends for the clients too, in the middle of training`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 1))
      var endless = ToyTrainer(target: 1)
      let started = Door()
      endless.onTrain = { _ in
        await started.open()
        try await Task.sleep(for: .seconds(100))
      }
      let client = try federation.client("a", endless)
      let working = Task { try await client.run() }
      let running = Task { try await federation.coordinator.run() }
      await started.pass()
      running.cancel()
      await #expect(throws: CancellationError.self) { try await running.value }
      guard case .cancelled? = try await working.value.ending else {
        Issue.record("the client did not hear of it")
        return
      }
      #expect(await federation.coordinator.report.rounds.isEmpty)
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a cancelled client leaves, and the coordinator knows at once`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2), grace: .seconds(100))
      let running = Task { try await federation.coordinator.run() }
      var endless = ToyTrainer(target: 1)
      let started = Door()
      endless.onTrain = { _ in
        await started.open()
        try await Task.sleep(for: .seconds(100))
      }
      let leaving = try federation.client("leaving", endless)
      let staying = try federation.client("staying", ToyTrainer(target: 1))
      let first = Task { try await leaving.run() }
      let second = Task { try await staying.run() }
      await started.pass()
      first.cancel()
      await #expect(throws: CancellationError.self) { try await first.value }
      let report = try await running.value
      #expect(report.rounds.first?.outcomes.first?.result == .lost(reason: "It left."))
      #expect(report.rounds.first?.delivered == ["staying"])
      _ = try await second.value
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `at the deadline the round closes without those that are late`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let federation = try await Federation(
        kind, in: folder,
        rules: RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(600)), clock: clock,
        heartbeat: .seconds(3600))
      let running = Task { try await federation.coordinator.run() }
      let late = try await federation.stranger("late")
      let client = try federation.client("quick", ToyTrainer(target: 1))
      let working = Task { try await client.run() }
      let task = try await late.task()
      #expect(task.deadlineSeconds == 600)
      try await eventually("the other delivered") { await client.report.updates == 1 }
      #expect(await federation.coordinator.report.rounds.isEmpty)
      try await eventually("the run ends") {
        clock.advance(by: .seconds(601))
        return await federation.coordinator.report.ending != nil
      }
      let reply = try await late.send(late.header(task), SafeTensors.encode(ToyTrainer.adapter))
      guard case .refused(let refusal) = reply else {
        Issue.record("\(reply)")
        return
      }
      #expect([.notExpected, .wrongRound].contains(refusal.code))
      let report = try await running.value
      #expect(report.rounds.first?.delivered == ["quick"])
      #expect(report.rounds.first?.outcomes.first?.result == .late)
      _ = try await working.value
      await late.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `when nobody can do the work, the run ends and says why`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2, attempts: 2))
      var broken = ToyTrainer(target: 1)
      broken.onTrain = { _ in throw PeatError.badData("the data file is empty") }
      let one = try federation.client("a", broken)
      let two = try federation.client("b", broken)
      async let first = one.run()
      async let second = two.run()
      let error = await #expect(throws: PeatError.self) { try await federation.coordinator.run() }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("tried 2 times") == true)
      #expect(error?.message.contains("the data file is empty") == true)
      for report in [try await first, try await second] {
        #expect(report.failures == 2)
        guard case .failed? = report.ending else {
          Issue.record("\(report)")
          return
        }
      }
      #expect(await federation.coordinator.report.failedAttempts.count == 2)
      await federation.transport.cut()
    }
  }

  @Test func `the server's part counts by its weight, and with 0 not at all`() async throws {
    func adapter(_ server: ServerParticipation?) async throws -> NamedTensors {
      try await withTemporaryFolder { folder in
        let federation = try await Federation(
          .inMemory, in: folder, rules: RoundRules(rounds: 1, minimumClients: 1), server: server)
        return try await federation.run(["a": ToyTrainer(target: 1)]).run.adapter
      }
    }
    let serverTrainer = ToyTrainer(target: 5)
    let alone = try await adapter(nil)
    let zero = try await adapter(try ServerParticipation(weight: 0, trainer: serverTrainer))
    #expect(zero == alone)
    let half = try await adapter(try ServerParticipation(weight: 0.5, trainer: serverTrainer))
    let task = try #require(await serverTrainer.seen.tasks.last)
    #expect(task.client == .server && task.round == 1)
    let own = try await serverTrainer.train(task, adapter: ToyTrainer.adapter).tensors
    // One client: its adapter and the server's count the same.
    let both = [ClientUpdate(alone, exampleCount: 1), ClientUpdate(own, exampleCount: 1)]
    #expect(half == (try FedAvg().aggregate(both, into: alone).state))
    #expect(half != alone)
  }

  @Test func `a failure of evaluation or planner ends the run with its own code`()
    async throws
  {
    struct BadPlanner: RoundPlanner {
      func plan(_ state: FederationState) async throws -> RoundPlan {
        RoundPlan(["a": .init(emulatorLevel: 9)])
      }
    }
    let cases: [((URL) async throws -> Federation, PeatError.Code, String)] = [
      (
        {
          try await Federation(
            .inMemory, in: $0, rules: RoundRules(rounds: 1),
            onRound: { _, _ in throw PeatError.badData("no text") })
        }, .badData, "no text"
      ),
      (
        {
          try await Federation(
            .inMemory, in: $0, rules: RoundRules(rounds: 1), planner: BadPlanner())
        }, .usage, "level 9"
      ),
    ]
    for (make, code, text) in cases {
      try await withTemporaryFolder { folder in
        let federation = try await make(folder)
        let client = try federation.client("a", ToyTrainer(target: 1))
        async let working = client.run()
        let error = await #expect(throws: PeatError.self) {
          try await federation.coordinator.run()
        }
        #expect(error?.code == code)
        #expect(error?.message.contains(text) == true)
        _ = try await working
      }
    }
  }
}
