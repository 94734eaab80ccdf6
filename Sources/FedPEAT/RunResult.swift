import Foundation

/// What a federation gave.
public struct RunResult: Sendable {
  public var configuration: RunConfiguration
  public var fiveNumbers: FiveNumbers
  public var report: RunReport
  public var adapter: Adapter
  /// What the run took in its simulated cell; `nil` without one.
  public var simulation: SimulationReport?
  /// Bytes of the full model's weights: what sending it would have cost each client.
  public var fullModelBytes: Int
  /// The share of the middle's weights in all levels that clients may be sent, together: what one that got every level, or clients that put
  /// theirs together, could have at most. What they were sent is in the report.
  public var exposure: Double
  /// The round after which plug-in was best, of those that were measured, and what it was then; `nil` where nothing was.
  public var best: BestRound?
  /// What the run's owner was told while it went on.
  public var warnings: [String] = []
  /// The share of the middle's weights in each level as it was made.
  public var levelExposures: [Double] = []
  /// What each level that clients may be sent came to, and which one the five numbers are of.
  public var levels: [LevelNumbers] = []
  public var shownLevel = 0
  /// Whether the adapter was released; `nil` where nothing was asked of it (`releaseGate`), or the run ended before it was measured.
  public var release: ReleaseVerdict?
  /// Plug-in on each client's own texts; `nil` where it was not asked for.
  public var perClient: PersonalizationReport?

  /// A round, and plug-in perplexity after it.
  public struct BestRound: Sendable, Codable, Equatable {
    public var round: Int
    public var plugIn: Double
  }

  /// Whether no round was better than the last, as far as is known.
  public var isBestTheLast: Bool { best.map { $0.round == report.rounds.last?.round } ?? true }

  /// The folder of the best round's adapter; `nil` where the last round was the best, or nothing was written.
  public var bestRoundFolder: URL? {
    guard !isBestTheLast, let out = configuration.out, let best else { return nil }
    if let release {
      let verdict = ReleaseVerdict(
        release.gate, metric: configuration.metric, reference: release.reference,
        plugIn: best.plugIn)
      guard verdict.released else { return nil }
    }
    return URL(fileURLWithPath: out).appendingPathComponent(FederatedTuning.bestRoundFolder)
  }

  /// What `--json` prints and `results.json` holds.
  public struct Summary: Sendable, Codable {
    public struct ClientTraffic: Sendable, Codable {
      public var client: String
      public var bytesDown: Int
      public var bytesUp: Int
      /// Largest resident memory of the client's process, in bytes; null where it never said.
      public var peakMemoryBytes: Int?
      /// The share of the middle's weights that it could put together from all it was sent.
      public var exposure: Double

      private enum CodingKeys: String, CodingKey {
        case client, bytesDown, bytesUp, peakMemoryBytes, exposure
      }

      /// Says every key, also those that are null.
      public func encode(to encoder: any Encoder) throws {
        var table = encoder.container(keyedBy: CodingKeys.self)
        try table.encode(client, forKey: .client)
        try table.encode(bytesDown, forKey: .bytesDown)
        try table.encode(bytesUp, forKey: .bytesUp)
        try table.encode(peakMemoryBytes, forKey: .peakMemoryBytes)
        try table.encode(exposure, forKey: .exposure)
      }
    }

    /// Shares of the middle's weights in what clients were sent.
    public struct ExposureSent: Sendable, Codable, Equatable {
      /// The most that one client could put together.
      public var largest: Double
      /// What all clients could put together.
      public var together: Double
      /// What the worst client could, the two worst, … until one more adds nothing.
      public var colluding: [Double]
    }

    /// How a run ended: `completed`, or `failed` or `cancelled` with the reason.
    public struct Ending: Sendable, Codable, Equatable {
      public var kind: String
      public var reason: String?
      /// What ended a run that is completed: `rounds`, or `target`, `plateau`, `time` or `bytes` before them, with the numbers as the reason.
      public var cause: String?

      init(_ ending: RunEnding?) {
        switch ending {
        case .completed, nil: (kind, cause) = ("completed", "rounds")
        case .stopped(let stop):
          (kind, reason, cause) = ("completed", stop.reason, stop.cause.rawValue)
        case .failed(let why): (kind, reason) = ("failed", why)
        case .cancelled(let why): (kind, reason) = ("cancelled", why)
        }
      }

      /// `nil`: it was completed.
      public init(_ error: (any Error)?) {
        guard let error else {
          (kind, cause) = ("completed", "rounds")
          return
        }
        (kind, reason) = (
          error.isInterruption ? "cancelled" : "failed",
          (error as? PeatError)?.message ?? "\(error)"
        )
      }

      private enum CodingKeys: String, CodingKey { case kind, reason, cause }

      /// Says every key, also those that are null.
      public func encode(to encoder: any Encoder) throws {
        var table = encoder.container(keyedBy: CodingKeys.self)
        try table.encode(kind, forKey: .kind)
        try table.encode(reason, forKey: .reason)
        try table.encode(cause, forKey: .cause)
      }
    }

