import Foundation
import PeatFederation
import PeatGRPC
import PeatSecurity
import PeatTensor
import TestSupport
import Testing

import enum Crypto.P256

/// A coordinator behind TLS, with an authority of its own.
private struct Lab {
  let authority: CertificateAuthority
  let server: CoordinatorServer
  let address: NetworkAddress
  let audit: URL
  private let log: AuditLog

  init(
    _ folder: URL, _ endpoint: any CoordinatorEndpoint = FakeEndpoint(),
    limits: ServerLimits = .usual, hosts: [String] = ["127.0.0.1"],
    change: (inout ServerCredentials) throws -> Void = { _ in }
  ) async throws {
    authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
    audit = folder.appendingPathComponent("audit.jsonl")
    log = try AuditLog(audit)
    var credentials = try ServerCredentials(authority, run: "run-0", hosts: hosts)
    try change(&credentials)
    server = try CoordinatorServer(
      endpoint, at: NetworkAddress(host: "127.0.0.1", port: 0), security: .mutualTLS(credentials),
      limits: limits, audit: log)
    address = try await server.start()
  }

  func connect(as identity: Identity) throws -> GRPCConnection {
    try GRPCConnection(to: address, security: .mutualTLS(identity))
  }

  func stop() async {
    await server.stop(grace: .zero)
    log.close()
  }

  var entries: [[String: Any]] {
    get throws {
      try String(decoding: Data(contentsOf: audit), as: UTF8.self).split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
  }
}

private func withLab(
  _ endpoint: any CoordinatorEndpoint = FakeEndpoint(), limits: ServerLimits = .usual,
  hosts: [String] = ["127.0.0.1"],
  change: (inout ServerCredentials) throws -> Void = { _ in },
  _ body: (Lab, URL) async throws -> Void
) async throws {
  try await withTemporaryFolder { folder in
    let lab = try await Lab(folder, endpoint, limits: limits, hosts: hosts, change: change)
    try await body(lab, folder)
    await lab.stop()
  }
}

/// A call must fail so, and the connection be closed.
private func refused(
  _ connection: GRPCConnection, as client: ClientID = "ada", code: PeatError.Code = .usage,
  saying text: String, sourceLocation: SourceLocation = #_sourceLocation
) async {
  let error = await #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
    try await connection.join(JoinRequest(client: client))
  }
  #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
  #expect(
    error?.message.contains(text) == true, "\(String(describing: error))",
    sourceLocation: sourceLocation)
  await connection.close()
}

