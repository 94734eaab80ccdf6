import ArgumentParser
import FedPEAT
import Foundation

/// What `bench federation` is told.
struct FederationBenchOptions: ParsableArguments {
  @Option(help: "federation: clients that take part in a round; all if not given.")
  var participants: Int?

  @Option(
    help: ArgumentHelp(
      "federation: of the adapter, down and up. (default: 1.2MB)", valueName: "size"))
  var adapterSize: ByteCount?

  @Option(
    help: ArgumentHelp(
      "federation: of an emulator that each participant fetches before its first round; none if not given.",
      valueName: "size"))
  var packageSize: ByteCount?

  @Option(help: "federation: rounds. (default: 5)")
  var rounds: Int?

  @Option(
    help: "federation: seconds that all clients are idle before the first round. (default: 2)")
  var idle: Double?

  @Option(help: "federation: processes of clients. (default: 4)")
  var processes: Int?

  /// A process of clients, started by the one that measures.
  @Option(help: .hidden)
  var workshop: String?

  @Option(help: .hidden)
  var coordinator: String?

  @Option(help: .hidden)
  var firstClient: Int?

  func validate(clients: Int?) throws {
    for (name, value, most) in [
      ("clients", clients, 20_000), ("participants", participants, 20_000),
      ("rounds", rounds, 10_000), ("processes", processes, 64),
    ] {
      guard let value else { continue }
      guard (1...most).contains(value) else {
        throw ValidationError("--\(name) is \(value); it must be between 1 and \(most).")
      }
    }
    guard idle.map({ (0...3600).contains($0) }) ?? true else {
      throw ValidationError("--idle is \(idle ?? 0); it must be between 0 and 3600 seconds.")
    }
  }
}

/// A coordinator in this process, its clients in others.
extension Bench {
  struct FederationReport: Encodable {
    var what = "federation"
    var clients: Int
    var participants: Int
    var adapterBytes: Int
    var packageBytes: Int
    /// The median of the rounds.
    var seconds: Double
    var runs: [Double]
    /// Of the coordinator's process.
    var peakMemoryBytes: Int
    var bytesPerConnection: Int
    var memoryBefore: Int
    var memoryConnected: Int
    /// Of it, what the heap's users hold.
    var heapBefore: Int
    var heapConnected: Int
    /// Of the coordinator's process, over all rounds.
    var processorSeconds: Double
    var bytesDown: Int
    var bytesUp: Int
  }

  func measureFederation() async throws {
    if let workshop = federation.workshop { return try await takePart(in: URL(path: workshop)) }
    let clients = clients ?? 100
    let settings = FederationBenchmark.Settings(
      clients: clients, participants: min(federation.participants ?? clients, clients),
      adapterBytes: federation.adapterSize?.bytes ?? 1_200_000,
      packageBytes: federation.packageSize?.bytes ?? 0, rounds: federation.rounds ?? 5,
      idleSeconds: federation.idle ?? 2, seed: common.seedValue)
    let work = try WorkFolder(temporary: "bench-federation")
    defer { work.remove() }
    let processes = min(federation.processes ?? 4, clients)
    try JSONEncoder().encode(settings).write(to: work.url.appendingPathComponent(Self.settingsFile))
    let found = try await FederationBenchmark.coordinate(
      settings, folder: work.url,
      onProgress: { joined, rounds in
        Terminal.status(
          joined < settings.clients
            ? "\(joined) of \(settings.clients) clients are there …"
            : "\(rounds) of \(settings.rounds) rounds …")
      },
      whileServing: { address in
        let children = try (0..<processes).map { number in
          let first = number * clients / processes
          return try child([
            "federation", "--workshop", work.url.path, "--coordinator", "\(address)",
            "--first-client", "\(first)", "--clients",
            "\((number + 1) * clients / processes - first)", "--json", "--quiet",
          ])
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
          for child in children { group.addTask { _ = try await output(child) } }
          try await group.waitForAll()
        }
      })
    try report(settings, found)
  }

  private static let settingsFile = "settings.json"

  private func takePart(in folder: URL) async throws {
    let settings = try JSONFile.read(
      FederationBenchmark.Settings.self, from: folder.appendingPathComponent(Self.settingsFile))
    guard let coordinator = federation.coordinator, let first = federation.firstClient else {
      throw PeatError.usage("--coordinator and --first-client belong to --workshop.")
    }
    try await FederationBenchmark.takePart(
      first..<first + (clients ?? 1), at: NetworkAddress(coordinator), settings, folder: folder)
    try common.report(["clients": clients ?? 1], text: "")
  }

  private func report(
    _ settings: FederationBenchmark.Settings, _ found: FederationBenchmark.Report
  ) throws {
    let seconds = median(found.roundSeconds)
    let report = FederationReport(
      clients: settings.clients, participants: settings.participants,
      adapterBytes: settings.adapterBytes, packageBytes: settings.packageBytes, seconds: seconds,
      runs: found.roundSeconds, peakMemoryBytes: found.peakMemoryBytes,
      bytesPerConnection: found.bytesPerConnection, memoryBefore: found.memoryBefore,
      memoryConnected: found.memoryConnected, heapBefore: found.heapBefore,
      heapConnected: found.heapConnected, processorSeconds: found.processorSeconds,
      bytesDown: found.bytesDown, bytesUp: found.bytesUp)
    let rows = [
      ["clients", "\(settings.clients), of which \(settings.participants) take part"],
      ["adapter, each way", Format.bytes(settings.adapterBytes)],
      ["emulator", settings.packageBytes > 0 ? Format.bytes(settings.packageBytes) : "none"],
      [
        "seconds per round",
        "\(Format.number(seconds, digits: 3)) (median of \(found.roundSeconds.count); first \(Format.number(found.roundSeconds.first ?? 0, digits: 3)))",
      ],
      [
        "processor time per round",
        "\(Format.number(found.processorSeconds / Double(max(1, found.roundSeconds.count)), digits: 3)) s of the coordinator",
      ],
      ["coordinator's peak memory", Format.bytes(found.peakMemoryBytes)],
      [
        "memory per connection",
        "\(Format.bytes(found.bytesPerConnection)) (\(Format.bytes(found.memoryBefore)) before, \(Format.bytes(found.memoryConnected)) with all)",
      ],
      [
        "of it allocated",
        "\(Format.bytes(max(0, found.heapConnected - found.heapBefore) / max(1, found.connections)))",
      ],
    ]
    try common.report(report, text: Format.table(rows))
  }
}
