import Foundation
import PeatFederation
import PeatTensor
import Synchronization
import Testing

/// Asks all, of whom some are enough.
private struct Enough: RoundPlanner {
  let count: Int

  func plan(_ state: FederationState) async throws -> RoundPlan {
    var plan = try await EveryonePlanner().plan(state)
    if plan.participants.count > count { plan.enough = count }
    return plan
  }
}

/// A connection that can sleep as a phone does: nothing goes through, and nobody is told.
private final class SleepyConnection: CoordinatorConnection {
  let inner: any CoordinatorConnection
  let isAsleep = Mutex(false)

  init(_ inner: any CoordinatorConnection) { self.inner = inner }

  var address: String { inner.address }

  private func reach() throws -> any CoordinatorConnection {
    if isAsleep.withLock({ $0 }) { throw PeatError.unavailable("asleep") }
    return inner
  }

  func join(_ request: JoinRequest) async throws -> JoinReply { try await reach().join(request) }
  func nextTask(_ caller: Caller) async throws -> TaskReply { try await reach().nextTask(caller) }
  func download(
    _ request: DownloadRequest, to write: @Sendable (Data) async throws -> Void
  ) async throws { try await reach().download(request, to: write) }
  func offer(_ offer: UploadOffer) async throws -> UploadAnswer { try await reach().offer(offer) }
  func upload(
    _ payload: Data, ticket: String, from offset: Int, onSent: @escaping @Sendable (Int) -> Void
  ) async throws -> UploadReply {
    try await reach().upload(payload, ticket: ticket, from: offset, onSent: onSent)
  }
  func report(_ failure: FailureReport) async throws { try await reach().report(failure) }
  func attend(_ caller: Caller) async throws -> AttendReply { try await reach().attend(caller) }
  func leave(_ caller: Caller) async throws { try await reach().leave(caller) }
  func close() async { await inner.close() }
}

