import Foundation
import PeatFederation
import PeatGRPC
import PeatSecurity
import PeatTensor
import Synchronization
import TestSupport
import Testing

@Suite("Strangers", .timeLimit(.minutes(10))) struct StrangersTests {
  /// Strangers that a test may change while it looks at them.
  private final class Crowd {
    private var all: Strangers<Int>
    var count: Int { all.count }

    init(_ limit: Int, ofAddress: Int) {
      all = Strangers(limit: limit, limitOfAddress: ofAddress, patience: .seconds(3))
    }

    @discardableResult func add(
      _ number: Int, from address: String, at time: Duration, isFull: Bool = false
    ) -> Strangers<Int>.Answer {
      all.add(number, from: address, at: time, isFull: isFull)
    }

    func hasSpoken(_ number: Int) { all.hasSpoken(number) }
    func remove(_ number: Int) -> Bool { all.remove(number) }
  }

  @Test func `of one address the one that has been silent for the longest goes`() {
    let all = Crowd(10, ofAddress: 3)
    for number in 1...3 { #expect(all.add(number, from: "a", at: .zero) == .hasRoom) }
    all.hasSpoken(1)
    #expect(all.add(4, from: "a", at: .seconds(1)) == .instead(of: 2))
    // Other addresses have room.
    #expect(all.add(5, from: "b", at: .seconds(1)) == .hasRoom)
    #expect(all.add(6, from: "a", at: .seconds(1)) == .instead(of: 3))
    #expect(all.count == 4)
    // Whoever is known is no stranger any more, and takes up none of that room.
    #expect(all.remove(1))
    #expect(!all.remove(1))
    #expect(all.add(7, from: "a", at: .seconds(1)) == .hasRoom)
  }

  @Test func `who has spoken does not go before it had time`() {
    let all = Crowd(10, ofAddress: 2)
    for number in 1...2 {
      #expect(all.add(number, from: "a", at: .zero) == .hasRoom)
      all.hasSpoken(number)
    }
    #expect(all.add(3, from: "a", at: .seconds(2)) == .refused)
    #expect(all.add(4, from: "a", at: .seconds(3)) == .instead(of: 1))
    all.hasSpoken(4)
    #expect(all.add(5, from: "a", at: .seconds(3)) == .instead(of: 2))
  }

  @Test func `of all the address that has most gives way, and none that is known`() {
    let all = Crowd(4, ofAddress: 3)
    for number in 1...3 { _ = all.add(number, from: "many", at: .zero) }
    _ = all.add(4, from: "one", at: .zero)
    #expect(all.add(5, from: "new", at: .zero) == .instead(of: 1))
    #expect(all.count == 4)
    let none = Crowd(4, ofAddress: 3)
    #expect(none.add(1, from: "a", at: .zero, isFull: true) == .refused)
    #expect(none.count == 0)
  }

  private static func identity(_ authority: CertificateAuthority) throws -> Identity {
    try authority.issue(.client, name: "ada")
  }

  /// A coordinator behind TLS with small limits; what it tells of strangers.
  private func withServer(
    _ limits: ServerLimits,
    _ body: (NetworkAddress, CertificateAuthority, URL, @Sendable () -> [ClosedStrangers])
      async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      let audit = folder.appendingPathComponent("audit.jsonl")
      let log = try AuditLog(audit)
      let box = Seen<ClosedStrangers>()
      let server = try CoordinatorServer(
        FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0),
        security: .mutualTLS(
          try ServerCredentials(authority, run: "run-0", hosts: ["127.0.0.1"])),
        limits: limits, audit: log, onStrangers: { box.add($0) })
      let address = try await server.start()
      try await body(address, authority, audit) { box.all }
      await server.stop(grace: .zero)
      log.close()
    }
  }

  @Test func `who says nothing is closed after a while, and who is known stays`() async throws {
    var limits = ServerLimits()
    limits.introduction = .seconds(2)
    try await withServer(limits) { address, authority, audit, told in
      let ada = try GRPCConnection(
        to: address, security: .mutualTLS(Self.identity(authority)))
      // On a machine with much to do she may be too late herself.
      try await eventually("she is known") {
        (try? await ada.join(JoinRequest(client: "ada"))) != nil
      }
      let start = ContinuousClock.now
      let silent = try RawConnection(port: address.port)
      let halting = try RawConnection(port: address.port)
      halting.say("\u{16}\u{3}\u{1}")
      try await eventually("both are closed") { silent.isClosed && halting.isClosed }
      #expect(ContinuousClock.now - start > .milliseconds(1800))
      // The same connection: no other could be made in its place without another handshake.
      try await Task.sleep(for: .milliseconds(500))
      _ = try await ada.join(JoinRequest(client: "ada"))
      await ada.close()
      try await eventually("it is told") { !told().isEmpty }
      #expect(told().count == 1, "it is told together: \(told())")
      #expect(told().first?.description.contains("it had 2.0 s") == true, "\(told())")
      let text = try String(contentsOf: audit, encoding: .utf8)
      #expect(text.split(separator: "\n").count { $0.contains("\"action\":\"connection\"") } == 1)
    }
  }

  @Test func `strangers that say nothing keep no client out`() async throws {
    var limits = ServerLimits()
    (limits.connections, limits.strangers, limits.strangersOfAddress) = (12, 8, 6)
    limits.introduction = .seconds(600)
    try await withServer(limits) { address, authority, _, told in
      let silent = try (0..<40).map { _ in try RawConnection(port: address.port) }
      try await eventually("most are closed") { silent.count { !$0.isClosed } == 6 }
      let ada = try GRPCConnection(
        to: address, security: .mutualTLS(Self.identity(authority)))
      _ = try await ada.join(JoinRequest(client: "ada"))
      // More come; she stays.
      let more = try (0..<40).map { _ in try RawConnection(port: address.port) }
      try await eventually("all but six are closed") {
        (silent + more).count { !$0.isClosed } == 6
      }
      _ = try await ada.join(JoinRequest(client: "ada"))
      await ada.close()
      try await eventually("it is told") { told().reduce(0) { $0 + $1.count } > 30 }
    }
  }
}

