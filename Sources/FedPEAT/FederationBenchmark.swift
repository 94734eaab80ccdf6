import Foundation
import Logging
import Synchronization

/// What a coordinator takes in time and memory for many clients, over gRPC and TLS with certificates on both sides: rounds of an adapter down and an update up.
///
/// The coordinator is the real one. Clients are cheap: they speak the protocol, and count what they fetch, but do not train, and keep nothing on a disk.
public enum FederationBenchmark {
  public struct Settings: Sendable, Codable, Equatable {
    public var clients: Int
    /// How many of them take part in a round; the others are connected, and wait.
    public var participants: Int
    /// Of the adapter's tensors, which each participant fetches and sends in each round.
    public var adapterBytes: Int
    /// Of a file that each participant fetches before its first round, as an emulator; a byte at least.
    public var packageBytes: Int
    public var rounds: Int
    /// How long all are connected and wait before the first round.
    public var idleSeconds: Double
    public var seed: UInt64

    public init(
      clients: Int, participants: Int, adapterBytes: Int, packageBytes: Int, rounds: Int,
      idleSeconds: Double, seed: UInt64
    ) {
      self.clients = clients
      self.participants = participants
      self.adapterBytes = adapterBytes
      self.packageBytes = packageBytes
      self.rounds = rounds
      self.idleSeconds = idleSeconds
      self.seed = seed
    }
  }

  public struct Report: Sendable, Codable, Equatable {
    /// Of each round, from its plan to its new adapter.
    public var roundSeconds: [Double]
    public var bytesDown: Int
    public var bytesUp: Int
    /// Resident memory before clients came, when all were there, and at most.
    public var memoryBefore: Int
    public var memoryConnected: Int
    /// Bytes that were allocated at those times; the difference to the resident ones is the allocator's.
    public var heapBefore: Int
    public var heapConnected: Int
    public var peakMemoryBytes: Int
    /// Of this process, over the rounds.
    public var processorSeconds: Double

    /// By how much memory grew with each client that came.
    public var bytesPerConnection: Int {
      max(0, memoryConnected - memoryBefore) / max(1, connections)
    }
    public var connections: Int
  }

  /// The adapter that the rounds begin with: tensors of 64 KiB and one of the rest.
  static func adapter(bytes: Int, seed: UInt64) -> NamedTensors {
    var random = SeededRandom(seed: seed, "adapter of a benchmark")
    var left = max(1, bytes / 4)
    var tensors: NamedTensors = [:]
    while left > 0 {
      let count = min(left, 16 * 1024)
      let name = "layers.\(tensors.count).weight"
      tensors[name] = .uniform([count], bound: 0.02, using: &random)
      left -= count
    }
    return tensors
  }

  private static let run: RunID = "benchmark"
  private static let packageFile = "model.safetensors"

  private static func name(_ number: Int) throws -> ClientID {
    // So that their order is that of their numbers.
    try ClientID("client-" + String(100_000 + number).dropFirst())
  }

  /// Asks the first clients, and measures before the first round what all cost that are there.
  private actor FirstClients: RoundPlanner {
    let participants: Int
    let idleSeconds: Double
    private(set) var memoryConnected: Int?
    private(set) var heapConnected = 0
    private(set) var processorSeconds = 0.0

    init(participants: Int, idleSeconds: Double) {
      self.participants = participants
      self.idleSeconds = idleSeconds
    }

    func plan(_ state: FederationState) async throws -> RoundPlan {
      if memoryConnected == nil {
        // Handshakes come to an end, and what they took is given back.
        try await Task.sleep(for: .seconds(idleSeconds))
        memoryConnected = ProcessMeasurement.memoryBytes
        heapConnected = ProcessMeasurement.heapBytes ?? 0
        processorSeconds = ProcessMeasurement.processorSeconds
      }
      var plan = RoundPlan([:])
      for (place, client) in state.clients.enumerated() {
        plan.assignments[client.client] =
          place < participants
          ? state.assignment(of: client, wanting: 0) : .leftOut(because: "not asked")
      }
      return plan
    }
  }

  // MARK: The coordinator

