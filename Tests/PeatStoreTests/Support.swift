import Foundation
import Logging
import PeatFederation
import PeatStore
import PeatTensor
import Synchronization

/// A trainer whose result depends on the adapter it was sent, on its data (the target) and on the task's seed, to the last bit.
struct ToyTrainer: LocalTrainer {
  let target: Float
  var examples = 1
  var steps = 3
  /// Whether it only adds its target to each value, without chance.
  var onlyAdds = false
  let trainings = Counter()

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    trainings.add(.init(client: task.client, round: task.round, number: task.attempt))
    if onlyAdds {
      return LocalResult(
        tensors: adapter.mapValues { $0.map { $0 + target } }, exampleCount: examples)
    }
    var random = SeededRandom(seed: task.seed)
    var tensors = adapter
    for _ in 0..<steps {
      for name in tensors.keys.sorted() {
        tensors[name] = tensors[name]?.map { $0 - 0.3 * ($0 - target + 0.1 * random.normal()) }
      }
    }
    return LocalResult(
      tensors: tensors, exampleCount: examples, metrics: ["target": Double(target)])
  }

  static let adapter: NamedTensors = [
    "layers.0.lora_A": Tensor([0.5, -0.25, 0.125, 1, 2, 3], shape: [2, 3]),
    "layers.0.lora_B": Tensor([0, 0.1, 0.2, 0.3], shape: [2, 2]),
  ]
}

/// Which tasks something was done for; in runs that are not asynchronous the number is that of the attempt.
final class Counter: Sendable {
  private let tasks = Mutex<[BufferedUpdate.Key]>([])
  func add(_ task: BufferedUpdate.Key) { tasks.withLock { $0.append(task) } }
  var all: [BufferedUpdate.Key] { tasks.withLock { $0 } }
}

/// A store that dies at one of its commits: before that is kept, or after.
final class MortalStore: RunStore {
  private struct State {
    var inner: (any RunStore)?
    var commits = 0
    var taken: [BufferedUpdate.Key] = []
  }

  struct Death: Error {}

  let folder: URL
  let blobs: FolderBlobStore
  private let state: Mutex<State>
  private let last: Int
  private let isKept: Bool
  private let diesAtUpdate: Bool

  /// - Parameters:
  ///   - last: the commit at which it dies, from 1.
  ///   - isKept: whether that is still kept.
  ///   - diesAtUpdate: whether it dies at the first update that is taken.
  init(_ inner: any RunStore, last: Int = .max, isKept: Bool = true, diesAtUpdate: Bool = false) {
    (folder, blobs, self.last, self.isKept) = (inner.folder, inner.blobs, last, isKept)
    self.diesAtUpdate = diesAtUpdate
    state = Mutex(State(inner: inner))
  }

  /// Lets go of what is behind it, as the end of a process does.
  func die() { state.withLock { $0.inner = nil } }

  var isDead: Bool { state.withLock { $0.inner == nil } }
  var commits: Int { state.withLock { $0.commits } }
  /// The updates that were kept as they were taken.
  var taken: [BufferedUpdate.Key] { state.withLock { $0.taken } }

  private var inner: any RunStore {
    get throws {
      guard let inner = state.withLock({ $0.inner }) else { throw Death() }
      return inner
    }
  }

  func load() throws -> KeptRun? { try inner.load() }
  func note(_ name: String) throws -> Data? { try inner.note(name) }
  func keep(_ note: Data, as name: String) throws { try inner.keep(note, as: name) }

  func commit(_ changes: RunChanges) throws {
    try state.withLock { state in
      guard let inner = state.inner else { throw Death() }
      state.commits += 1
      guard state.commits >= last || diesAtUpdate && !changes.updates.isEmpty else {
        return try keep(changes, inner, &state)
      }
      if isKept { try keep(changes, inner, &state) }
      // The lock goes with it.
      state.inner = nil
      throw Death()
    }
  }

  private func keep(_ changes: RunChanges, _ inner: any RunStore, _ state: inout State) throws {
    try inner.commit(changes)
    if !changes.forgetsUpdates { state.taken += changes.updates.map(\.key) }
  }
}

/// A connection that a process had which was killed: nobody hears of it any more.
final class MortalConnection: CoordinatorConnection {
  private let inner: any CoordinatorConnection
  private let isDead = Atomic(false)
  var address: String { inner.address }

  init(_ inner: any CoordinatorConnection) { self.inner = inner }

  func kill() { isDead.store(true, ordering: .relaxed) }

  private func check() throws {
    if isDead.load(ordering: .relaxed) { throw CancellationError() }
  }