@Suite("Certificates that end meanwhile", .timeLimit(.minutes(10))) struct SecondLookTests {
  /// Takes back a certificate while something of its client is under way.
  private actor Revoking: CoordinatorEndpoint {
    let isRevoked: Flag
    private(set) var finished = 0
    private(set) var pieces = 0

    init(_ isRevoked: Flag) { self.isRevoked = isRevoked }

    func join(_ request: JoinRequest) async throws -> JoinReply {
      JoinReply(run: "fake", session: "s", rounds: 1)
    }
    func nextTask(_ caller: Caller) async throws -> TaskReply {
      isRevoked.set()
      return .train(HostileTests.task(files: []))
    }
    func download(
      _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
    ) async throws {
      isRevoked.set()
      for _ in 0..<100 {
        try await write(Data([1]))
        pieces += 1
        try await Task.sleep(for: .milliseconds(100))
      }
    }
    func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
      .send(ticket: "ticket", offset: 0)
    }
    func receive(_ chunk: Data, ticket: String, offset: Int) async throws { isRevoked.set() }
    func finishUpload(ticket: String) async throws -> UploadReply {
      finished += 1
      return .accepted
    }
    func report(_ failure: FailureReport) async throws {}
    func attend(_ caller: Caller) async throws -> AttendReply { .rejoin }
    func leave(_ caller: Caller) async {}
  }

  final class Flag: Sendable {
    private let value = Atomic(false)
    func set() { value.store(true, ordering: .relaxed) }
    var isSet: Bool { value.load(ordering: .relaxed) }
  }

  private func expectRevoked(
    _ endpoint: any CoordinatorEndpoint, _ flag: Flag, _ call: (GRPCConnection) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      var credentials = try ServerCredentials(authority, run: "run-0", hosts: ["127.0.0.1"])
      credentials.isRevoked = { _ in flag.isSet }
      let server = try CoordinatorServer(
        endpoint, at: NetworkAddress(host: "127.0.0.1", port: 0),
        security: .mutualTLS(credentials))
      let address = try await server.start()
      let ada = try GRPCConnection(
        to: address, security: .mutualTLS(authority.issue(.client, name: "ada")))
      let error = await #expect(throws: PeatError.self) { try await call(ada) }
      #expect(error?.message.contains("was revoked") == true, "\(String(describing: error))")
      await ada.close()
      await server.stop(grace: .zero)
    }
  }

  private let caller = Caller(client: "ada", session: "s")

  @Test func `an update is not taken of who was taken back while it was sent`() async throws {
    let flag = Flag()
    let endpoint = Revoking(flag)
    try await expectRevoked(endpoint, flag) { ada in
      let payload = Data([1, 2, 3])
      let offer = UploadOffer(
        caller: caller, header: Data("{}".utf8),
        payload: BlobReference(digest: Digest(of: payload), bytes: payload.count))
      _ = try await ada.offer(offer)
      _ = try await ada.upload(payload, ticket: "ticket", from: 0, onSent: { _ in })
    }
    #expect(await endpoint.finished == 0)
  }

  @Test func `a download ends soon after its client was taken back`() async throws {
    let flag = Flag()
    let endpoint = Revoking(flag)
    try await expectRevoked(endpoint, flag) { ada in
      try await ada.download(DownloadRequest(caller: caller, digest: Digest(of: Data()))) { _ in }
    }
    #expect(await endpoint.pieces < 60)
  }

  @Test func `who was taken back is not there any more`() async throws {
    let flag = Flag()
    // Attends for a minute.
    let endpoint = FakeEndpoint()
    try await expectRevoked(endpoint, flag) { ada in
      let start = ContinuousClock.now
      let attending = Task { try await ada.attend(caller) }
      _ = try await ada.join(JoinRequest(client: "ada"))
      try await Task.sleep(for: .milliseconds(200))
      flag.set()
      let error = await #expect(throws: PeatError.self) {
        try await ada.join(JoinRequest(client: "ada"))
      }
      await #expect(throws: PeatError.self) { try await attending.value }
      #expect(ContinuousClock.now - start < .seconds(50))
      if let error { throw error }
    }
  }

  @Test func `no task is given to who was taken back while it waited`() async throws {
    let flag = Flag()
    try await expectRevoked(Revoking(flag), flag) { ada in _ = try await ada.nextTask(caller) }
  }
}

