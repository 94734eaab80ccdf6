import NIOCore
import Synchronization

/// A connection that a server has accepted.
final class OpenConnection: Sendable {
  let channel: any Channel
  private let certificate = Mutex<ShownCertificate?>(nil)

  init(_ channel: any Channel) { self.channel = channel }

  /// What the other side showed in the handshake; `nil` before that, and without TLS.
  var shown: ShownCertificate? {
    get { certificate.withLock { $0 } }
    set { certificate.withLock { $0 = newValue } }
  }

  /// The other side's address, as gRPC writes it.
  var peer: String? {
    guard let address = channel.remoteAddress, let host = address.ipAddress,
      let port = address.port
    else { return nil }
    return address.protocol == .inet6 ? "ipv6:[\(host)]:\(port)" : "ipv4:\(host):\(port)"
  }
}

/// The connections that a server has accepted and that are open, so that they can be found and closed.
final class OpenConnections: Sendable {
  private struct State {
    var all: [ObjectIdentifier: OpenConnection] = [:]
    /// Those by the other side's address.
    var peers: [String: OpenConnection] = [:]
    var closed = false
  }

  private let state = Mutex(State())
  private let limit: Int

  /// - Parameter limit: how many may be open; further ones are closed at once.
  init(limit: Int) { self.limit = limit }

  /// Remembers a connection until it closes. One that comes after `close` is closed at once.
  func add(_ channel: any Channel) -> OpenConnection {
    let connection = OpenConnection(channel)
    let (id, peer) = (ObjectIdentifier(connection), connection.peer)
    let tooLate = state.withLock { state in
      let isTooMuch = state.closed || state.all.count >= limit
      if !isTooMuch {
        state.all[id] = connection
        if let peer { state.peers[peer] = connection }
      }
      return isTooMuch
    }
    if tooLate {
      channel.close(promise: nil)
    } else {
      channel.closeFuture.whenComplete { [self] _ in
        state.withLock { state in
          state.all[id] = nil
          // Another may have come from there meanwhile.
          if let peer, state.peers[peer].map(ObjectIdentifier.init) == id {
            state.peers[peer] = nil
          }
        }
      }
    }
    return connection
  }

  /// What a peer showed in its handshake.
  func shown(by peer: String) -> ShownCertificate? {
    state.withLock { $0.peers[peer] }?.shown
  }

  /// Waits until what was written to a peer has come to its connection, which from then on says whether it takes more. Else a writer that is quicker than a busy network's thread would write all that it has.
  func settle(_ peer: String) async throws {
    guard let channel = state.withLock({ $0.peers[peer] })?.channel else { return }
    try await channel.eventLoop.submit {}.get()
  }

  /// How many are open.
  var count: Int { state.withLock { $0.all.count } }

  /// Closes all connections, and those that are accepted from now on.
  func close() {
    let connections = state.withLock { state in
      state.closed = true
      return Array(state.all.values)
    }
    for connection in connections { connection.channel.close(promise: nil) }
  }
}