  func join(_ request: JoinRequest) async throws -> JoinReply {
    try check()
    return try await inner.join(request)
  }
  func nextTask(_ caller: Caller) async throws -> TaskReply {
    try check()
    return try await inner.nextTask(caller)
  }
  func download(
    _ request: DownloadRequest, to write: @Sendable (Data) async throws -> Void
  ) async throws {
    try check()
    try await inner.download(request) { data in
      try self.check()
      try await write(data)
    }
  }
  func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
    try check()
    return try await inner.offer(offer)
  }
  func upload(
    _ payload: Data, ticket: String, from offset: Int, onSent: @escaping @Sendable (Int) -> Void
  ) async throws -> UploadReply {
    try check()
    return try await inner.upload(payload, ticket: ticket, from: offset, onSent: onSent)
  }
  func report(_ failure: FailureReport) async throws {
    try check()
    try await inner.report(failure)
  }
  func attend(_ caller: Caller) async throws -> AttendReply {
    try check()
    return try await inner.attend(caller)
  }
  func leave(_ caller: Caller) async throws {
    try check()
    try await inner.leave(caller)
  }
  func close() async { await inner.close() }
}

/// Does something for each seed, eight at a time: all together have more files open than Foundation's Process bears in the tests beside them.
func fewAtATime(
  _ seeds: Range<Int>, _ body: @escaping @Sendable (Int) async throws -> Void
) async throws {
  for first in stride(from: seeds.lowerBound, to: seeds.upperBound, by: 8) {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for seed in first..<min(first + 8, seeds.upperBound) {
        group.addTask { try await body(seed) }
      }
      try await group.waitForAll()
    }
  }
}

extension Logger {
  /// Says nothing.
  static var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}

enum StoreKind: String, CaseIterable, Sendable {
  case memory, sqlite

  func open(_ folder: URL, _ memory: MemoryRunStore?) throws -> any RunStore {
    switch self {
    case .memory: try memory ?? MemoryRunStore(folder)
    case .sqlite: try RunDatabase(folder)
    }
  }
}

/// A federation of toy clients whose coordinator and clients die at points that are chosen, and are started again.
struct MortalFederation: Sendable {
  /// When one dies, and whether what it was about to keep is kept.
  struct Death: Sendable {
    var commit: Int
    var isKept: Bool
  }

  var rounds = 4
  var clients: [ClientID: Float] = ["a": 1, "b": -2, "c": 3]
  var strategy: any AggregationStrategy = .fedAvg
  var upload = UpdateEncoding.plain
  var download = UpdateEncoding.plain
  var serverWeight = 0.0
  var updateBytes = 64
  var adapter = ToyTrainer.adapter
  var steps = 3
  /// An asynchronous run; `nil`: in rounds.
  var buffer: BufferRules?
  var onlyAdds = false

  struct Outcome: Sendable {
    var report: RunReport
    /// Of each life of the coordinator.
    var commits: [Int]
    var lives: Int
    var clientLives: Int
    /// Clients that were told that the run is over.
    var told: Set<ClientID>
    var trainings: [ClientID: [BufferedUpdate.Key]]
    /// The updates that were taken in all lives, and those that wait in the buffer at the end.
    var taken: [BufferedUpdate.Key] = []
    var left: Set<BufferedUpdate.Key> = []
  }

  func coordinator(
    _ folder: URL, store: (any RunStore)?,
    onProgress: @escaping @Sendable (CoordinatorProgress) -> Void = { _ in }
  ) async throws -> Coordinator {
    let downloads = try FolderBlobStore(folder.appendingPathComponent("downloads"))
    let source = folder.appendingPathComponent("emulator")
    try FileManager.default.createDirectory(at: source, withIntermediateDirectories: true)
    try Data("{}".utf8).write(to: source.appendingPathComponent("config.json"))
    try Data(repeating: 7, count: 1000).write(
      to: source.appendingPathComponent("model.safetensors"))
    var configuration = CoordinatorConfiguration(
      run: "test-run", seed: 7,
      rules: RoundRules(
        rounds: rounds, minimumClients: clients.count, minimumUpdates: clients.count,
        deadline: .seconds(120), gatheringDeadline: .seconds(60)),
      method: "lora", rank: 2, alpha: 4, pollTimeout: .seconds(5), heartbeat: .seconds(600),
      // A client holds no call between two: on a machine with much to do that takes a while.
      grace: .milliseconds(500), farewell: .seconds(20))
    (configuration.upload, configuration.download) = (upload, download)
    if let buffer {
      configuration.rules.buffer = buffer
      configuration.rules.staleness = Staleness(maximum: 3)
      configuration.rules.minimumUpdates = 1
    }
    configuration.keptAdapters = 2
    return try await Coordinator(
      configuration, adapter: adapter,
      levels: [try await Package(folder: source, store: downloads)], store: downloads,
      workFolder: folder.appendingPathComponent("spool"), strategy: strategy, runStore: store,
      server: serverWeight > 0
        ? try ServerParticipation(weight: serverWeight, trainer: ToyTrainer(target: 9)) : nil,
      logger: .quiet, onProgress: onProgress)
  }

