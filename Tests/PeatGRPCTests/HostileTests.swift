import Foundation
import PeatFederation
import PeatGRPC
import PeatTensor
import Testing

/// Clients and coordinators that mean no good, or are broken.
@Suite("Hostile peers", .timeLimit(.minutes(10))) struct HostileTests {
  struct BadUpdate: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let code: UpdateRefusal.Code
    let send: @Sendable (Stranger, TrainingTask) async throws -> UploadReply

    init(
      _ description: String, _ code: UpdateRefusal.Code,
      _ send: @escaping @Sendable (Stranger, TrainingTask) async throws -> UploadReply
    ) {
      testDescription = description
      self.code = code
      self.send = send
    }

    /// An update whose header is good but for one change.
    init(
      _ description: String, _ code: UpdateRefusal.Code,
      header change: @escaping @Sendable (inout UpdateHeader) -> Void
    ) {
      self.init(description, code) { stranger, task in
        var header = stranger.header(task)
        change(&header)
        return try await stranger.send(header, good)
      }
    }

    /// An update whose tensors are good but for one change.
    init(
      _ description: String, _ code: UpdateRefusal.Code,
      tensors change: @escaping @Sendable (inout NamedTensors) -> Void
    ) {
      self.init(description, code) { stranger, task in
        var tensors = ToyTrainer.adapter
        change(&tensors)
        return try await stranger.send(stranger.header(task), SafeTensors.encode(tensors))
      }
    }
  }

  static let good = SafeTensors.encode(ToyTrainer.adapter)

  static let badUpdates: [BadUpdate] = [
    BadUpdate("NaN", .notFinite, tensors: { $0["layers.0.lora_B"] = [0, 0, .nan, 0] }),
    BadUpdate("infinity", .notFinite, tensors: { $0["layers.0.lora_B"] = [.infinity, 0, 0, 0] }),
    BadUpdate(
      "a value out of all proportion", .tooFar,
      tensors: { $0["layers.0.lora_B"] = [0, 1e30, 0, 0] }),
    BadUpdate(
      "a value that no training gets to", .tooFar,
      tensors: { $0["layers.0.lora_B"] = [0, -2e4, 0, 0] }),
    BadUpdate("a missing name", .missingTensors, tensors: { $0["layers.0.lora_B"] = nil }),
    BadUpdate("an extra name", .unknownTensors, tensors: { $0["layers.9.lora_A"] = [1] }),
    BadUpdate("a wrong shape", .wrongShape, tensors: { $0["layers.0.lora_B"] = [1, 2, 3] }),
    BadUpdate(
      "the right count in a wrong shape", .wrongShape,
      tensors: { $0["layers.0.lora_A"] = Tensor(repeating: 0, shape: [3, 2]) }),
    BadUpdate("another base", .wrongBase, header: { $0.baseDigest = Digest(of: Data()) }),
    BadUpdate("another run", .wrongRun, header: { $0.run = "other" }),
    BadUpdate("a later round", .wrongRound, header: { $0.round = 9 }),
    BadUpdate("another client's name", .wrongClient, header: { $0.client = "honest" }),
    BadUpdate("another method", .wrongMethod, header: { $0.method = "dora" }),
    BadUpdate("another rank", .wrongRank, header: { $0.rank = 64 }),
    BadUpdate("another alpha", .wrongAlpha, header: { $0.alpha = 1e9 }),
    BadUpdate("no examples", .exampleCount, header: { $0.exampleCount = 0 }),
    BadUpdate("negative examples", .exampleCount, header: { $0.exampleCount = -7 }),
    BadUpdate("absurdly many examples", .exampleCount, header: { $0.exampleCount = .max }),
    BadUpdate("negative telemetry", .telemetry, header: { $0.telemetry.tokens = -1 }),
    BadUpdate("an infinite metric", .malformed) { stranger, task in
      let json = String(decoding: try stranger.header(task).json(), as: UTF8.self)
        .replacing("\"metrics\" : {\n\n  }", with: "\"metrics\" : {\"loss\": 1e999}")
      return try await stranger.send(json: Data(json.utf8), good)
    },
    BadUpdate("a header that is no JSON", .malformed) { stranger, _ in
      try await stranger.send(json: Data([0xff, 0, 1]), good)
    },
    BadUpdate("a header without a run", .malformed) { stranger, _ in
      try await stranger.send(json: Data(#"{"formatVersion": 1}"#.utf8), good)
    },
    BadUpdate("a header of 100 kB", .tooLarge) { stranger, _ in
      try await stranger.send(json: Data(repeating: 0x20, count: 100_000), good)
    },
    BadUpdate("a size over the limit", .tooLarge) { stranger, task in
      try await stranger.send(stranger.header(task), good, announcedBytes: 10_001)
    },
    BadUpdate("a size that overflows", .tooLarge) { stranger, task in
      try await stranger.send(stranger.header(task), good, announcedBytes: .max)
    },
    BadUpdate("more bytes than announced", .tooLarge) { stranger, task in
      try await stranger.send(
        stranger.header(task), good + Data(repeating: 0, count: 5000),
        announcedBytes: good.count)
    },
    BadUpdate("fewer bytes than announced", .malformed) { stranger, task in
      try await stranger.send(
        stranger.header(task), good.dropLast(8), announcedBytes: good.count)
    },
    BadUpdate("another digest than announced", .digestMismatch) { stranger, task in
      try await stranger.send(
        stranger.header(task), good, announcedDigest: Digest(of: Data("other".utf8)))
    },
    BadUpdate("no tensors at all", .malformed) { stranger, task in
      try await stranger.send(stranger.header(task), Data())
    },
    BadUpdate("a safetensors header that lies about its length", .malformed) { stranger, task in
      var lying = good
      lying.replaceSubrange(0..<8, with: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
      return try await stranger.send(stranger.header(task), lying)
    },
    BadUpdate("offsets outside of the file", .malformed) { stranger, task in
      let header = #"{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}"#
      var data = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
      data.append(Data(header.utf8))
      return try await stranger.send(stranger.header(task), data)
    },
  ]

  @Test(arguments: TransportKind.allCases, badUpdates)
  func `is refused with the reason, and the round lives`(
    kind: TransportKind, bad: BadUpdate
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      let evil = try await federation.stranger("evil")
      let honest = try federation.client("honest", ToyTrainer(target: 1))
      let working = Task { try await honest.run() }
      let reply = try await bad.send(evil, try await evil.task())
      guard case .refused(let refusal) = reply else {
        Issue.record("was taken: \(reply)")
        running.cancel()
        return
      }
      #expect(refusal.code == bad.code)
      #expect(!refusal.message.isEmpty && !refusal.message.contains(folder.path))
      let report = try await running.value
      #expect(report.rounds.first?.delivered == ["honest"])
      #expect(report.rounds.first?.outcomes.first?.result == .refused(refusal))
      #expect(try await working.value.updates == 1)
      await evil.connection.close()
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a client whose update is refused goes on with the next round`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 2, minimumClients: 2))
      var sometimes = ToyTrainer(target: 1)
      sometimes.corrupt = { task, result in
        if task.round == 1 { result.tensors["layers.0.lora_B"] = [.nan, 0, 0, 0] }
      }
      let (run, clients) = try await federation.run([
        "sometimes": sometimes, "well": ToyTrainer(target: 2),
      ])
      #expect(run.rounds.map(\.delivered) == [["well"], ["sometimes", "well"]])
      #expect(clients["sometimes"]?.refusals == 1 && clients["sometimes"]?.updates == 1)
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `who has no session can't fetch, send or report`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(kind, in: folder, rules: RoundRules(rounds: 1))
      let connection = try federation.transport.connect("thief")
      let thief = Caller(client: "thief", session: "guess")
      let blob = try #require(await federation.coordinator.levels[0].files.first)
      await #expect(throws: PeatError.self) {
        try await connection.download(DownloadRequest(caller: thief, digest: blob.digest)) { _ in }
      }
      await #expect(throws: PeatError.self) {
        try await connection.report(FailureReport(caller: thief, round: 1, reason: "x"))
      }
      let offer = UploadOffer(
        caller: thief, header: Data(), payload: BlobReference(digest: blob.digest, bytes: 1))
      #expect(try await connection.offer(offer) == .rejoin)
      #expect(try await connection.nextTask(thief) == .rejoin)
      #expect(try await connection.attend(thief) == .rejoin)
      let reply = try await connection.upload(Self.good, ticket: "guess", from: 0)
      guard case .refused(let refusal) = reply else {
        Issue.record("\(reply)")
        return
      }
      #expect(refusal.code == .notExpected)
      await #expect(throws: PeatError.self) {
        try await connection.join(JoinRequest(client: .server))
      }
      var old = JoinRequest(client: "old")
      old.protocolVersion = 99
      let another = try federation.transport.connect("old")
      let error = await #expect(throws: PeatError.self) { try await another.join(old) }
      await another.close()
      #expect(error?.code == .usage)
      #expect(error?.message.contains("version 99") == true)
      await connection.close()
      await federation.transport.cut()
    }
  }

  static let adapterBytes = SafeTensors.encode(ToyTrainer.adapter)

  static func task(
    adapter: BlobReference? = nil, base: Digest? = nil, files: [Package.File]
  ) -> TrainingTask {
    TrainingTask(
      run: "fake", round: 1, client: "a", package: Package(files: files),
      adapter: adapter
        ?? BlobReference(digest: Digest(of: adapterBytes), bytes: adapterBytes.count),
      baseDigest: base ?? ToyTrainer.adapter.digest, settings: ToyTrainer.settings, seed: 1)
  }

  struct BadTask: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let reason: String
    let task: TrainingTask
    var blobs: [Digest: Data] = [:]
  }

  static let badTasks: [BadTask] = {
    let content = Data("content".utf8)
    let digest = Digest(of: content)
    let file = Package.File(name: "config.json", digest: digest, bytes: 7)
    return [
      BadTask(
        testDescription: "bytes with another digest", reason: "digest", task: task(files: [file]),
        blobs: [digest: Data("c0ntent".utf8)]),
      BadTask(
        testDescription: "more bytes than announced", reason: "More than the 7 bytes",
        task: task(files: [file]), blobs: [digest: Data(repeating: 0, count: 500)]),
      BadTask(
        testDescription: "a file outside of the folder", reason: "../evil",
        task: task(files: [.init(name: "../evil", digest: digest, bytes: 7)])),
      BadTask(
        testDescription: "a package over the limit", reason: "accepts",
        task: task(files: [.init(name: "big", digest: digest, bytes: 1 << 50)])),
      BadTask(
        testDescription: "an adapter over the limit", reason: "accepts",
        task: task(adapter: BlobReference(digest: digest, bytes: 1 << 40), files: [file])),
      BadTask(
        testDescription: "another adapter than stated", reason: "stated",
        task: task(base: digest, files: [file]), blobs: [digest: content]),
      BadTask(
        testDescription: "an adapter that is no safetensors", reason: "safetensors",
        task: task(adapter: BlobReference(digest: digest, bytes: 7), files: [file]),
        blobs: [digest: content]),
    ]
  }()

  @Test(arguments: TransportKind.allCases, badTasks)
  func `a client does not do a task that can't be right, and says why`(
    kind: TransportKind, bad: BadTask
  ) async throws {
    try await withTemporaryFolder { folder in
      var blobs = bad.blobs
      blobs[Digest(of: Self.adapterBytes)] = Self.adapterBytes
      let endpoint = FakeEndpoint(task: bad.task, blobs: blobs)
      let transport = try await TestTransport(kind, endpoint)
      let client = try Client(
        ClientConfiguration(
          client: "a", retry: RetryPolicy(attempts: 2, initial: .milliseconds(1))),
        connection: try transport.connect("a"), trainer: ToyTrainer(target: 1), workFolder: folder,
        logger: .quiet)
      let report = try await client.run()
      #expect(report.failures == 1 && report.updates == 0)
      let failures = await endpoint.failures
      #expect(failures.count == 1)
      #expect(failures.first?.reason.contains(bad.reason) == true, "\(failures)")
      let outside = folder.deletingLastPathComponent().appendingPathComponent("evil")
      #expect(!FileManager.default.fileExists(atPath: outside.path))
      await transport.cut()
    }
  }

  @Test(
    arguments: TransportKind.allCases,
    [PeatError.Code.usage, .badData, .unavailable, .internalError, .inputOutput, .interrupted])
  func `an error arrives with its code and message`(
    kind: TransportKind, code: PeatError.Code
  ) async throws {
    let message = "Größe 'x' is wrong: expected 1, found 2.\nTry %41 again."
    let endpoint = FakeEndpoint(error: PeatError(code, message))
    let transport = try await TestTransport(kind, endpoint)
    let connection = try transport.connect("a")
    let caller = Caller(client: "a", session: "s")
    let digest = Digest(of: Data())
    let calls: [@Sendable () async throws -> Void] = [
      { _ = try await connection.join(JoinRequest(client: "a")) },
      { _ = try await connection.nextTask(caller) },
      { try await connection.download(DownloadRequest(caller: caller, digest: digest)) { _ in } },
      {
        _ = try await connection.offer(
          UploadOffer(
            caller: caller, header: Data(), payload: BlobReference(digest: digest, bytes: 0)))
      },
      {
        // Over TLS a ticket that nobody was given does not reach the coordinator.
        if kind == .mutualTLS { throw PeatError(code, message) }
        _ = try await connection.upload(Data([1, 2, 3]), ticket: "t", from: 0)
      },
      { try await connection.report(FailureReport(caller: caller, round: 1, reason: "r")) },
      { _ = try await connection.attend(caller) },
    ]
    for call in calls {
      let error = await #expect(throws: PeatError.self) { try await call() }
      #expect(error?.code == code)
      #expect(error?.message == message)
    }
    await connection.close()
    await transport.cut()
  }
}
