import NIOCore
import PeatTensor
import Synchronization

/// A connection that a server has accepted.
final class OpenConnection: Sendable {
  let channel: any Channel
  private let certificate = Mutex<ShownCertificate?>(nil)
  /// Ends it, unless it says in time whose it is.
  private let deadline = Mutex<Scheduled<Void>?>(nil)

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

  /// Whom all connections of one machine, or of one network of IPv6, are counted under.
  var host: String { channel.remoteAddress?.network ?? "unknown" }

  func end(in time: TimeAmount, _ body: @escaping @Sendable () -> Void) {
    let scheduled = channel.eventLoop.scheduleTask(in: time, body)
    deadline.withLock { $0 = scheduled }
  }

  func hasTime() { deadline.withLock { $0.take() }?.cancel() }
}

extension SocketAddress {
  /// The address without its port; of IPv6 its first 64 bits, as whoever has one address there has all of them.
  var network: String? {
    guard case .v6(let address) = self else { return ipAddress }
    let bytes = withUnsafeBytes(of: address.address.sin6_addr) { Array($0) }
    // IPv4 as IPv6 writes it.
    if bytes.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] {
      return bytes.suffix(4).map(String.init).joined(separator: ".")
    }
    return bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: ":")
  }
}

/// The connections that a server has accepted and that are open, so that they can be found and closed.
///
/// Whose one is shows in its first call that is let in. Until then it is a stranger's: these have a time, and a number, that are bounded.
final class OpenConnections: Sendable {
  private struct State {
    var all: [ObjectIdentifier: OpenConnection] = [:]
    /// Those by the other side's address.
    var peers: [String: OpenConnection] = [:]
    var strangers: Strangers<ObjectIdentifier>
    var isClosed = false
    /// Those that it was not told of yet, whether that is going to be, and when it was told last.
    var closed = ClosedStrangers()
    var isTelling = false
    var told: Duration?
  }

  private enum Arrival {
    case taken
    case takenInstead(of: OpenConnection?)
    case refused
    case tooLate
  }

  /// It is told once in so long that strangers' connections are closed.
  private static let silence = Duration.seconds(60)
  private static let collecting = Duration.seconds(2)

  private let state: Mutex<State>
  private let limits: ServerLimits
  private let onClosing: @Sendable (ClosedStrangers) -> Void
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant

  /// - Parameter onClosing: hears that connections were closed whose owners nobody knows; at most once a minute.
  init(
    _ limits: ServerLimits, onClosing: @escaping @Sendable (ClosedStrangers) -> Void = { _ in }
  ) {
    self.limits = limits
    self.onClosing = onClosing
    start = clock.now
    state = Mutex(
      State(
        strangers: Strangers(
          limit: limits.strangers, limitOfAddress: limits.strangersOfAddress,
          patience: limits.introduction / 4)))
  }

  private var now: Duration { start.duration(to: clock.now) }

  /// Remembers a connection until it closes. One that comes after `close`, or where there is no room, is closed at once.
  func add(_ channel: any Channel) -> OpenConnection {
    let connection = OpenConnection(channel)
    let (id, peer, now) = (ObjectIdentifier(connection), connection.peer, now)
    let arrival = state.withLock { state -> Arrival in
      if state.isClosed { return .tooLate }
      let isFull = state.all.count >= limits.connections
      let answer = state.strangers.add(id, from: connection.host, at: now, isFull: isFull)
      if answer == .refused { return .refused }
      state.all[id] = connection
      if let peer { state.peers[peer] = connection }
      guard case .instead(let victim) = answer else { return .taken }
      // It makes room now, not when the system has closed it.
      return .takenInstead(of: state.all.removeValue(forKey: victim))
    }
    switch arrival {
    case .tooLate:
      channel.close(promise: nil)
      return connection
    case .refused:
      channel.close(promise: nil)
      tell(connection, "there are too many of them")
      return connection
    case .takenInstead(let victim):
      victim?.channel.close(promise: nil)
      if let victim { tell(victim, "others came that needed room") }
    case .taken: break
    }
    connection.end(in: TimeAmount(limits.introduction)) { [weak self] in self?.giveUp(connection) }
    channel.closeFuture.whenComplete { [self] _ in
      connection.hasTime()
      state.withLock { state in
        state.all[id] = nil
        state.strangers.remove(id)
        // Another may have come from there meanwhile.
        if let peer, state.peers[peer].map(ObjectIdentifier.init) == id {
          state.peers[peer] = nil
        }
      }
    }
    return connection
  }

  /// Something came over a connection.
  func hasSpoken(_ connection: OpenConnection) {
    state.withLock { $0.strangers.hasSpoken(ObjectIdentifier(connection)) }
  }

  /// It is known whose a peer's connection is: it may stay.
  func identify(_ peer: String) {
    let connection = state.withLock { state -> OpenConnection? in
      guard let connection = state.peers[peer],
        state.strangers.remove(ObjectIdentifier(connection))
      else { return nil }
      return connection
    }
    connection?.hasTime()
  }

  /// Closes a peer's connection after a while.
  func end(_ peer: String, in time: TimeAmount) {
    guard let connection = state.withLock({ $0.peers[peer] }) else { return }
    connection.channel.eventLoop.scheduleTask(in: time) { connection.channel.close(promise: nil) }
  }

  private func giveUp(_ connection: OpenConnection) {
    guard state.withLock({ $0.strangers.remove(ObjectIdentifier(connection)) }) else { return }
    connection.channel.close(promise: nil)
    tell(connection, "it had \(limits.introduction.seconds) s for it")
  }

  /// It is told after a short while, with all that were closed until then.
  private func tell(_ connection: OpenConnection, _ reason: String) {
    let now = now
    let wait = state.withLock { state -> Duration? in
      state.closed.add(connection.peer ?? "unknown", reason)
      if state.isTelling { return nil }
      state.isTelling = true
      return max(Self.collecting, state.told.map { $0 + Self.silence - now } ?? .zero)
    }
    guard let wait else { return }
    connection.channel.eventLoop.scheduleTask(in: TimeAmount(wait)) { [weak self] in
      self?.tellRest()
    }
  }

  /// Tells what was not told yet of connections that were closed.
  func tellRest() {
    let now = now
    let closed = state.withLock { state -> ClosedStrangers in
      (state.isTelling, state.told) = (false, now)
      defer { state.closed = ClosedStrangers() }
      return state.closed
    }
    if closed.count > 0 { onClosing(closed) }
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
      state.isClosed = true
      return Array(state.all.values)
    }
    for connection in connections { connection.channel.close(promise: nil) }
  }
}

/// Connections that were closed, as nobody knew whose they are.
public struct ClosedStrangers: Sendable, CustomStringConvertible {
  /// Since the last time that it was told.
  public private(set) var count = 0
  /// Where the last came from, and why it was closed.
  public private(set) var last = ""
  public private(set) var reason = ""

  init() {}

  mutating func add(_ peer: String, _ why: String) {
    count += 1
    (last, reason) = (peer, why)
  }

  public var description: String {
    "\(count == 1 ? "a connection was closed that had not said whose it is, it came" : "\(count) connections were closed that had not said whose they are, the last came") from \(last): \(reason). Clients that are known are not touched; this is told once a minute at most"
  }
}

/// Notes that something came over a connection.
final class FirstWord: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let connection: OpenConnection
  private let connections: OpenConnections

  init(_ connection: OpenConnection, _ connections: OpenConnections) {
    self.connection = connection
    self.connections = connections
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    connections.hasSpoken(connection)
    context.fireChannelRead(data)
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }
}
