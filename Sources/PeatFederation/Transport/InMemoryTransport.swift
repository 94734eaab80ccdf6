import Foundation
import PeatTensor

/// Connects clients and coordinator within one process, with the same pieces and the same errors as over a network.
public actor InMemoryTransport {
  private var endpoint: (any CoordinatorEndpoint)?
  private nonisolated let chunkBytes: Int
  private var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
  private var calls = 0

  /// - Parameter chunkBytes: how many bytes travel in one piece.
  public init(_ endpoint: any CoordinatorEndpoint, chunkBytes: Int = TransferLimits.chunkBytes) {
    precondition(chunkBytes > 0, "InMemoryTransport: pieces of \(chunkBytes) bytes")
    self.endpoint = endpoint
    self.chunkBytes = chunkBytes
  }

  /// A new connection for one client.
  public nonisolated func connect() -> any CoordinatorConnection { Connection(transport: self) }

  /// Breaks all connections and the calls on them: from now on the coordinator can't be reached.
  public func disconnect() {
    endpoint = nil
    for waiter in waiting.values { waiter.resume() }
    waiting = [:]
  }

  /// Lets the coordinator, or another one, be reached again.
  public func reconnect(_ endpoint: any CoordinatorEndpoint) { self.endpoint = endpoint }

  private func reach() throws -> any CoordinatorEndpoint {
    guard let endpoint else {
      throw PeatError.unavailable("The coordinator in this process can't be reached: it is gone.")
    }
    return endpoint
  }

  /// Returns when the connection breaks or the task is cancelled.
  private func untilBroken() async {
    calls += 1
    let number = calls
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if endpoint == nil || Task.isCancelled {
          continuation.resume()
        } else {
          waiting[number] = continuation
        }
      }
    } onCancel: {
      Task { await self.stopWaiting(number) }
    }
  }

  private func stopWaiting(_ number: Int) { waiting.removeValue(forKey: number)?.resume() }

  /// A call that may take long: it breaks with the connection.
  private nonisolated func call<Reply: Sendable>(
    _ body: @Sendable @escaping (any CoordinatorEndpoint) async throws -> Reply
  ) async throws -> Reply {
    let endpoint = try await reach()
    return try await withThrowingTaskGroup(of: Reply.self) { group in
      group.addTask { try await body(endpoint) }
      group.addTask {
        await self.untilBroken()
        try Task.checkCancellation()
        throw PeatError.unavailable("The connection to the coordinator in this process broke.")
      }
      defer { group.cancelAll() }
      guard let reply = try await group.next() else { throw CancellationError() }
      return reply
    }
  }

  private struct Connection: CoordinatorConnection {
    let transport: InMemoryTransport
    var address: String { "in this process" }

    func join(_ request: JoinRequest) async throws -> JoinReply {
      try await transport.reach().join(request)
    }

    func nextTask(_ caller: Caller) async throws -> TaskReply {
      try await transport.call { try await $0.nextTask(caller) }
    }

    func download(
      _ request: DownloadRequest, to write: @Sendable (Data) async throws -> Void
    ) async throws {
      try await transport.reach().download(request, chunkBytes: transport.chunkBytes) { data in
        _ = try await transport.reach()
        try await write(data)
      }
    }

    func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
      try await transport.reach().offer(offer)
    }

    func upload(
      _ payload: Data, ticket: String, from offset: Int,
      onSent: @escaping @Sendable (Int) -> Void
    ) async throws -> UploadReply {
      var offset = offset
      do {
        while offset < payload.count {
          let start = payload.startIndex + offset
          let end = min(start + transport.chunkBytes, payload.endIndex)
          let piece = Data(payload[start..<end])
          try await transport.reach().receive(piece, ticket: ticket, offset: offset)
          offset += piece.count
          onSent(offset)
        }
        return try await transport.reach().finishUpload(ticket: ticket)
      } catch let refusal as UpdateRefusal { return .refused(refusal) }
    }

    func report(_ failure: FailureReport) async throws {
      try await transport.reach().report(failure)
    }

    func attend(_ caller: Caller) async throws -> AttendReply {
      try await transport.call { try await $0.attend(caller) }
    }

    func leave(_ caller: Caller) async throws { try await transport.reach().leave(caller) }

    func close() async {}
  }
}
