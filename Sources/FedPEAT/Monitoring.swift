import Foundation

extension FederatedTuning {
  /// Does the work while a page for operators answers (`/metrics`, `/healthz`, `/readyz`), where an address for it is given.
  ///
  /// - Parameter onListening: called with the page's address.
  static func monitored<Result: Sendable>(
    at address: NetworkAddress?, _ coordinator: Coordinator, _ server: CoordinatorServer,
    onListening: @escaping @Sendable (NetworkAddress) -> Void,
    _ body: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    guard let address else { return try await body() }
    let monitor = MonitorServer(host: address.host, port: address.port) {
      (await coordinator.status, server.connectionCount)
    }
    let (ports, port) = AsyncStream.makeStream(of: Int.self)
    return try await withThrowingTaskGroup(of: Result?.self) { group in
      defer { group.cancelAll() }
      group.addTask {
        defer { port.finish() }
        try await monitor.run { port.yield($0) }
        return nil
      }
      // Where it can't listen the stream ends without a port, and the run does not begin.
      for await bound in ports {
        onListening(NetworkAddress(host: address.host, port: bound))
        group.addTask { try await body() }
        break
      }
      while let result = try await group.next() { if let result { return result } }
      throw CancellationError()
    }
  }
}