@Suite("Clocks that jump", .timeLimit(.minutes(10))) struct JumpingClockTests {
  private final class Jump: Sendable {
    private let offset = Mutex(0.0)
    func by(_ seconds: Double) { offset.withLock { $0 = seconds } }
    var now: Date { Date(timeIntervalSinceNow: offset.withLock { $0 }) }
  }

  @Test func `a client whose certificate holds by its own clock goes on trying`() async throws {
    try await withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      let jump = Jump()
      var credentials = try ServerCredentials(authority, run: "run-0", hosts: ["127.0.0.1"])
      credentials.now = { jump.now }
      let log = try AuditLog(folder.appendingPathComponent("audit.jsonl"))
      let server = try CoordinatorServer(
        FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0),
        security: .mutualTLS(credentials), audit: log)
      let address = try await server.start()
      let ada = try GRPCConnection(
        to: address, security: .mutualTLS(authority.issue(.client, name: "ada")))
      for days in [-800.0, 800] {
        jump.by(days * 86_400)
        let error = await #expect(throws: PeatError.self) {
          try await ada.join(JoinRequest(client: "ada"))
        }
        #expect(error?.code == .unavailable, "\(String(describing: error))")
        #expect(error?.message.contains("clocks is wrong") == true, "\(String(describing: error))")
      }
      jump.by(0)
      _ = try await ada.join(JoinRequest(client: "ada"))
      // A whole client takes it as a coordinator that can't be reached for now.
      jump.by(-800 * 86_400)
      let seen = Seen<String>()
      let client = try Client(
        ClientConfiguration(
          client: "ada",
          retry: RetryPolicy(attempts: 200, initial: .milliseconds(20), maximum: .milliseconds(50))),
        connection: ada, trainer: ToyTrainer(target: 1),
        workFolder: folder.appendingPathComponent("ada"), logger: .quiet,
        freeMemory: { 1 << 20 },
        onProgress: { event in
          guard case .unreachable(let reason, _, _, _) = event else { return }
          seen.add(reason)
          jump.by(0)
        })
      #expect(try await client.run().ending == .completed)
      #expect(seen.all.first?.contains("clocks is wrong") == true)
      await ada.close()
      await server.stop(grace: .zero)
      log.close()
      let text = try String(contentsOf: log.file, encoding: .utf8)
      #expect(text.contains("is not valid before") && text.contains("expired at"))
    }
  }
}

/// What was heard, in order.
private final class Seen<Value: Sendable>: Sendable {
  private let values = Mutex<[Value]>([])
  var all: [Value] { values.withLock { $0 } }
  func add(_ value: Value) { values.withLock { $0.append(value) } }
}
