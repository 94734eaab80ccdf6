import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import PeatFederation
import PeatSecurity
import PeatTensor

/// Lets clients reach a coordinator over gRPC.
///
///     let credentials = try ServerCredentials(authority, run: "run", hosts: ["127.0.0.1"])
///     let server = try CoordinatorServer(
///       coordinator, at: NetworkAddress(host: "127.0.0.1", port: 0), security: .mutualTLS(credentials))
///     let address = try await server.start()
///     let report = try await coordinator.run()
///     await server.stop()
public final class CoordinatorServer: Sendable {
  private let server: GRPCServer<HTTP2ServerTransport.Custom<Listener>>
  private let requested: NetworkAddress
  private let serving: Serving
  private let connections: OpenConnections

  /// - Parameters:
  ///   - address: where to listen: an IP address or "localhost"; port 0 lets the system choose one.
  ///   - security: how connections are protected.
  ///   - limits: how much clients may ask for.
  ///   - audit: where it is written down who did what; nowhere if not given.
  ///   - onStrangers: hears, once a minute at most, that connections were closed of which nobody knew whose they are.
  ///   - chunkBytes: how many bytes of a download travel in one piece.
  ///
  /// Throws where the address is not one.
  public init(
    _ endpoint: any CoordinatorEndpoint, at address: NetworkAddress, security: ServerSecurity,
    limits: ServerLimits = .usual, audit: AuditLog? = nil,
    onStrangers: @escaping @Sendable (ClosedStrangers) -> Void = { _ in },
    chunkBytes: Int = TransferLimits.chunkBytes
  ) throws {
    precondition(
      (1...TransferLimits.largestChunk).contains(chunkBytes),
      "CoordinatorServer: pieces of \(chunkBytes) bytes")
    try Self.check(address)
    try limits.validate()
    requested = NetworkAddress(
      host: address.host == "localhost" ? "127.0.0.1" : address.host, port: address.port)
    connections = OpenConnections(limits) { closed in
      audit?.record(
        .init(
          "connection", by: "unknown", from: closed.last, .refused,
          details: ["closed": "\(closed.count)", "reason": closed.reason]))
      onStrangers(closed)
    }
    let listener = Listener(
      address: requested, tls: try security.handshake, connections: connections)
    server = GRPCServer(
      transport: HTTP2ServerTransport.Custom(
        listenerFactory: listener, config: Self.transportConfiguration),
      services: [
        FederationService(
          endpoint: endpoint,
          door: Doorkeeper(security, limits, audit, connections) { client, reason in
            Task { await endpoint.turnedAway(client, reason: reason) }
          },
          chunkBytes: chunkBytes, connections: connections)
      ])
    serving = Serving()
  }

  /// Throws where a coordinator can't listen on an address. What `init` checks, for whoever wants to know it before there is
  /// a coordinator.
  public static func check(_ address: NetworkAddress) throws {
    let host = address.host == "localhost" ? "127.0.0.1" : address.host
    guard Self.isNumeric(host) else {
      throw PeatError.usage(
        "A coordinator listens on an IP address such as 127.0.0.1 or 0.0.0.0, not '\(host)'.")
    }
  }

  /// Limits that a stranger can't go beyond, and pings that notice a peer that died without a word.
  private static var transportConfiguration: HTTP2ServerTransport.Custom<Listener>.Config {
    var config = HTTP2ServerTransport.Custom<Listener>.Config.defaults
    config.connection.keepalive = .init(
      time: .seconds(10), timeout: .seconds(20),
      clientBehavior: .init(minPingIntervalWithoutCalls: .seconds(5), allowWithoutCalls: true))
    config.connection.maxGraceTime = .seconds(5)
    // What a client may send before it is read: memory of each upload, and over a time of travel the rate at most.
    config.http2.targetWindowSize = 128 * 1024
    config.http2.maxConcurrentStreams = 16
    // What is encrypted at once, in a buffer that stays as large as it ever was.
    config.connection.flushCoalescing = .init(
      maxFlushDelay: .microseconds(100), maxBytes: 24 * 1024)
    config.rpc.maxRequestPayloadSize = TransferLimits.largestChunk + 64 * 1024
    return config
  }

  private static func isNumeric(_ host: String) -> Bool {
    var v4 = in_addr()
    var v6 = in6_addr()
    return inet_pton(AF_INET, host, &v4) == 1 || inet_pton(AF_INET6, host, &v6) == 1
  }

  /// Begins to listen and gives the address, with the port that the system chose where 0 was asked for.
  public func start() async throws -> NetworkAddress {
    OpenFiles.raiseLimit()
    let server = server
    let task = Task { try await server.serve() }
    await serving.set(task)
    do {
      // None where it could not listen: why, the task says.
      guard let bound = await server.transport.listeningAddress,
        let port = bound.ipv4?.port ?? bound.ipv6?.port
      else { throw PeatError(.internalError, "The server listens on no port.") }
      return NetworkAddress(host: requested.host, port: port)
    } catch {
      server.beginGracefulShutdown()
      task.cancel()
      let cause: any Error =
        switch await task.result {
        case .failure(let cause): cause
        case .success: error
        }
      throw PeatError.unavailable(
        "Can't listen on \(requested): \(cause). Is the port in use? Choose another.",
        cause: cause)
    }
  }

  /// How many connections are open.
  public var connectionCount: Int { connections.count }

  /// Takes no more calls, lets those under way end, and closes what is left after `grace`.
  ///
  /// Connections are closed, and the calls on them end by that. The task that serves is never cancelled: it would
  /// stop to take streams of connections that are still open, and SwiftNIO ends the process where a stream that has
  /// arrived is dropped ("Deinited NIOAsyncWriter without calling finish()").
  public func stop(grace: Duration = .seconds(2)) async {
    server.beginGracefulShutdown()
    guard let task = await serving.take() else { return }
    let closing = Task { [connections] in
      guard (try? await Task.sleep(for: grace)) != nil else { return }
      connections.close()
    }
    _ = await task.result
    closing.cancel()
    connections.tellRest()
  }
}

/// The task that serves, while there is one.
private actor Serving {
  private var task: Task<Void, any Error>?
  func set(_ task: Task<Void, any Error>) { self.task = task }
  func take() -> Task<Void, any Error>? {
    defer { task = nil }
    return task
  }
}
