import Foundation
import Logging
import PeatStore
import Synchronization

extension FederatedTuning {
  /// Clients come over gRPC. `onListening` hears the address; what it throws ends the run before it began.
  ///
  /// - Parameters:
  ///   - security: how connections are protected, and whose certificates let in.
  ///   - limits: how much clients may ask for.
  ///   - onStrangers: hears, once a minute at most, that connections were closed of which nobody knew whose they are.
  ///   - onMonitoring: hears the address of the page for operators, where there is one.
  ///   - audit: where it is written down who did what; closed at the end.
  ///   - database: where the run is kept. Where the system chooses the port (0), one that goes on takes the same again if it can.
  public static func network(
    _ configuration: RunConfiguration, security: ServerSecurity, limits: ServerLimits = .usual,
    audit: AuditLog? = nil, database: RunDatabase? = nil,
    onStrangers: @escaping @Sendable (ClosedStrangers) -> Void = { _ in },
    onMonitoring: @escaping @Sendable (NetworkAddress) -> Void = { _ in },
    onListening: @escaping @Sendable (NetworkAddress) throws -> Void
  ) throws -> Meeting {
    let address = try NetworkAddress(configuration.listen)
    return { coordinator, _ in
      defer { audit?.close() }
      func serve(_ address: NetworkAddress) async throws -> (CoordinatorServer, NetworkAddress) {
        let server = try CoordinatorServer(
          coordinator, at: address, security: security, limits: limits, audit: audit,
          onStrangers: onStrangers)
        return (server, try await server.start())
      }
      let former = address.port == 0 ? try database?.note(Int.self, RunKeeping.portNote) : nil
      var served: (CoordinatorServer, NetworkAddress)?
      if let former {
        served = try? await serve(NetworkAddress(host: address.host, port: former))
      }
      let (server, bound) =
        if let served { served } else { try await serve(address) }
      try database?.keep(bound.port, as: RunKeeping.portNote)
      audit?.record(
        .init(
          "serve", by: "owner",
          details: ["address": "\(bound)", "run": try configuration.runID.name]))
      do {
        try onListening(bound)
        let report = try await monitored(
          at: try configuration.metricsListen.map { try NetworkAddress($0) }, coordinator, server,
          onListening: onMonitoring
        ) {
          try database?.begin()
          return try await coordinator.run()
        }
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
  ///   - database: where the run is kept: the clients' folders too.
  ///   - rankLimits: the most components of low-rank pairs that a client trains, dealt out in turn; none: as many as there are.
  ///   - faults: what goes wrong with clients.
  ///   - onCaution: told what a client's user should know.
  public static func inProcess(
    _ groups: [DocumentGroup], threads: Int, seed: UInt64, rankLimits: [Int] = [],
    faults: SimulatedFaults = .none, database: RunDatabase? = nil,
    logger: Logger = Logger(label: "fedpeat.client"),
    onCaution: @escaping @Sendable (_ client: String, String) -> Void = { _, _ in }
  ) -> Meeting {
    { coordinator, _ in
      let transport = InMemoryTransport(coordinator)
      let cores = ProcessInfo.processInfo.activeProcessorCount
      let gate = WorkGate(limit: max(1, cores / threads))
      let work =
        try database.map { try WorkFolder(RunFolders.clients(of: $0)) }
        ?? WorkFolder(temporary: "clients")
      defer { work.remove() }
      let folder = { (number: Int) in work.url.appendingPathComponent("client-\(number)") }
      let isCutTold = Atomic(false)
      let trainers = faults.spoil(
        groups.map { group in
          DeviceTrainer(
            documents: group.documents, threads: threads, gate: gate,
            onCut: { cut in
              // The others' texts are cut to the same length.
              guard !isCutTold.exchange(true, ordering: .relaxed) else { return }
              onCaution(
                group.name,
                "\(cut.count) of its \(cut.total) texts are cut to their first \(cut.context) tokens, the rest is left out; of other clients that is not said"
              )
            })
        }, seed: seed, keepingIn: folder)
      return try await withThrowingTaskGroup(of: Void.self) { group in
        for (number, clientData) in groups.enumerated() {
          var own = ClientConfiguration(
            client: try ClientID(clientData.name),
            rankLimit: rankLimits.isEmpty ? nil : rankLimits[number % rankLimits.count],
            seed: seed)
          own.keepsUnfinished = database != nil
          let client = try Client(
            own,
            connection: transport.connect(),
            trainer: trainers[number],
            workFolder: folder(number), logger: logger,
            onProgress: { progress in
              if case .caution(let text) = progress { onCaution(clientData.name, text) }
            })
          group.addTask { _ = try await client.run() }
        }
        try database?.begin()
        let report = try await coordinator.run()
        try await group.waitForAll()
        return report
      }
    }
  }
}