  /// Runs all rounds.
  ///
  /// - Parameters:
  ///   - folder: of its own; holds the authority in `ca`, from which clients take certificates.
  ///   - onProgress: called with how many clients have come, and how many rounds are over.
  ///   - whileServing: starts the clients at this address.
  public static func coordinate(
    _ settings: Settings, folder: URL,
    onProgress: @escaping @Sendable (_ joined: Int, _ rounds: Int) -> Void = { _, _ in },
    whileServing: @escaping @Sendable (NetworkAddress) async throws -> Void
  ) async throws -> Report {
    let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
    let store = try FolderBlobStore(folder.appendingPathComponent("store"))
    let package = try await makePackage(bytes: max(settings.packageBytes, 1), folder, store)
    var rules = RoundRules(rounds: settings.rounds)
    rules.minimumClients = settings.clients
    rules.minimumUpdates = settings.participants
    let planner = FirstClients(
      participants: settings.participants, idleSeconds: settings.idleSeconds)
    let seen = Mutex((joined: 0, rounds: 0))
    var configuration = CoordinatorConfiguration(run: run, seed: settings.seed, rules: rules)
    configuration.clientLimit = max(configuration.clientLimit, settings.clients)
    let coordinator = try await Coordinator(
      configuration, adapter: adapter(bytes: settings.adapterBytes, seed: settings.seed),
      levels: [package], store: store, workFolder: folder.appendingPathComponent("updates"),
      planner: planner, logger: .silent,
      onProgress: { progress in
        let now = seen.withLock { seen in
          switch progress {
          case .clientJoined: seen.joined += 1
          case .roundEnded:
            seen.rounds += 1
            // As 'serve' does.
            ProcessMeasurement.releaseFreeMemory()
          default: break
          }
          return seen
        }
        onProgress(now.joined, now.rounds)
      })
    let credentials = try ServerCredentials(authority, run: run, hosts: ["127.0.0.1"])
    var limits = ServerLimits.usual
    limits.connections = max(limits.connections, settings.clients + 64)
    // All come from one address, at once, and share its processor with the coordinator.
    limits.strangers = limits.connections
    limits.strangersOfAddress = limits.connections
    limits.introduction = .seconds(120)
    let server = try CoordinatorServer(
      coordinator, at: NetworkAddress(host: "127.0.0.1", port: 0),
      security: .mutualTLS(credentials), limits: limits)
    let address = try await server.start()
    ProcessMeasurement.releaseFreeMemory()
    let before = ProcessMeasurement.memoryBytes
    let heapBefore = ProcessMeasurement.heapBytes ?? 0
    do {
      let report = try await withThrowingTaskGroup(of: RunReport?.self) { group in
        group.addTask { try await coordinator.run() }
        group.addTask {
          try await whileServing(address)
          return nil
        }
        var report: RunReport?
        while let next = try await group.next() { report = next ?? report }
        guard let report else { throw CancellationError() }
        return report
      }
      let processor = ProcessMeasurement.processorSeconds
      await server.stop()
      return Report(
        roundSeconds: report.rounds.map(\.seconds),
        bytesDown: report.bytesDown, bytesUp: report.bytesUp, memoryBefore: before,
        memoryConnected: await planner.memoryConnected ?? 0, heapBefore: heapBefore,
        heapConnected: await planner.heapConnected,
        peakMemoryBytes: ProcessMeasurement.peakMemoryBytes,
        processorSeconds: processor - (await planner.processorSeconds),
        connections: settings.clients)
    } catch {
      await server.stop()
      throw error
    }
  }

  /// Bytes at random, as a model's are.
  private static func makePackage(
    bytes: Int, _ folder: URL, _ store: FolderBlobStore
  ) async throws -> Package {
    let file = folder.appendingPathComponent(packageFile)
    try Data().write(to: file)
    let handle = try FileHandle(forWritingTo: file)
    var random = SeededRandom(seed: 0, "package of a benchmark")
    var left = bytes
    while left > 0 {
      let count = min(left, 1 << 20)
      var piece = Data(capacity: count + 8)
      while piece.count < count {
        withUnsafeBytes(of: random.next()) { piece.append(contentsOf: $0) }
      }
      try handle.write(contentsOf: piece.prefix(count))
      left -= count
    }
    try handle.close()
    let digest = try await store.put(contentsOf: file)
    try FileManager.default.removeItem(at: file)
    return Package(files: [.init(name: packageFile, digest: digest, bytes: bytes)])
  }

