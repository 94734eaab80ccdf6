import NIOCore
import NIOSSL
import Synchronization

/// The connections that a server has accepted and that are open, so that they can be closed.
final class OpenConnections: Sendable {
  private struct State {
    var channels: [ObjectIdentifier: any Channel] = [:]
    /// Those by the other side's address, as gRPC writes it.
    var peers: [String: any Channel] = [:]
    var closed = false
  }

  private let state = Mutex(State())
  private let limit: Int

  /// - Parameter limit: how many may be open; further ones are closed at once.
  init(limit: Int) { self.limit = limit }

  /// Remembers a connection until it closes. One that comes after `close` is closed at once.
  @Sendable func add(_ channel: any Channel) -> EventLoopFuture<Void> {
    let id = ObjectIdentifier(channel)
    let peer = Self.peer(of: channel)
    let tooLate = state.withLock { state in
      let isTooMuch = state.closed || state.channels.count >= limit
      if !isTooMuch {
        state.channels[id] = channel
        if let peer { state.peers[peer] = channel }
      }
      return isTooMuch
    }
    if tooLate {
      channel.close(promise: nil)
    } else {
      channel.closeFuture.whenComplete { [self] _ in
        state.withLock { state in
          state.channels[id] = nil
          if let peer { state.peers[peer] = nil }
        }
      }
    }
    return bound(channel)
  }

  private static func peer(of channel: any Channel) -> String? {
    guard let address = channel.remoteAddress, let host = address.ipAddress,
      let port = address.port
    else { return nil }
    return address.protocol == .inet6 ? "ipv6:[\(host)]:\(port)" : "ipv4:\(host):\(port)"
  }

  /// Waits until what was written to a peer has come to its connection, which from then on says whether it takes more. Else a writer that is quicker than a busy network's thread would write all that it has.
  func settle(_ peer: String) async throws {
    guard let channel = state.withLock({ $0.peers[peer] }) else { return }
    try await channel.eventLoop.submit {}.get()
  }

  /// Bounds what is read of a connection at once, and hands it on in whole frames. Each buffer behind this one, of TLS and of HTTP/2, grows with what it gets, and stays as large as it ever
  /// was.
  private func bound(_ channel: any Channel) -> EventLoopFuture<Void> {
    channel.setOption(.maxMessagesPerRead, value: 1).flatMap {
      channel.setOption(
        .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Self.readBytes))
    }.flatMapThrowing {
      let pipeline = channel.pipeline.syncOperations
      let tls = try? pipeline.handler(type: NIOSSLServerHandler.self)
      try pipeline.addHandler(WholeFrames(), position: tls.map { .after($0) } ?? .first)
    }
  }

  private static let readBytes = 16 * 1024

  /// How many are open.
  var count: Int { state.withLock { $0.channels.count } }

  /// Closes all connections, and those that are accepted from now on.
  func close() {
    let channels = state.withLock { state in
      state.closed = true
      return Array(state.channels.values)
    }
    for channel in channels { channel.close(promise: nil) }
  }
}
