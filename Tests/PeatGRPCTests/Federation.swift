import Foundation
import Logging
import PeatFederation
import PeatGRPC
import PeatSecurity
import PeatTensor
import Testing

enum TransportKind: String, Sendable, CaseIterable {
  case inMemory, gRPC
  /// gRPC over TLS, with certificates on both sides.
  case mutualTLS
}

/// A way from clients to a coordinator that can be cut.
struct TestTransport: Sendable {
  /// As a client of that name.
  let connect: @Sendable (ClientID) throws -> any CoordinatorConnection
  let cut: @Sendable () async -> Void

  init(_ kind: TransportKind, _ endpoint: any CoordinatorEndpoint) async throws {
    switch kind {
    case .inMemory:
      let transport = InMemoryTransport(endpoint, chunkBytes: 64)
      connect = { _ in transport.connect() }
      cut = { await transport.disconnect() }
    case .gRPC:
      let server = try CoordinatorServer(
        endpoint, at: NetworkAddress(host: "127.0.0.1", port: 0), security: .plaintext,
        chunkBytes: 64)
      let address = try await server.start()
      connect = { _ in try GRPCConnection(to: address, security: .plaintext, chunkBytes: 64) }
      cut = { await server.stop(grace: .zero) }
    case .mutualTLS:
      let authority = try TestAuthority.shared.get()
      let server = try CoordinatorServer(
        endpoint, at: NetworkAddress(host: "127.0.0.1", port: 0),
        security: .mutualTLS(
          ServerCredentials(authority, run: "test-run", hosts: ["127.0.0.1"])),
        chunkBytes: 64)
      let address = try await server.start()
      connect = { client in
        let identity = try authority.issueForThisProcess(.client, name: client.name)
        return try GRPCConnection(to: address, security: .mutualTLS(identity), chunkBytes: 64)
      }
      cut = { await server.stop(grace: .zero) }
    }
  }
}

/// An authority of the tests' own, in a temporary folder that goes with them.
enum TestAuthority {
  static let shared = Result {
    try CertificateAuthority.openOrCreate(
      at: FileManager.default.temporaryDirectory.appendingPathComponent(
        "fedpeat-tests-authority-\(ProcessInfo.processInfo.processIdentifier)"))
  }
}

/// A coordinator, its transport and its clients, in a folder of their own.
final class Federation: Sendable {
  let coordinator: Coordinator
  let transport: TestTransport
  let folder: URL
  let progress = Log<CoordinatorProgress>()

  init(
    _ kind: TransportKind, in folder: URL, rules: RoundRules,
    planner: any RoundPlanner = EveryonePlanner(), server: ServerParticipation? = nil,
    seed: UInt64 = 7, sizeLimit: Int = 10_000, clock: any Clock<Duration> = ContinuousClock(),
    pollTimeout: Duration = .seconds(5), heartbeat: Duration = .seconds(600),
    grace: Duration = .milliseconds(50),
    clientLimit: Int = 100, exposure: ExposureLedger? = nil,
    upload: UpdateEncoding = .plain, download: UpdateEncoding = .plain,
    levelMemory: [Int] = [],
    strategy: any AggregationStrategy = .fedAvg, adapter: NamedTensors = ToyTrainer.adapter,
    onRound: @escaping Coordinator.Evaluation = { _, _ in [:] },
    renewal:
      @escaping @Sendable (_ round: Int, _ inUse: Set<Int>, MemoryBlobStore) async throws -> [Int:
      RenewedLevel] = { _, _, _ in [:] }
  ) async throws {
    self.folder = folder
    let store = MemoryBlobStore()
    var levels: [Package] = []
    for level in 0..<2 {
      let source = folder.appendingPathComponent("emulator-\(level)")
      try FileManager.default.createDirectory(at: source, withIntermediateDirectories: true)
      try Data("{\"level\": \(level)}".utf8).write(to: source.appendingPathComponent("config.json"))
      try Data(repeating: UInt8(level + 1), count: 1000 - 300 * level)
        .write(to: source.appendingPathComponent("model.safetensors"))
      levels.append(try await Package(folder: source, store: store))
    }
    let progress = progress
    var configuration = CoordinatorConfiguration(
      run: "test-run", seed: seed, rules: rules, method: "lora", rank: 2, alpha: 4,
      settings: ToyTrainer.settings, updateSizeLimit: sizeLimit, exposure: exposure,
      clientLimit: clientLimit,
      pollTimeout: pollTimeout, heartbeat: heartbeat, grace: grace, farewell: .seconds(2))
    (configuration.upload, configuration.download) = (upload, download)
    configuration.levelMemory = levelMemory
    coordinator = try await Coordinator(
      configuration, adapter: adapter, levels: levels, store: store,
      workFolder: folder.appendingPathComponent("coordinator"), planner: planner,
      strategy: strategy, server: server,
      clock: clock, logger: .quiet, onRound: onRound,
      onRenewal: { round, _, inUse in try await renewal(round, inUse, store) },
      onProgress: { event in Task { await progress.add(event) } })
    transport = try await TestTransport(kind, coordinator)
  }