    public var run: String
    /// Rounds that counted.
    public var rounds: Int
    public var ending: Ending
    public var fiveNumbers: FiveNumbers
    /// The round after which plug-in was best, of those that were measured, and plug-in then: `fiveNumbers` has it after the last round. null
    /// where it was not measured.
    public var bestRound: Int?
    public var bestPlugIn: Double?
    /// Whether the adapter was released, by what and why; null where nothing was asked of it.
    public var release: ReleaseVerdict?
    /// The share of full fine-tuning's gain in log-perplexity that plug-in reached.
    public var recoveredShare: Double?
    /// The owner's margin: ln(emulator tuned) − ln(plug-in).
    public var margin: Double?
    /// The emulator that the five numbers are of: of those that clients trained on the one that is worth most to a device.
    public var emulatorLevel: Int
    /// Each that clients may be sent.
    public var emulators: [LevelNumbers]
    /// Plug-in on each client's own held-out texts, with the adapter of all and with one of its own; null where it was not asked for (`perClient`).
    public var perClient: PersonalizationReport?
    public var bytesDown: Int
    public var bytesUp: Int
    public var fullModelBytes: Int
    /// The share of the middle's weights in all levels that clients may be sent, together.
    public var exposure: Double
    public var exposureSent: ExposureSent
    public var clients: [ClientTraffic]
    public var roundRecords: [RoundRecord]
    /// Attempts at rounds that did not count, the last thousand.
    public var failedAttempts: [RoundRecord]
    public var seconds: Double
    /// Seconds of a simulated edge; null without one.
    public var simulatedSeconds: Double?
    public var simulation: SimulationReport?
    public var peakMemoryBytes: Int
    public var adapterParameters: Int
    /// What the run's owner was told while it went on.
    public var warnings: [String]

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(run, forKey: .run)
      try container.encode(rounds, forKey: .rounds)
      try container.encode(ending, forKey: .ending)
      try container.encode(fiveNumbers, forKey: .fiveNumbers)
      try container.encode(bestRound, forKey: .bestRound)
      try container.encode(bestPlugIn, forKey: .bestPlugIn)
      try container.encode(release, forKey: .release)
      try container.encode(recoveredShare, forKey: .recoveredShare)
      try container.encode(margin, forKey: .margin)
      try container.encode(emulatorLevel, forKey: .emulatorLevel)
      try container.encode(emulators, forKey: .emulators)
      try container.encode(perClient, forKey: .perClient)
      try container.encode(bytesDown, forKey: .bytesDown)
      try container.encode(bytesUp, forKey: .bytesUp)
      try container.encode(fullModelBytes, forKey: .fullModelBytes)
      try container.encode(exposure, forKey: .exposure)
      try container.encode(exposureSent, forKey: .exposureSent)
      try container.encode(clients, forKey: .clients)
      try container.encode(roundRecords, forKey: .roundRecords)
      try container.encode(failedAttempts, forKey: .failedAttempts)
      try container.encode(seconds, forKey: .seconds)
      try container.encode(simulatedSeconds, forKey: .simulatedSeconds)
      try container.encode(simulation, forKey: .simulation)
      try container.encode(peakMemoryBytes, forKey: .peakMemoryBytes)
      try container.encode(adapterParameters, forKey: .adapterParameters)
      try container.encode(warnings, forKey: .warnings)
    }
  }

  public var summary: Summary {
    var peaks: [ClientID: Int] = [:]
    for outcome in report.rounds.flatMap(\.outcomes) {
      guard let peak = outcome.telemetry?.peakMemoryBytes, peak > 0 else { continue }
      peaks[outcome.client] = max(peaks[outcome.client] ?? 0, peak)
    }
    return Summary(
      run: report.run.name, rounds: report.rounds.count, ending: .init(report.ending),
      fiveNumbers: fiveNumbers,
      bestRound: best?.round, bestPlugIn: best?.plugIn, release: release,
      recoveredShare: fiveNumbers.recoveredShare, margin: fiveNumbers.margin,
      emulatorLevel: shownLevel, emulators: levels, perClient: perClient,
      bytesDown: report.bytesDown,
      bytesUp: report.bytesUp, fullModelBytes: fullModelBytes, exposure: exposure,
      exposureSent: .init(
        largest: report.exposures.values.max() ?? 0, together: report.exposureTogether,
        colluding: report.exposureOfColluders),
      clients: report.traffic.sorted { $0.key < $1.key }.map {
        .init(
          client: $0.key.name, bytesDown: $0.value.bytesDown, bytesUp: $0.value.bytesUp,
          peakMemoryBytes: peaks[$0.key], exposure: report.exposures[$0.key] ?? 0)
      },
      roundRecords: report.rounds, failedAttempts: report.failedAttempts, seconds: report.seconds,
      simulatedSeconds: simulation?.seconds, simulation: simulation,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes,
      adapterParameters: adapter.parameterCount, warnings: warnings)
  }
}
