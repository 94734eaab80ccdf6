import NIOCore
import Synchronization

/// The connections that a server has accepted and that are open, so that they can be closed.
final class OpenConnections: Sendable {
  private struct State {
    var channels: [ObjectIdentifier: any Channel] = [:]
    var closed = false
  }

  private let state = Mutex(State())
  private let limit: Int

  /// - Parameter limit: how many may be open; further ones are closed at once.
  init(limit: Int) { self.limit = limit }

  /// Remembers a connection until it closes. One that comes after `close` is closed at once.
  @Sendable func add(_ channel: any Channel) -> EventLoopFuture<Void> {
    let id = ObjectIdentifier(channel)
    let tooLate = state.withLock { state in
      let isTooMuch = state.closed || state.channels.count >= limit
      if !isTooMuch { state.channels[id] = channel }
      return isTooMuch
    }
    if tooLate {
      channel.close(promise: nil)
    } else {
      channel.closeFuture.whenComplete { [self] _ in
        state.withLock { _ = $0.channels.removeValue(forKey: id) }
      }
    }
    return channel.eventLoop.makeSucceededVoidFuture()
  }

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