@Suite("Ways to run rounds", .timeLimit(.minutes(10))) struct RoundModeTests {
  /// A value in every place.
  static func filled(_ value: Float) -> NamedTensors {
    ToyTrainer.adapter.mapValues {
      Tensor(Array(repeating: value, count: $0.count), shape: $0.shape)
    }
  }

  /// Every place has the value, nearly.
  static func isFilled(_ adapter: NamedTensors, _ value: Float) -> Bool {
    adapter.values.allSatisfy { $0.scalars.allSatisfy { abs($0 - value) < 1e-5 } }
  }

  static func asynchronous(rounds: Int, size: Int, staleness: Int = 5) -> RoundRules {
    var rules = RoundRules(rounds: rounds, minimumClients: 2)
    rules.buffer = BufferRules(size: size)
    rules.staleness = Staleness(maximum: staleness)
    return rules
  }

  // MARK: Over-selection

  @Test(arguments: TransportKind.allCases)
  func `more are asked than needed, and the slowest is not waited for`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 2, minimumClients: 3, deadline: .seconds(600)),
        planner: Enough(count: 2), grace: .seconds(10))
      let (begun, end) = (Door(), Door())
      var slow = ToyTrainer(target: 9)
      slow.onTrain = { _ in
        await begun.open()
        await end.pass()
      }
      // One that has not begun when the round closes has nothing that it is at.
      func quick(_ target: Float) -> ToyTrainer {
        var trainer = ToyTrainer(target: target)
        trainer.onTrain = { _ in await begun.pass() }
        return trainer
      }
      let clients = try [
        federation.client("a", quick(1)), federation.client("b", quick(2)),
        federation.client("slow", slow),
      ]
      let working = clients.map { client in Task { try await client.run() } }
      let run = try await federation.coordinator.run()
      await end.open()
      #expect(run.rounds.map(\.delivered) == [["a", "b"], ["a", "b"]])
      #expect(run.rounds[0].outcomes.last?.result == .surplus)
      // It is at work on the first round still.
      #expect(run.rounds[1].outcomes.map(\.client) == ["a", "b"])
      for client in working { _ = try await client.value }
      #expect(await clients[2].report.updates == 0)
      await federation.transport.cut()
    }
  }

  // MARK: Late updates

  @Test(arguments: TransportKind.allCases)
  func `a late update is discounted, and added as what changed since it began`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      var rules = RoundRules(rounds: 3, minimumClients: 2, minimumUpdates: 1)
      rules.staleness = Staleness(maximum: 2, exponent: 1)
      let federation = try await Federation(
        kind, in: folder, rules: rules, planner: Enough(count: 1), adapter: Self.filled(0),
        onRound: { _, adapter in
          ["value": Double(adapter.values.first?.scalars.first ?? .nan)]
        })
      let running = Task { try await federation.coordinator.run() }
      let quick = try await federation.stranger("quick")
      let slow = try await federation.stranger("slow")
      let first = try await quick.task()
      let old = try await slow.task()
      #expect(old.round == 1 && old.baseDigest == first.baseDigest)
      func send(_ stranger: Stranger, _ task: TrainingTask, _ value: Float) async throws
        -> UploadReply
      {
        try await stranger.send(stranger.header(task), SafeTensors.encode(Self.filled(value)))
      }
      // Round 1: the adapter is 4 everywhere.
      #expect(try await send(quick, first, 4) == .accepted)
      let second = try await quick.task()
      #expect(second.round == 2 && second.baseDigest != first.baseDigest)
      // It began with 0 and came to 2, one round late: as if from 4 to 6, with half the weight.
      #expect(try await send(slow, old, 2) == .accepted)
      // It is not counted twice, nor can another take its place.
      #expect(try await send(slow, old, 2) == .accepted)
      guard case .refused(let refusal) = try await send(slow, old, 3) else {
        Issue.record("another update was taken for the same task")
        return
      }
      #expect(refusal.code == .wrongRound)
      #expect(try await send(quick, second, 7) == .accepted)
      // (1 · 7 + ½ · 6) / 1.5
      let third = try await quick.task()
      #expect(third.round == 3)
      #expect(try await send(quick, third, 7) == .accepted)
      _ = try? await quick.connection.nextTask(quick.caller)
      let run = try await running.value
      #expect(run.rounds[1].outcomes.map(\.client) == ["quick", "slow"])
      #expect(run.rounds[1].outcomes.map(\.staleness) == [0, 1])
      #expect(run.rounds[1].outcomes[1].exampleCount == 1)
      #expect(run.ending == .completed)
      #expect(Self.isFilled(run.adapter, 7))
      let middle = run.rounds[1].metrics["value"] ?? 0
      #expect(abs(middle - 20 / 3) < 1e-5, "\(middle)")
      for stranger in [quick, slow] { await stranger.connection.close() }
      await federation.transport.cut()
    }
  }

  @Test func `a late update is refused where they are dropped`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 2, minimumClients: 2),
        planner: Enough(count: 1))
      let running = Task { try await federation.coordinator.run() }
      let quick = try await federation.stranger("quick")
      let slow = try await federation.stranger("slow")
      let first = try await quick.task()
      let old = try await slow.task()
      let payload = SafeTensors.encode(ToyTrainer.adapter)
      _ = try await quick.send(quick.header(first), payload)
      let second = try await quick.task()
      guard case .refused(let refusal) = try await slow.send(slow.header(old), payload) else {
        Issue.record("it was taken")
        return
      }
      #expect(refusal.code == .wrongRound)
      _ = try await quick.send(quick.header(second), payload)
      _ = try? await quick.connection.nextTask(quick.caller)
      #expect(try await running.value.rounds.count == 2)
    }
  }

  // MARK: Asynchronous

  @Test(arguments: TransportKind.allCases)
  func `a buffer is aggregated with each update's share of its own change`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: Self.asynchronous(rounds: 2, size: 1), adapter: Self.filled(0))
      let running = Task { try await federation.coordinator.run() }
      let first = try await federation.stranger("a")
      let second = try await federation.stranger("b")
      let (task, other) = (try await first.task(), try await second.task())
      #expect(
        try await first.send(first.header(task), SafeTensors.encode(Self.filled(3))) == .accepted)
      try await eventually("the first buffer was aggregated") {
        await federation.coordinator.report.rounds.count == 1
      }
      // From 0 to 2, one round late: 3 + 2 / √2.
      #expect(
        try await second.send(second.header(other), SafeTensors.encode(Self.filled(2)))
          == .accepted)
      _ = try? await first.connection.nextTask(first.caller)
      let run = try await running.value
      #expect(run.rounds.map(\.delivered) == [["a"], ["b"]])
      #expect(run.rounds[1].outcomes.first?.staleness == 1)
      #expect(Self.isFilled(run.adapter, 3 + 2 / Float(2).squareRoot()))
      for stranger in [first, second] { await stranger.connection.close() }
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `clients at their own pace come to an adapter that suits all`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: Self.asynchronous(rounds: 12, size: 3))
      var trainers: [ClientID: ToyTrainer] = [:]
      for (number, name) in (["a", "b", "c", "d"] as [ClientID]).enumerated() {
        var trainer = ToyTrainer(target: 1)
        trainer.onTrain = { _ in try await Task.sleep(for: .milliseconds(3 * number)) }
        trainers[name] = trainer
      }
      let (run, clients) = try await federation.run(trainers)
      #expect(run.ending == .completed && run.rounds.count == 12)
      #expect(run.rounds.allSatisfy { $0.delivered.count >= 3 })
      #expect(run.rounds.flatMap(\.outcomes).allSatisfy { $0.staleness <= 5 })
      let mean = run.adapter.values.flatMap(\.scalars).reduce(0, +) / 10
      #expect(abs(mean - 1) < 0.2, "\(run.adapter)")
      // What was under way when the run ended came to nothing.
      #expect(clients.values.allSatisfy { $0.refusals + $0.failures <= 1 })
      if kind == .mutualTLS {
        #expect(
          run.rounds.flatMap(\.outcomes).filter { $0.result == .delivered }
            .allSatisfy { $0.signature != nil })
      }
      await federation.transport.cut()
    }
  }

  @Test func `an update of an adapter that is too old, or of none, is refused`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: Self.asynchronous(rounds: 4, size: 1, staleness: 1))
      let running = Task { try await federation.coordinator.run() }
      let first = try await federation.stranger("a")
      let second = try await federation.stranger("b")
      let payload = SafeTensors.encode(ToyTrainer.adapter)
      let (task, old) = (try await first.task(), try await second.task())
      // From another adapter than the task says.
      var forged = second.header(old)
      forged.baseDigest = Digest(of: Data("another".utf8))
      guard case .refused(let refusal) = try await second.send(forged, payload) else {
        Issue.record("it was taken")
        return
      }
      #expect(refusal.code == .wrongBase)
      var next = task
      for round in 1...2 {
        #expect(next.round == round)
        #expect(try await first.send(first.header(next), payload) == .accepted)
        try await eventually("round \(round) counted") {
          await federation.coordinator.report.rounds.count == round
        }
        next = try await first.task()
      }
      guard case .refused(let late) = try await second.send(second.header(old), payload) else {
        Issue.record("it was taken")
        return
      }
      #expect(late.code == .wrongRound)
      await federation.coordinator.cancel(reason: "enough")
      _ = try? await running.value
    }
  }

  @Test func `strategies that need all from one adapter are refused`() async throws {
    for name in ["scaffold", "product", "median", "krum", "trimmed-mean", "multi-krum"] {
      try await withTemporaryFolder { folder in
        let error = await #expect(throws: PeatError.self, "\(name)") {
          _ = try await Federation(
            .inMemory, in: folder, rules: Self.asynchronous(rounds: 1, size: 1),
            strategy: try Strategies.named(name))
        }
        #expect(error?.message.contains("older adapter") == true)
      }
    }
    for name in ["fedavg", "fedprox", "fedadam", "fedavgm", "norm-bound", "ffa", "fedex"] {
      #expect(try Strategies.named(name).staleRefusal == nil, "\(name)")
    }
  }

  @Test func `a server optimizer steps from a buffer as from a round`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: Self.asynchronous(rounds: 3, size: 2),
        strategy: try Strategies.named("fedavgm"))
      let (run, _) = try await federation.run([
        "a": ToyTrainer(target: 1), "b": ToyTrainer(target: 1),
      ])
      #expect(run.ending == .completed && run.strategyState.rounds == 3)
    }
  }

  // MARK: Deadlines by progress

  @Test(arguments: TransportKind.allCases)
  func `a transfer that moves is waited for beyond the deadline, one that does not is let go`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      var rules = RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(60))
      rules.stillness = .seconds(20)
      rules.longest = .seconds(1000)
      let federation = try await Federation(
        kind, in: folder, rules: rules, clock: clock, heartbeat: .seconds(100_000))
      let coordinator = federation.coordinator
      let running = Task { try await coordinator.run() }
      let moving = try await federation.stranger("moving")
      let still = try await federation.stranger("still")
      let task = try await moving.task()
      _ = try await still.task()
      let payload = SafeTensors.encode(ToyTrainer.adapter)
      let offer = UploadOffer(
        caller: moving.caller, header: try moving.header(task).json(),
        payload: BlobReference(digest: Digest(of: payload), bytes: payload.count))
      guard case .send(let ticket, 0) = try await moving.connection.offer(offer) else {
        Issue.record("not asked for")
        return
      }
      // 30 s between pieces, and the deadline is 60: at 40 s it begins to be watched.
      var sent = 0
      let step = payload.count / 9 + 1
      clock.advance(by: .seconds(40))
      while sent < payload.count {
        let piece = Data(payload.dropFirst(sent).prefix(step))
        try await eventually("the watch begins") { await coordinator.watches("moving") }
        try await coordinator.receive(piece, ticket: ticket, offset: sent)
        sent += piece.count
        clock.advance(by: .seconds(20))
      }
      #expect(try await coordinator.finishUpload(ticket: ticket) == .accepted)
      _ = try? await moving.connection.nextTask(moving.caller)
      let outcomes = try await running.value.rounds[0].outcomes
      #expect(outcomes.map(\.client) == ["moving", "still"])
      #expect(outcomes.map(\.result) == [.delivered, .late])
      #expect((outcomes[0].observed?.seconds ?? 0) > 60)
      for stranger in [moving, still] { await stranger.connection.close() }
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `training that says how far it is is waited for`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      var rules = RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(60))
      rules.stillness = .seconds(20)
      rules.longest = .seconds(1000)
      let federation = try await Federation(
        kind, in: folder, rules: rules, clock: clock, heartbeat: .milliseconds(10),
        grace: .seconds(100_000))
      let coordinator = federation.coordinator
      let stepping = SteppingTrainer()
      let slow = try federation.client("slow", stepping)
      var stuck = ToyTrainer(target: 1)
      let end = Door()
      stuck.onTrain = { _ in await end.pass() }
      let other = try federation.client("stuck", stuck)
      let working = [slow, other].map { client in Task { try await client.run() } }
      let running = Task { try await coordinator.run() }
      // One step in each stretch of 20 s, of which the first ends with the deadline.
      try await eventually("both have a task") { await coordinator.status.clientsWorking == 2 }
      clock.advance(by: .seconds(40))
      for step in 1...8 {
        try await eventually("the watch begins") { await coordinator.watches("slow") }
        stepping.makeStep()
        try await eventually("step \(step)") { stepping.stepsMade == step }
        // Each beat of its heart says how far it is.
        try await eventually("the step is heard of") {
          clock.advance(by: .milliseconds(10))
          return await !coordinator.watches("slow")
        }
        clock.advance(by: .seconds(20))
      }
      stepping.finish()
      let run = try await running.value
      await end.open()
      #expect(run.rounds.first?.outcomes.map(\.result) == [.delivered, .late])
      #expect((run.rounds.first?.outcomes.first?.observed?.seconds ?? 0) > 180)
      for client in working { _ = try? await client.value }
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a phone that sleeps in the middle of its work delivers in the same round`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2, deadline: .seconds(600)),
        heartbeat: .milliseconds(500), grace: .seconds(5))
      let (asleep, awake) = (Door(), Door())
      let connection = SleepyConnection(try federation.transport.connect("phone"))
      var trainer = ToyTrainer(target: 1)
      trainer.onTrain = { _ in
        connection.isAsleep.withLock { $0 = true }
        await asleep.open()
        await awake.pass()
      }
      let phone = try Client(
        ClientConfiguration(
          client: "phone",
          retry: RetryPolicy(attempts: 1000, initial: .milliseconds(5), jitter: 0)),
        connection: connection, trainer: trainer,
        workFolder: folder.appendingPathComponent("phone"), logger: .quiet)
      let end = Door()
      var steady = ToyTrainer(target: 2)
      steady.onTrain = { _ in await end.pass() }
      let other = try federation.client("steady", steady)
      let working = [phone, other].map { client in Task { try await client.run() } }
      let running = Task { try await federation.coordinator.run() }
      await asleep.pass()
      try await eventually("it is lost") { await federation.losses(of: "phone") > 0 }
      connection.isAsleep.withLock { $0 = false }
      await awake.open()
      try await eventually("it delivered") { await phone.report.updates == 1 }
      await end.open()
      let run = try await running.value
      #expect(run.rounds.first?.attempt == 1)
      #expect(run.rounds.first?.delivered == ["phone", "steady"])
      // It was not asked to begin again.
      #expect(await trainer.seen.tasks.count == 1)
      for client in working { _ = try await client.value }
      await federation.transport.cut()
    }
  }

  // MARK: Budgets

  @Test func `a run stops when its bytes are spent, and clients hear of it`() async throws {
    try await withTemporaryFolder { folder in
      var rules = RoundRules(rounds: 50)
      rules.budget.bytes = 4000
      let federation = try await Federation(.gRPC, in: folder, rules: rules)
      let (run, clients) = try await federation.run(["a": ToyTrainer(target: 1)])
      guard case .stopped(let stop) = run.ending else {
        Issue.record("\(String(describing: run.ending))")
        return
      }
      #expect(stop.cause == .bytes && run.rounds.count < 50)
      #expect(run.bytesDown + run.bytesUp >= 4000)
      #expect(clients["a"]?.ending == run.ending)
      await federation.transport.cut()
    }
  }
}

/// Makes a step when it is told to, and says so.
private final class SteppingTrainer: LocalTrainer {
  private let turns = AsyncStream.makeStream(of: Void.self)
  private let made = Atomic(0)

  var stepsMade: Int { made.load(ordering: .acquiring) }
  func makeStep() { turns.continuation.yield() }
  func finish() { turns.continuation.finish() }

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    try await train(task, adapter: adapter, carried: [:], unfinished: nil) { _ in }
  }

  func train(
    _ task: TrainingTask, adapter: NamedTensors, carried: NamedTensors,
    unfinished: UnfinishedTraining?, onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> LocalResult {
    for await _ in turns.stream {
      onStep(stepsMade + 1)
      made.add(1, ordering: .releasing)
    }
    return LocalResult(tensors: adapter, exampleCount: 1)
  }
}

/// Looks at what a package says of itself, and has no room for one level.
private struct PickyTrainer: LocalTrainer {
  let refused: Int
  let inner = ToyTrainer(target: 1)
  let seen = Log<[String]>()

  func check(outline folder: URL, level: Int, for task: TrainingTask) async throws {
    await seen.add(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted())
    if level == refused { throw PeatError.usage("no room for level \(level)") }
  }

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    try await inner.train(task, adapter: adapter)
  }
}

@Suite("Levels and memory", .timeLimit(.minutes(10))) struct LevelMemoryTests {
  @Test(arguments: TransportKind.allCases)
  func `a device looks at what training takes before it fetches an emulator's weights`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2, attempts: 1))
      let small = PickyTrainer(refused: 0)
      let large = PickyTrainer(refused: 9)
      let clients = try [federation.client("large", large), federation.client("small", small)]
      let working = clients.map { client in Task { try await client.run() } }
      let run = try await federation.coordinator.run()
      let outcomes = run.rounds.first?.outcomes ?? []
      #expect(outcomes.map(\.result) == [.delivered, .failed(reason: "no room for level 0")])
      // The weights take 1000 bytes.
      #expect((outcomes.last?.bytesDown ?? .max) < 1000, "\(outcomes)")
      #expect((outcomes.first?.bytesDown ?? 0) > 1000)
      #expect(await small.seen.values == [["config.json"]])
      for client in working { _ = try await client.value }
      await federation.transport.cut()
    }
  }

  @Test func `clients of one round train on the levels that fit their memory`() async throws {
    try await withTemporaryFolder { folder in
      // The federation's clients say that a megabyte is free.
      let federation = try await Federation(
        .gRPC, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2),
        planner: try Planners.named("by-memory", seed: 1), levelMemory: [2 << 20, 1 << 20])
      let (run, _) = try await federation.run([
        "a": ToyTrainer(target: 1), "b": ToyTrainer(target: 1),
      ])
      #expect(run.rounds.first?.outcomes.map(\.emulatorLevel) == [1, 1])
      await federation.transport.cut()
    }
  }
}