  func client(
    _ id: ClientID, _ trainer: any LocalTrainer,
    retry: RetryPolicy = RetryPolicy(attempts: 4, initial: .milliseconds(5), jitter: 0),
    onProgress: @escaping @Sendable (ClientProgress) -> Void = { _ in }
  ) throws -> Client {
    try Client(
      ClientConfiguration(client: id, retry: retry), connection: try transport.connect(id),
      trainer: trainer, workFolder: folder.appendingPathComponent("client-\(id)"), logger: .quiet,
      freeMemory: { 1 << 20 }, onProgress: onProgress)
  }

  /// Runs the coordinator with one client per trainer, to the end.
  func run(
    _ trainers: [ClientID: ToyTrainer]
  ) async throws -> (run: RunReport, clients: [ClientID: ClientReport]) {
    let clients = try trainers.map { (id, trainer) in (id, try client(id, trainer)) }
    return try await withThrowingTaskGroup(of: (ClientID, ClientReport).self) { group in
      for (id, client) in clients { group.addTask { (id, try await client.run()) } }
      let run = try await coordinator.run()
      var reports: [ClientID: ClientReport] = [:]
      for try await (id, report) in group { reports[id] = report }
      return (run, reports)
    }
  }

  /// How often a client was lost so far.
  func losses(of client: ClientID) async -> Int {
    await progress.values.count {
      if case .clientLost(client, _) = $0 { true } else { false }
    }
  }

  /// A client that speaks the protocol by hand.
  func stranger(_ id: ClientID, holds: [Digest] = []) async throws -> Stranger {
    let connection = try transport.connect(id)
    let reply = try await connection.join(JoinRequest(client: id, holds: holds))
    return Stranger(
      connection: connection, caller: Caller(client: id, session: reply.session), join: reply)
  }
}

/// Speaks to the coordinator without a `Client`'s manners.
struct Stranger: Sendable {
  let connection: any CoordinatorConnection
  let caller: Caller
  let join: JoinReply

  func task() async throws -> TrainingTask {
    while true {
      switch try await connection.nextTask(caller) {
      case .train(let task): return task
      case .wait, .leftOut: continue
      case let other: throw PeatError.badData("expected a task, found \(other)")
      }
    }
  }

  func header(_ task: TrainingTask) -> UpdateHeader {
    UpdateHeader(
      run: task.run, round: task.round, client: caller.client, exampleCount: 1,
      baseDigest: task.baseDigest, method: task.method, rank: task.rank, alpha: task.alpha)
  }

  /// Offers and sends an update; the announced size and digest can be other than the real ones.
  func send(
    _ header: UpdateHeader, _ payload: Data, announcedBytes: Int? = nil,
    announcedDigest: Digest? = nil
  ) async throws -> UploadReply {
    try await send(
      json: try header.json(), payload, announcedBytes: announcedBytes,
      announcedDigest: announcedDigest)
  }

  func send(
    json: Data, _ payload: Data, announcedBytes: Int? = nil, announcedDigest: Digest? = nil
  ) async throws -> UploadReply {
    let offer = UploadOffer(
      caller: caller, header: json,
      payload: BlobReference(
        digest: announcedDigest ?? Digest(of: payload), bytes: announcedBytes ?? payload.count))
    switch try await connection.offer(offer) {
    case .refused(let refusal): return .refused(refusal)
    case .accepted: return .accepted
    case .rejoin: throw PeatError.badData("the session is not known")
    case .send(let ticket, let offset):
      return try await connection.upload(payload, ticket: ticket, from: offset)
    }
  }
}

extension Logger {
  /// Says nothing.
  static var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}

/// Waits until something holds, looking again every few milliseconds.
///
/// The limit is generous: while other tests compute on all threads, a step may wait as long as they take.
func eventually(
  _ what: String, within limit: Duration = .seconds(120), _ condition: () async throws -> Bool
) async throws {
  let clock = ContinuousClock()
  let end = clock.now.advanced(by: limit)
  while try await !condition() {
    guard clock.now < end else {
      throw PeatError.badData("it did not come about in \(limit): \(what)")
    }
    try await Task.sleep(for: .milliseconds(2))
  }
}

func withTemporaryFolder<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("fedpeat-tests-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try await body(folder)
}