@Suite("TLS on both sides", .timeLimit(.minutes(10))) struct MutualTLSTests {
  @Test func `who has a certificate of the authority takes part under its name alone`() async throws
  {
    try await withLab { lab, _ in
      let ada = try lab.connect(as: lab.authority.issue(.client, name: "ada"))
      #expect(try await ada.join(JoinRequest(client: "ada")).run == "fake")
      #expect(try await ada.measureLink() != nil)
      let error = await #expect(throws: PeatError.self) {
        try await ada.join(JoinRequest(client: "bo"))
      }
      #expect(error?.code == .usage && error?.message.contains("is that of 'ada'") == true)
      await #expect(throws: PeatError.self) {
        try await ada.nextTask(Caller(client: "bo", session: "s"))
      }
      await #expect(throws: PeatError.self) {
        try await ada.report(
          FailureReport(caller: Caller(client: "bo", session: "s"), round: 1, reason: "x"))
      }
      await ada.close()
      let entries = try lab.entries
      #expect(
        entries.contains { $0["action"] as? String == "join" && $0["who"] as? String == "ada" })
      #expect(
        entries.count {
          $0["result"] as? String == "refused"
            && ($0["details"] as? [String: String])?["as"] == "bo"
        } == 3)
    }
  }

  @Test func `a certificate that does not hold is turned away, with the reason`() async throws {
    try await withLab { lab, folder in
      let other = try CertificateAuthority.create(at: folder.appendingPathComponent("other"))
      // Of another authority, but it believes this one.
      let eve = try other.issue(.client, name: "ada")
      let stranger = folder.appendingPathComponent("eve")
      try eve.write(to: stranger)
      let trust = stranger.appendingPathComponent("ca.pem")
      try Data(contentsOf: lab.authority.folder.appendingPathComponent("ca.pem")).write(to: trust)
      await refused(
        try lab.connect(as: try #require(try Identity(in: stranger))),
        saying: "another authority")
      let old = try lab.authority.issue(
        .client, name: "old", now: Date(timeIntervalSinceNow: -400 * 86_400))
      #expect(throws: PeatError.self) { try lab.connect(as: old) }
      let server = try lab.authority.issue(.server, name: "x", hosts: ["127.0.0.1"])
      #expect(throws: PeatError.self) { try lab.connect(as: server) }
    }
  }

  @Test func `a revoked certificate stops to hold while its connection is open`() async throws {
    try await withLab { lab, _ in
      let ada = try lab.connect(as: lab.authority.issue(.client, name: "ada"))
      _ = try await ada.join(JoinRequest(client: "ada"))
      _ = try lab.authority.revoke("ada")
      await refused(ada, saying: "was revoked")
    }
  }

  @Test func `a client believes only a coordinator of its authority, at the address it called`()
    async throws
  {
    try await withLab { lab, folder in
      let other = try CertificateAuthority.create(at: folder.appendingPathComponent("other"))
      await refused(
        try lab.connect(as: other.issue(.client, name: "ada")),
        saying: "another authority")
    }
    try await withLab(hosts: ["192.0.2.7"]) { lab, _ in
      await refused(
        try lab.connect(as: lab.authority.issue(.client, name: "ada")),
        saying: "it is for 192.0.2.7, not for 127.0.0.1")
    }
    try await withLab { lab, _ in
      // By name, too.
      let there = NetworkAddress(host: "localhost", port: lab.address.port)
      let connection = try GRPCConnection(
        to: there, security: .mutualTLS(lab.authority.issue(.client, name: "ada")))
      _ = try await connection.join(JoinRequest(client: "ada"))
      await connection.close()
    }
  }

  @Test func `without TLS against TLS, and the reverse, says so`() async throws {
    try await withLab { lab, _ in
      let connection = try GRPCConnection(to: lab.address, security: .plaintext)
      let error = await #expect(throws: PeatError.self) {
        try await connection.join(JoinRequest(client: "ada"))
      }
      #expect(
        error?.message.contains("speaks TLS") == true
          && error?.message.contains("--insecure") == true, "\(String(describing: error))")
      await connection.close()
      let server = try CoordinatorServer(
        FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0), security: .plaintext)
      let address = try await server.start()
      await refused(
        try GRPCConnection(
          to: address, security: .mutualTLS(lab.authority.issue(.client, name: "ada"))),
        saying: "does not speak TLS")
      await server.stop(grace: .zero)
    }
  }

  @Test func `a newcomer enrols with its token, once, and may do nothing else before`() async throws
  {
    try await withLab { lab, folder in
      let token = try lab.authority.makeToken(for: "run-0")
      let place = folder.appendingPathComponent("identity")
      let identity = try await Identity.enrol(
        token, as: "ada", at: lab.address, keepingIn: place)
      #expect(try identity.client == "ada")
      let kept = try #require(try Identity(in: place))
      #expect(kept.certificate == identity.certificate)
      let mode =
        try FileManager.default.attributesOfItem(
          atPath: place.appendingPathComponent("key.pem").path)[.posixPermissions] as? Int
      #expect(mode == 0o600)
      let ada = try lab.connect(as: kept)
      _ = try await ada.join(JoinRequest(client: "ada"))
      await ada.close()
      func refuses(_ token: EnrolmentToken, as client: ClientID, _ reason: String) async {
        let error = await #expect(throws: PeatError.self) {
          try await Identity.enrol(
            token, as: client, at: lab.address,
            keepingIn: folder.appendingPathComponent(UUID().uuidString))
        }
        #expect(error?.code == .usage)
        #expect(error?.message.contains(reason) == true, "\(String(describing: error))")
      }
      await refuses(token, as: "bo", "used already")
      await refuses(try lab.authority.makeToken(for: "run-1"), as: "bo", "is for the run 'run-1'")
      await refuses(
        try lab.authority.makeToken(
          for: "run-0", life: .seconds(1), now: Date(timeIntervalSinceNow: -5)), as: "bo",
        "expired")
      let other = try CertificateAuthority.create(at: folder.appendingPathComponent("other"))
      await refuses(try other.makeToken(for: "run-0"), as: "bo", "not to be believed")
      let text = String(decoding: try Data(contentsOf: lab.audit), as: UTF8.self)
      #expect(!text.contains(token.proof.secret))
      #expect(try lab.entries.count { $0["action"] as? String == "enrol" } == 4)
    }
  }

  @Test func `a coordinator with PEM files of its own enrols nobody, and reads what was revoked`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("a"))
      let place = folder.appendingPathComponent("lab")
      try authority.issue(.server, name: "lab", hosts: ["127.0.0.1"]).write(to: place)
      let identity = try Identity(
        certificate: place.appendingPathComponent("certificate.pem"),
        key: place.appendingPathComponent("key.pem"), trust: place.appendingPathComponent("ca.pem"))
      let file = folder.appendingPathComponent("revoked.txt")
      try Data().write(to: file)
      let list = try RevocationFile(file)
      let server = try CoordinatorServer(
        FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0),
        security: .mutualTLS(ServerCredentials(identity) { list.contains($0) }))
      let address = try await server.start()
      let ada = try authority.issue(.client, name: "ada")
      let connection = try GRPCConnection(to: address, security: .mutualTLS(ada))
      _ = try await connection.join(JoinRequest(client: "ada"))
      try await Task.sleep(for: .milliseconds(20))
      try Data("00:\(ada.certificate.serial.uppercased())\n".utf8).write(to: file)
      await refused(connection, saying: "was revoked")
      // The authority is not shown, so that a token's fingerprint can't be checked either.
      await #expect(throws: PeatError.self) {
        try await Identity.enrol(
          authority.makeToken(for: "run-0"), as: "bo", at: address,
          keepingIn: folder.appendingPathComponent("bo"))
      }
      await server.stop(grace: .zero)
    }
  }

  @Test func `a ticket of another client is worth nothing`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .mutualTLS, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      let ada = try await federation.stranger("ada")
      let eve = try await federation.stranger("eve")
      let task = try await ada.task()
      let payload = SafeTensors.encode(ToyTrainer.adapter)
      let offer = UploadOffer(
        caller: ada.caller, header: try ada.header(task).json(),
        payload: BlobReference(digest: Digest(of: payload), bytes: payload.count))
      guard case .send(let ticket, _) = try await ada.connection.offer(offer) else {
        Issue.record("was not taken")
        return
      }
      guard
        case .refused(let refusal) = try await eve.connection.upload(
          payload, ticket: ticket, from: 0)
      else {
        Issue.record("a stranger's pieces were taken")
        return
      }
      #expect(refusal.code == .notExpected)
      #expect(try await ada.connection.upload(payload, ticket: ticket, from: 0) == .accepted)
      // Once more: it is the same update, and counts once.
      #expect(try await ada.connection.offer(offer) == .accepted)
      try await eve.connection.leave(eve.caller)
      await eve.connection.close()
      #expect(try await running.value.rounds.first?.delivered == ["ada"])
      let outcome = try await running.value.rounds[0].outcomes.first { $0.client == "ada" }
      let signature = try #require(outcome?.signature)
      #expect(signature.payload == Digest(of: payload) && !signature.certificate.isEmpty)
      await ada.connection.close()
      await federation.transport.cut()
    }
  }
}

