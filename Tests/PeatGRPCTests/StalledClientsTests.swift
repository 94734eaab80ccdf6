import Foundation
import PeatFederation
import PeatGRPC
import PeatTensor
import Testing

/// A coordinator with one large blob, that takes uploads of any length.
private actor Warehouse: CoordinatorEndpoint {
  let blob = Data(count: 3 << 20)
  /// Bytes that have arrived, by ticket.
  private(set) var arrived: [String: Int] = [:]
  private(set) var finished: Set<String> = []

  func join(_ request: JoinRequest) async throws -> JoinReply {
    JoinReply(run: "warehouse", session: "s", rounds: 1)
  }

  func nextTask(_ caller: Caller) async throws -> TaskReply { .wait }

  nonisolated func download(
    _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
  ) async throws {
    var offset = request.offset
    while offset < blob.count {
      let end = min(offset + chunkBytes, blob.count)
      try await write(blob[offset..<end])
      offset = end
    }
  }

  func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
    .send(ticket: offer.caller.client.name, offset: 0)
  }

  func receive(_ chunk: Data, ticket: String, offset: Int) async throws {
    arrived[ticket, default: 0] += chunk.count
  }

  func finishUpload(ticket: String) async throws -> UploadReply {
    finished.insert(ticket)
    return .accepted
  }

  func report(_ failure: FailureReport) async throws {}
  func attend(_ caller: Caller) async throws -> AttendReply { .again }
  func leave(_ caller: Caller) async {}
}

/// More clients than there are turns begin, and then take or send no more: the others get all that they want meanwhile.
@Suite("Clients that stall", .timeLimit(.minutes(5))) struct StalledClientsTests {
  private static let stalledCount = 24
  private static let quickCount = 24

  private func caller(_ name: String) throws -> Caller {
    Caller(client: try ClientID(name), session: "s")
  }

  /// Gives connections to a server, and closes all at the end.
  private func withServer(
    _ endpoint: Warehouse,
    _ body:
      @Sendable (_ connect: @Sendable (LinkLimits) async throws -> GRPCConnection) async throws ->
      Void
  ) async throws {
    let server = try CoordinatorServer(
      endpoint, at: NetworkAddress(host: "127.0.0.1", port: 0), security: .plaintext)
    let address = try await server.start()
    let all = Log<GRPCConnection>()
    do {
      try await body { limits in
        let connection = try GRPCConnection(to: address, security: .plaintext, limits: limits)
        await all.add(connection)
        return connection
      }
    } catch {
      await server.stop(grace: .zero)
      throw error
    }
    for connection in await all.values { await connection.close() }
    await server.stop(grace: .zero)
  }

  @Test func `downloads that stall hold up no other`() async throws {
    let warehouse = Warehouse()
    let request = DownloadRequest(caller: try caller("c"), digest: Digest(of: warehouse.blob))
    try await withServer(warehouse) { connect in
      let door = Door()
      let begun = Log<Int>()
      var stalled: [Task<Void, any Error>] = []
      for number in 0..<Self.stalledCount {
        let connection = try await connect(.none)
        stalled.append(
          Task {
            try await connection.download(request) { _ in
              await begun.add(number)
              // Nothing more is read: what is on its way fills the window, and the server waits.
              await door.pass()
            }
          })
      }
      try await eventually("all of them have begun") {
        Set(await begun.values).count == Self.stalledCount
      }
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<Self.quickCount {
          let connection = try await connect(.none)
          group.addTask {
            let pieces = Log<Int>()
            try await connection.download(request) { await pieces.add($0.count) }
            return await pieces.values.reduce(0, +)
          }
        }
        for try await bytes in group { #expect(bytes == warehouse.blob.count) }
      }
      // Each of those that stall was at its first piece all the while.
      #expect(await begun.values.count == Self.stalledCount)
      await door.open()
      for task in stalled { try await task.value }
      #expect(await begun.values.count > Self.stalledCount)
    }
  }

  @Test func `uploads that stall hold up no other`() async throws {
    let warehouse = Warehouse()
    let payload = Data(count: 1 << 20)
    let reference = BlobReference(digest: Digest(of: payload), bytes: payload.count)
    @Sendable func offer(_ name: String, _ connection: GRPCConnection) async throws -> String {
      let offer = UploadOffer(caller: try caller(name), header: Data("{}".utf8), payload: reference)
      guard case .send(let ticket, 0) = try await connection.offer(offer) else {
        throw PeatError.badData("the update was not asked for")
      }
      return ticket
    }
    try await withServer(warehouse) { connect in
      var stalled: [Task<Void, any Error>] = []
      for number in 0..<Self.stalledCount {
        // One in two never sends anything, the others a piece in hours.
        let connection = try await connect(try LinkLimits(upload: 1))
        let ticket = try await offer("stalled-\(number)", connection)
        guard number % 2 == 0 else { continue }
        stalled.append(
          Task { _ = try await connection.upload(payload, ticket: ticket, from: 0) })
      }
      try await eventually("those that send have begun") {
        await warehouse.arrived.count == Self.stalledCount / 2
      }
      try await withThrowingTaskGroup(of: UploadReply.self) { group in
        for number in 0..<Self.quickCount {
          let connection = try await connect(.none)
          group.addTask {
            let ticket = try await offer("quick-\(number)", connection)
            return try await connection.upload(payload, ticket: ticket, from: 0)
          }
        }
        for try await reply in group { #expect(reply == .accepted) }
      }
      let finished = await warehouse.finished
      #expect(finished.count == Self.quickCount)
      #expect(finished.allSatisfy { $0.hasPrefix("quick-") })
      for number in 0..<Self.quickCount {
        #expect(await warehouse.arrived["quick-\(number)"] == payload.count)
      }
      for task in stalled { task.cancel() }
      for task in stalled { _ = await task.result }
    }
  }
}
