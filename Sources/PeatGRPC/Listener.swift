import GRPCNIOTransportHTTP2Posix
import NIOCore
import NIOPosix
import NIOSSL
import PeatTensor

/// Accepts connections for gRPC, and keeps each of them small.
///
/// gRPC's own listener reads a client's certificates anew for each call and keeps them as long as the call, and its settings do not reach the buffers below it.
struct Listener: HTTP2ServerTransport.ListenerFactory {
  /// How many may knock at once: after a restart all clients come back together. The system may allow fewer (net.core.somaxconn).
  private static let backlog: Int32 = 4096

  let address: NetworkAddress
  /// How a connection is protected; `nil`: not at all.
  let tls: ServerHandshake?
  let connections: OpenConnections

  var eventLoopGroup: any EventLoopGroup { MultiThreadedEventLoopGroup.singleton }

  func makeListeningChannel(
    listenerConfigurator: HTTP2ServerTransport.ListenerConfigurator,
    connectionConfigurator: HTTP2ServerTransport.ConnectionConfigurator
  ) async throws -> NIOAsyncChannel<
    HTTP2ServerTransport.ConnectionConfigurator.ConnectionChannel, Never
  > {
    try await ServerBootstrap(group: eventLoopGroup)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelOption(.backlog, value: Self.backlog)
      .serverChannelInitializer { listenerConfigurator.configure(channel: $0) }
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(.recvAllocator, value: ReadBuffers())
      .bind(to: try SocketAddress(ipAddress: address.host, port: address.port)) { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = connections.add(channel)
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(FirstWord(connection, connections))
          if let tls { try pipeline.addHandler(tls.handler(for: connection)) }
          try pipeline.addHandler(WholeFrames())
        }.flatMap {
          connectionConfigurator.configure(
            channel: channel, tls: tls == nil ? .none : .configured(requireALPN: true))
        }
      }
  }
}

/// What is read of a connection goes into memory that lives as long as it is needed.
///
/// SwiftNIO keeps the first buffer of a connection for as long as that stands, and asks for another only where that could be larger: so the first is small, and all others are.
struct ReadBuffers: RecvByteBufferAllocator {
  private static let firstBytes = 512
  /// What is read at once. Each buffer behind this one, of TLS and of HTTP/2, grows with what it gets, and stays as large as it ever was.
  private static let bytes = 16 * 1024

  private var hasRead = false

  func buffer(allocator: ByteBufferAllocator) -> ByteBuffer {
    allocator.buffer(capacity: hasRead ? Self.bytes : Self.firstBytes)
  }

  mutating func record(actualReadBytes: Int) -> Bool {
    hasRead = true
    return true
  }
}