@Suite("Signed updates", .timeLimit(.minutes(10))) struct SignedUpdateTests {
  static let key = P256.Signing.PrivateKey()
  static let payload = SafeTensors.encode(ToyTrainer.adapter)

  struct Change: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let code: UpdateRefusal.Code
    /// What is changed before it is signed, and afterwards.
    var before: @Sendable (inout UploadOffer) -> Void = { _ in }
    var after: @Sendable (inout UploadOffer) -> Void = { _ in }
  }

  static let changes: [Change] = [
    Change(
      testDescription: "no signature", code: .unsigned, after: { $0.proof?.signature = Data() }),
    Change(
      testDescription: "another key", code: .wrongSignature,
      after: { $0.proof?.key = P256.Signing.PrivateKey().publicKey.derRepresentation }),
    Change(
      testDescription: "no key at all", code: .wrongSignature, after: { $0.proof?.key = Data([1]) }
    ),
    Change(
      testDescription: "a signature that is none", code: .wrongSignature,
      after: { $0.proof?.signature = Data(repeating: 7, count: 70) }),
    Change(
      testDescription: "other tensors", code: .wrongSignature,
      after: { $0.payload.digest = Digest(of: Data([1])) }),
    Change(
      testDescription: "another size", code: .wrongSignature, after: { $0.payload.bytes += 1 }),
    Change(
      testDescription: "another attempt", code: .wrongSignature, after: { $0.attempt = 2 }),
    Change(
      testDescription: "an attempt that is not made yet", code: .wrongRound,
      before: { $0.attempt = 2 }),
    Change(testDescription: "attempt 0", code: .wrongRound, before: { $0.attempt = 0 }),
    Change(
      testDescription: "a statement of another stay", code: .wrongSignature,
      before: { $0.caller.session = "of another coordinator" }),
    Change(
      testDescription: "a header that was changed", code: .wrongSignature,
      after: { $0.header += Data(" ".utf8) }),
  ]

  @Test(arguments: changes)
  func `is refused where the signature is not of this very update`(change: Change) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 1, minimumClients: 2))
      let running = Task { try await federation.coordinator.run() }
      let evil = try await federation.stranger("evil")
      let honest = try federation.client("honest", ToyTrainer(target: 1))
      let working = Task { try await honest.run() }
      let task = try await evil.task()
      var offer = UploadOffer(
        caller: evil.caller, header: try evil.header(task).json(),
        payload: BlobReference(digest: Digest(of: Self.payload), bytes: Self.payload.count))
      change.before(&offer)
      let header = try UpdateHeader(json: offer.header, from: "test")
      offer.proof = UpdateProof(
        signature: try UpdateStatement(offer, header).signed(by: Self.key),
        key: Self.key.publicKey.derRepresentation, certificate: "01")
      // What is sent is of this stay, whatever was signed.
      offer.caller = evil.caller
      change.after(&offer)
      guard case .refused(let refusal) = try await federation.coordinator.offer(offer) else {
        Issue.record("was taken")
        running.cancel()
        return
      }
      #expect(refusal.code == change.code, "\(refusal)")
      #expect(try await running.value.rounds.first?.delivered == ["honest"])
      _ = try await working.value
    }
  }

  @Test func `is taken where it is, and can be checked later from the record`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .mutualTLS, in: folder, rules: RoundRules(rounds: 2, minimumClients: 2))
      let (run, _) = try await federation.run([
        "anna": ToyTrainer(target: 1), "bo": ToyTrainer(target: 2),
      ])
      let signatures = run.rounds.flatMap(\.outcomes).compactMap(\.signature)
      #expect(signatures.count == 4)
      #expect(Set(signatures.map(\.certificate)).count == 2)
      #expect(Set(signatures.map(\.signature)).count == 4)
    }
  }
}