  // MARK: The clients

  /// Clients `numbers` take part until the run ends, each over a connection of its own.
  public static func takePart(
    _ numbers: Range<Int>, at address: NetworkAddress, _ settings: Settings, folder: URL
  ) async throws {
    OpenFiles.raiseLimit()
    let authority = try CertificateAuthority(folder: folder.appendingPathComponent("ca"))
    // Of the right shapes, and other values.
    let tensors = adapter(bytes: settings.adapterBytes, seed: settings.seed &+ 1)
    let payload = try UpdateEncoding.plain.encode(tensors, from: tensors, seed: 0)
    let reference = BlobReference(digest: Digest(of: payload), bytes: payload.count)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in numbers {
        let client = try name(number)
        group.addTask {
          let identity = try authority.issueForThisProcess(.client, name: client.name)
          let connection = try GRPCConnection(to: address, security: .mutualTLS(identity))
          let cheap = CheapClient(
            client: client, connection: connection, payload: payload, reference: reference)
          do { try await cheap.run() } catch {
            await connection.close()
            throw error
          }
          await connection.close()
        }
        // Not all handshakes at once: a device does not come in the same millisecond as a thousand others.
        if number % 50 == 49 { try await Task.sleep(for: .milliseconds(50)) }
      }
      try await group.waitForAll()
    }
  }

  /// Speaks the protocol and does no work.
  private struct CheapClient {
    let client: ClientID
    let connection: GRPCConnection
    let payload: Data
    let reference: BlobReference
    let asking = Asking()

    func run() async throws {
      let reply = try await connection.join(JoinRequest(client: client))
      let caller = Caller(client: client, session: reply.session)
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          repeat {
            try await asking.waitUntilDone()
          } while try await connection.attend(caller)
            == .again
        }
        group.addTask { try await work(caller) }
        try await group.next()
        group.cancelAll()
        // The one that was cancelled.
        while let result = await group.nextResult() { _ = result }
      }
      try await connection.leave(caller)
    }

    private func work(_ caller: Caller) async throws {
      var fetched: Set<Digest> = []
      while true {
        switch try await asking.ask(connection, caller) {
        case .wait, .leftOut: continue
        case .rejoin, .superseded:
          throw PeatError.unavailable("'\(client)' was taken for lost.")
        case .finished(let ending):
          guard case .completed = ending else {
            throw PeatError.unavailable("The run ended early: \(ending)")
          }
          return
        case .train(let task):
          try await fetch(task.adapter, caller)
          for file in task.package.files where fetched.insert(file.digest).inserted {
            try await fetch(BlobReference(digest: file.digest, bytes: file.bytes), caller)
          }
          try await deliver(task, caller)
        }
      }
    }

    private func fetch(_ blob: BlobReference, _ caller: Caller) async throws {
      let received = Mutex(0)
      try await connection.download(
        DownloadRequest(caller: caller, digest: blob.digest)
      ) { piece in received.withLock { $0 += piece.count } }
      let count = received.withLock { $0 }
      guard count == blob.bytes else {
        throw PeatError.unavailable("\(count) of \(blob.bytes) bytes arrived.")
      }
    }

    private func deliver(_ task: TrainingTask, _ caller: Caller) async throws {
      let header = UpdateHeader(
        run: task.run, round: task.round, client: client, exampleCount: 100,
        baseDigest: task.baseDigest, method: task.method, rank: task.rank, alpha: task.alpha)
      let offer = UploadOffer(
        caller: caller, header: try header.json(), payload: reference, attempt: task.attempt)
      switch try await connection.offer(offer) {
      case .accepted: return
      case .rejoin: throw PeatError.unavailable("'\(client)' was taken for lost.")
      case .refused(let refusal): throw PeatError.badData(refusal.message)
      case .send(let ticket, let offset):
        let reply = try await connection.upload(payload, ticket: ticket, from: offset)
        if case .refused(let refusal) = reply { throw PeatError.badData(refusal.message) }
      }
    }
  }
}
