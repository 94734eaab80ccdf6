import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import PeatFederation
import PeatTensor

/// A page for those who operate a coordinator: `GET /metrics` for Prometheus, `/healthz` whether the process answers, `/readyz` whether clients can take part.
///
/// It knows no passwords and no TLS: it belongs on 127.0.0.1 or in a network of one's own.
public struct MonitorServer: Sendable {
  /// What there is to see now.
  public typealias Source = @Sendable () async -> (status: CoordinatorStatus, connections: Int)

  private let host: String
  private let port: Int
  private let source: Source
  private let started = Date()
  private let patience: Duration
  /// Connections at a time; others wait until there is room.
  private static let connections = 256

  /// - Parameters:
  ///   - host: an IP address to listen on.
  ///   - port: 0 lets the system choose one.
  ///   - patience: how long a connection may be open without a request, or with a part of one.
  public init(
    host: String, port: Int, patience: Duration = .seconds(10), source: @escaping Source
  ) {
    self.patience = patience
    self.host = host
    self.port = port
    self.source = source
  }

  /// Answers until the task is cancelled.
  ///
  /// - Parameter onListening: called with the port.
  /// - Throws: `unavailable` where it can't listen there.
  public func run(onListening: @escaping @Sendable (_ port: Int) -> Void = { _ in }) async throws {
    let logger = Logger(label: "fedpeat.monitor") { _ in SwiftLogNoOpLogHandler() }
    let application = Application(
      router: router,
      server: .http1(
        configuration: .init(idleTimeout: .milliseconds(Int64(patience.seconds * 1000)))),
      configuration: .init(
        address: .hostname(host, port: port),
        availableConnectionsDelegate: MaximumAvailableConnections(
          Self.connections, logger: logger)),
      onServerRunning: { channel in
        if let port = channel.localAddress?.port { onListening(port) }
      },
      logger: logger)
    do { try await application.run() } catch is CancellationError {
      throw CancellationError()
    } catch {
      throw PeatError.unavailable(
        "Can't listen on \(host):\(port) for /metrics: \(error). Is the port in use? Choose another.",
        cause: error)
    }
  }

  private var router: Router<BasicRequestContext> {
    let router = Router()
    router.get("metrics") { _, _ in
      let (status, connections) = await source()
      let text = PrometheusText(status, connections: connections, started: started)
      return response(.ok, text.text, PrometheusText.contentType)
    }
    router.get("healthz") { _, _ in response(.ok, "ok\n") }
    router.get("readyz") { _, _ in
      let (status, _) = await source()
      guard status.ending == nil else {
        return response(.serviceUnavailable, "the run '\(status.run)' has ended\n")
      }
      return response(.ok, "round \(status.round) of \(status.rounds)\n")
    }
    return router
  }

  private func response(
    _ status: HTTPResponse.Status, _ text: String,
    _ type: String = "text/plain; charset=utf-8"
  ) -> Response {
    Response(
      status: status, headers: [.contentType: type, .cacheControl: "no-store"],
      body: .init(byteBuffer: ByteBuffer(string: text)))
  }
}