@Suite("Limits", .timeLimit(.minutes(10))) struct ServerLimitTests {
  @Test func `calls beyond the rate wait, and come through`() async throws {
    var limits = ServerLimits()
    (limits.callRate, limits.callBurst) = (4, 4)
    try await withLab(limits: limits) { lab, _ in
      let ada = try lab.connect(as: lab.authority.issue(.client, name: "ada"))
      let start = ContinuousClock.now
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<12 {
          group.addTask { _ = try await ada.join(JoinRequest(client: "ada")) }
        }
        try await group.waitForAll()
      }
      // 4 at once, the others 4 a second.
      #expect(ContinuousClock.now - start > .milliseconds(1900))
      await ada.close()
      #expect(
        try lab.entries.contains {
          ($0["details"] as? [String: String])?["reason"]?.contains("too many calls") == true
        })
    }
  }

  /// A coordinator that counts how many downloads it serves at a time.
  private actor Slow: CoordinatorEndpoint {
    private let fake = FakeEndpoint()
    private var open = 0
    private(set) var most = 0

    func download(
      _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
    ) async throws {
      open += 1
      most = max(most, open)
      try? await Task.sleep(for: .milliseconds(200))
      open -= 1
      try await write(Data([1]))
    }

    func join(_ request: JoinRequest) async throws -> JoinReply { try await fake.join(request) }
    func nextTask(_ caller: Caller) async throws -> TaskReply { try await fake.nextTask(caller) }
    func offer(_ offer: UploadOffer) async throws -> UploadAnswer { try await fake.offer(offer) }
    func receive(_ chunk: Data, ticket: String, offset: Int) async throws {}
    func finishUpload(ticket: String) async throws -> UploadReply { .accepted }
    func report(_ failure: FailureReport) async throws {}
    func attend(_ caller: Caller) async throws -> AttendReply { .rejoin }
    func leave(_ caller: Caller) async {}
  }

  @Test func `transfers beyond the limit wait for those under way`() async throws {
    var limits = ServerLimits()
    limits.transfers = 2
    let slow = Slow()
    try await withLab(slow, limits: limits) { lab, _ in
      let ada = try lab.connect(as: lab.authority.issue(.client, name: "ada"))
      let request = DownloadRequest(
        caller: Caller(client: "ada", session: "s"), digest: Digest(of: Data()))
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<5 { group.addTask { try await ada.download(request) { _ in } } }
        try await group.waitForAll()
      }
      #expect(await slow.most == 2)
      await ada.close()
    }
  }

  @Test func `connections beyond the limit are closed`() async throws {
    var limits = ServerLimits()
    limits.connections = 2
    try await withLab(limits: limits) { lab, _ in
      let identities = try ["a", "b", "c"].map { try lab.authority.issue(.client, name: $0) }
      var connections: [GRPCConnection] = []
      // One after the other: each dials when it is made.
      for number in 0..<2 {
        connections.append(try lab.connect(as: identities[number]))
        _ = try await connections[number].join(
          JoinRequest(client: try identities[number].client))
      }
      connections.append(try lab.connect(as: identities[2]))
      let last = connections[2]
      let error = await #expect(throws: PeatError.self) {
        try await last.join(JoinRequest(client: "c"))
      }
      #expect(error?.code == .unavailable)
      await connections[0].close()
      try await eventually("there is room again") {
        (try? await last.join(JoinRequest(client: "c"))) != nil
      }
      for connection in connections { await connection.close() }
    }
  }

  @Test func `a limit that is none is refused`() {
    var limits = ServerLimits()
    limits.transfers = 0
    #expect(throws: PeatError.self) { try limits.validate() }
  }
}
