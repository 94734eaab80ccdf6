import Foundation
import Logging

extension FederatedTuning {
  /// Clients come over gRPC. `onListening` hears the address; what it throws ends the run before it began.
  ///
  /// - Parameters:
  ///   - security: how connections are protected, and whose certificates let in.
  ///   - limits: how much clients may ask for.
  ///   - onMonitoring: hears the address of the page for operators, where there is one.
  ///   - audit: where it is written down who did what; closed at the end.
  public static func network(
    _ configuration: RunConfiguration, security: ServerSecurity, limits: ServerLimits = .usual,
    audit: AuditLog? = nil,
    onMonitoring: @escaping @Sendable (NetworkAddress) -> Void = { _ in },
    onListening: @escaping @Sendable (NetworkAddress) throws -> Void
  ) throws -> Meeting {
    let address = try NetworkAddress(configuration.listen)
    return { coordinator, _ in
      let server = try CoordinatorServer(
        coordinator, at: address, security: security, limits: limits, audit: audit)
      defer { audit?.close() }
      let bound = try await server.start()
      audit?.record(
        .init(
          "serve", by: "owner",
          details: ["address": "\(bound)", "run": try configuration.runID.name]))
      do {
        try onListening(bound)
        let report = try await monitored(
          at: try configuration.metricsListen.map { try NetworkAddress($0) }, coordinator, server,
          onListening: onMonitoring
        ) { try await coordinator.run() }
        await server.stop()
        audit?.record(.init("end", by: "owner", details: ["rounds": "\(report.rounds.count)"]))
        return report
      } catch {
        await server.stop()
        throw error
      }
    }
  }

  /// Clients are tasks of this process, one trainer each, of which as many work at a time as there are cores.
  ///
  /// - Parameters:
  ///   - groups: each client's name and documents.
  ///   - threads: threads of one client's tuning; the same number as over a network gives the same bits.
  ///   - rankLimits: the most components of low-rank pairs that a client trains, dealt out in turn; none: as many as there are.
  public static func inProcess(
    _ groups: [DocumentGroup], threads: Int, seed: UInt64, rankLimits: [Int] = [],
    logger: Logger = Logger(label: "fedpeat.client")
  ) -> Meeting {
    { coordinator, _ in
      let transport = InMemoryTransport(coordinator)
      let cores = ProcessInfo.processInfo.activeProcessorCount
      let gate = WorkGate(limit: max(1, cores / threads))
      let work = try WorkFolder(temporary: "clients")
      defer { work.remove() }
      return try await withThrowingTaskGroup(of: Void.self) { group in
        for (number, clientData) in groups.enumerated() {
          let client = try Client(
            ClientConfiguration(
              client: try ClientID(clientData.name),
              rankLimit: rankLimits.isEmpty ? nil : rankLimits[number % rankLimits.count],
              seed: seed),
            connection: transport.connect(),
            trainer: DeviceTrainer(documents: clientData.documents, threads: threads, gate: gate),
            workFolder: work.url.appendingPathComponent("client-\(number)"), logger: logger)
          group.addTask { _ = try await client.run() }
        }
        let report = try await coordinator.run()
        try await group.waitForAll()
        return report
      }
    }
  }
}