  /// - Parameters:
  ///   - deaths: of the coordinator, one for each of its lives but the last.
  ///   - stopsThere: whether all is left as the first death leaves it.
  ///   - clientDeaths: for each client, after how many steps of its progress each of its lives ends.
  func run(
    _ kind: StoreKind?, in folder: URL, deaths: [Death] = [], clientDeaths: [ClientID: [Int]] = [:],
    stopsThere: Bool = false
  ) async throws -> Outcome {
    let memory =
      kind == .memory ? try MemoryRunStore(folder.appendingPathComponent("run")) : nil
    let transport = InMemoryTransport(Nobody(), chunkBytes: updateBytes)
    let trainers = clients.mapValues {
      ToyTrainer(target: $0, examples: 1 + Int(abs($0)), steps: steps, onlyAdds: onlyAdds)
    }
    return try await withThrowingTaskGroup(of: Ending.self) { group in
      for (id, trainer) in trainers {
        group.addTask {
          try await live(
            id, trainer, transport, folder.appendingPathComponent("client-\(id)"),
            deaths: clientDeaths[id] ?? [])
        }
      }
      var commits: [Int] = []
      var taken: [BufferedUpdate.Key] = []
      var life = 0
      while true {
        let death = life < deaths.count ? deaths[life] : nil
        life += 1
        let inner = try kind?.open(folder.appendingPathComponent("run"), memory)
        let store = inner.map {
          MortalStore($0, last: death?.commit ?? .max, isKept: death?.isKept ?? true)
        }
        do {
          let coordinator = try await coordinator(folder, store: store)
          await transport.reconnect(coordinator)
          let report = try await coordinator.run()
          // Calls that it is answering get their answers; whoever calls now was not told.
          await transport.reconnect(Nobody(isOver: true))
          commits.append(store?.commits ?? 0)
          taken += store?.taken ?? []
          let last = try store?.load()?.lastMachine
          let left = Set(taken.filter { last?.needs($0) == true })
          store?.die()
          var (lives, told): (Int, Set<ClientID>) = (0, [])
          for try await ending in group {
            lives += ending.lives
            if ending.isTold { told.insert(ending.client) }
          }
          return Outcome(
            report: report, commits: commits, lives: life, clientLives: lives, told: told,
            trainings: trainers.mapValues(\.trainings.all), taken: taken, left: left)
        } catch {
          guard store?.isDead == true else {
            // Where a client went wrong, that is why.
            await transport.reconnect(Nobody(isOver: true))
            for try await _ in group {}
            throw error
          }
          await transport.disconnect()
          commits.append(store?.commits ?? 0)
          taken += store?.taken ?? []
          if stopsThere {
            group.cancelAll()
            throw error
          }
        }
      }
    }
  }

  /// How a client's part ended.
  private struct Ending {
    var client: ClientID
    var lives: Int
    var isTold: Bool
  }

  /// A client that dies after some steps, and is started again in the same folder.
  private func live(
    _ id: ClientID, _ trainer: ToyTrainer, _ transport: InMemoryTransport, _ folder: URL,
    deaths: [Int]
  ) async throws -> Ending {
    for (number, steps) in (deaths + [.max]).enumerated() {
      let connection = MortalConnection(transport.connect())
      let count = Atomic(0)
      let box = Mutex<Task<ClientReport, any Error>?>(nil)
      let client = try Client(
        ClientConfiguration(
          client: id,
          retry: RetryPolicy(attempts: 15_000, initial: .milliseconds(2), maximum: .milliseconds(5))
        ),
        connection: connection, trainer: trainer, workFolder: folder, logger: .quiet,
        freeMemory: { 1 << 20 },
        onProgress: { _ in
          if count.add(1, ordering: .relaxed).newValue == steps {
            connection.kill()
            box.withLock { $0 }?.cancel()
          }
        })
      let task = Task { try await client.run() }
      box.withLock { $0 = task }
      if count.load(ordering: .relaxed) >= steps { task.cancel() }
      do {
        let report = try await withTaskCancellationHandler {
          try await task.value
        } onCancel: {
          task.cancel()
        }
        return Ending(client: id, lives: number + 1, isTold: report.ending == .completed)
      } catch is CancellationError where steps < .max {
        continue
      } catch let error as PeatError where error.message == Nobody.isOver.message {
        return Ending(client: id, lives: number + 1, isTold: false)
      }
    }
    return Ending(client: id, lives: deaths.count + 1, isTold: false)
  }
}

/// Nobody is there yet, or any more.
private struct Nobody: CoordinatorEndpoint {
  static let isOver = PeatError(.internalError, "the run is over")

  var isOver = false

  private var absence: PeatError { isOver ? Self.isOver : .unavailable("nobody is there") }
  func join(_ request: JoinRequest) async throws -> JoinReply { throw absence }
  func nextTask(_ caller: Caller) async throws -> TaskReply { throw absence }
  func download(
    _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
  ) async throws { throw absence }
  func offer(_ offer: UploadOffer) async throws -> UploadAnswer { throw absence }
  func receive(_ chunk: Data, ticket: String, offset: Int) async throws { throw absence }
  func finishUpload(ticket: String) async throws -> UploadReply { throw absence }
  func report(_ failure: FailureReport) async throws { throw absence }
  func attend(_ caller: Caller) async throws -> AttendReply { throw absence }
  func leave(_ caller: Caller) async {}
}
