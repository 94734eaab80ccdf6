import ArgumentParser
import FedPEAT
import Foundation

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Coordinate a federation over the network.",
    discussion: """
      Example: fedpeat serve --model models/stories260K --emulator layer-drop=2 --rounds 10 --minimum-clients 4 \
      --listen 127.0.0.1:50051 --evaluation-data test.txt --out result

      The run file (YAML or JSON) names what differs from the defaults; flags win over it. Clients of the same user on this machine join \
      with: fedpeat join --coordinator HOST:PORT --data FILE. Others need a token, which is printed, or which 'fedpeat ca token' makes.

      The run is kept as it goes: after a stop of whatever kind the same command goes on with it, and 'fedpeat runs' looks after it.
      """)

  @Argument(help: "A run file.")
  var config: String?

  @OptionGroup var options: RunOptions

  @Option(
    help:
      "Address to listen on; port 0 lets the system choose. (default: \(RunConfiguration().listen))"
  )
  var listen: String?

  @Option(
    help:
      "Address of a page for operators over HTTP: /metrics for Prometheus, /healthz, /readyz; none if not given. It knows no passwords: keep it on 127.0.0.1."
  )
  var metrics: String?

  @OptionGroup var protection: ServerSecurityOptions

  @Flag(help: "Send emulators, too, of which a device can make a model as good as the owner's.")
  var withoutModelPrivacy = false

  @Option(
    help:
      "All clients' texts, for the fifth number, full fine-tuning; it is not measured if not given. The run file's data is not taken for them: clients bring their own."
  )
  var referenceData: String?

  @Option(help: "Write the address to this file once clients can join; to none if not given.")
  var addressFile: String?

  @OptionGroup var keeping: StoreOptions

  @OptionGroup var common: CommonOptions

  func run() async throws {
    var overrides = options.overrides(common)
    if let listen { overrides["listen"] = .string(listen) }
    if let metrics { overrides["metricsListen"] = .string(metrics) }
    if protection.insecure { overrides["insecure"] = .bool(true) }
    if withoutModelPrivacy { overrides["withoutModelPrivacy"] = .bool(true) }
    let configuration = try RunConfiguration.read(
      from: config.map(URL.init(path:)), flags: overrides)
    guard !configuration.perClient else {
      throw PeatError.usage(
        "perClient measures each client's own texts, which are only here where 'simulate' makes the clients. Leave it out."
      )
    }
    try configuration.checkNoFaults()
    try configuration.checkOutput()
    try configuration.checkModelPrivacy()
    for caution in try configuration.modelPrivacyCautions() { Terminal.caution(caution) }
    let limits = try protection.limits
    let decision = try protection.decide(configuration)
    let database = try keeping.open(configuration)
    defer { database?.leave() }
    if database == nil {
      Terminal.note(
        "not kept     this run and its adapter end with the process; with --out FOLDER, or --store FOLDER, they are kept, and the same command goes on after a stop"
      )
    }
    try DataCautions.tell(of: configuration)
    let progress = RunProgress(rounds: configuration.rounds)
    let tuning = try FederatedTuning(
      configuration,
      evaluation: try configuration.evaluationData.map {
        try configuration.evaluationDocuments(in: URL(path: $0))
      },
      // Not the run file's 'data': clients may have texts of their own.
      pooled: try referenceData.map { try configuration.evaluationDocuments(in: URL(path: $0)) },
      identity: decision.identity, database: database,
      otherTexts: referenceData.map { ["--reference-data": URL(path: $0)] } ?? [:],
      logger: .silent,
      onEvent: { event in
        progress.report(event)
        if case .coordinator(.roundEnded) = event { ProcessMeasurement.releaseFreeMemory() }
      })
    let (addressFile, protection, runID) = (addressFile, protection, try configuration.runID)
    let meeting = try FederatedTuning.network(
      configuration, security: decision.security, limits: limits, audit: decision.audit,
      database: database, onStrangers: { Terminal.caution("\($0)") },
      onMonitoring: { Terminal.note("metrics      http://\($0)/metrics") },
      onListening: { address in
        Terminal.note("listening    \(address)")
        try protection.tellHowToJoin(decision, address, runID)
        if let addressFile {
          try AtomicOutput.write(Data("\(address)\n".utf8), to: URL(path: addressFile))
        }
      })
    let result = try await tuning.run { coordinator, events in
      // A service manager restarts what it stops: the run's clients are to stay.
      if database != nil { Interruption.onTermination { Task { await coordinator.suspend() } } }
      defer { Interruption.onTermination(nil) }
      return try await meeting(coordinator, events)
    }
    try common.report(result)
  }
}

extension RunConfiguration {
  /// Throws before any work where results could not be written.
  func checkOutput() throws {
    guard let out else { return }
    try CheckpointWriter.checkOutput(URL(path: out), inputs: [URL(model: model)], isAdapter: true)
  }
}

extension CommonOptions {
  /// Prints a federation's result.
  func report(_ result: RunResult) throws {
    let summary = result.summary
    var text = summary.fiveNumbers.table
    if summary.ending.cause != "rounds", let reason = summary.ending.reason {
      text += "\nthe run ended after \(summary.rounds) rounds: \(reason)"
    }
    if let release = summary.release, release.released {
      text += "\nreleased: \(release.reason)"
    }
    if !result.isBestTheLast, let round = summary.bestRound, let plugIn = summary.bestPlugIn {
      let place =
        result.bestRoundFolder.map { "its adapter is in '\($0.relativePath)'" }
        ?? "its adapter was not kept, as --out named no folder"
      text +=
        "\nthe best round was \(round) of \(summary.rounds), with a plug-in \(summary.fiveNumbers.metric) of \(summary.fiveNumbers.shown(plugIn)); \(place)"
    }
    if let share = summary.recoveredShare {
      text +=
        "\nplug-in reaches \(Format.percent(share)) of what full fine-tuning gains\(summary.fiveNumbers.higherIsBetter ? "" : " in log-perplexity")"
    }
    if let margin = summary.margin {
      text +=
        "\nthe owner's margin\(result.levels.count > 1 ? " on emulator \(result.shownLevel)" : "") is \(Format.number(margin, digits: 3)): \(margin > 0 ? "the plug-in is better than a device's own tuned emulator" : "a device's own tuned emulator is as good as the plug-in")"
    }
    if result.levels.count > 1, result.levels.contains(where: { $0.emulatorTuned != nil }) {
      var rows = [["emulator", "trained on", "zero-shot", "tuned", "margin"]]
      func shown(_ value: Double?) -> String {
        value.map(summary.fiveNumbers.shown) ?? "–"
      }
      for own in result.levels {
        rows.append([
          "\(own.level)  \(own.recipe)", own.isUsed ? "yes" : "no", shown(own.emulatorZeroShot),
          shown(own.emulatorTuned), own.margin.map { Format.number($0, digits: 3) } ?? "–",
        ])
      }
      text +=
        "\nemulator numbers above are of emulator \(result.shownLevel)\(result.levels.contains(where: \.isUsed) ? ", of those that clients trained on the one that is worth most to a device" : "")\n\n"
        + Format.table(rows)
    }
    if let clients = summary.perClient {
      let metric = Metric(rawValue: summary.fiveNumbers.metric) ?? .perplexity
      let columns = [["on each client's held-out texts", "adapter of all", "one of its own"]]
      text +=
        "\n\n"
        + Format.table(
          columns
            + zip(clients.global.rows(metric), clients.personalized.rows(metric)).map {
              $0 + [$1[1]]
            })
        + "\nan adapter of its own is better for \(Format.percent(clients.shareImproved)) of the clients"
    }
    for (name, reason) in summary.fiveNumbers.notMeasured.sorted(by: { $0.key < $1.key }) {
      text += "\nnot measured: \(FiveNumberName(rawValue: name)?.term ?? name): \(reason)"
    }
    var rows = [["client", "down", "up", "peak memory"]]
    for client in summary.clients {
      rows.append([
        client.client, Format.bytes(client.bytesDown), Format.bytes(client.bytesUp),
        client.peakMemoryBytes.map(Format.bytes) ?? "–",
      ])
    }
    rows.append([
      "all \(summary.rounds) rounds", Format.bytes(summary.bytesDown),
      Format.bytes(summary.bytesUp), "",
    ])
    text += "\n\n" + Format.table(rows)
    if let single = result.levelExposures.max(), summary.exposureSent.largest > single + 5e-4 {
      text +=
        "\nshown together: one client was sent \(Format.percent(summary.exposureSent.largest)) of the middle's weights over time, more than any emulator shows alone (\(Format.percent(single)) at most)"
    }
    if let simulation = summary.simulation {
      text +=
        "\nsimulated: \(Format.number(simulation.seconds, digits: 1)) s, \(Format.number(simulation.joules, digits: 1)) J"
      if let error = simulation.predictionError {
        text +=
          "; the learning model foresaw the loss within \(Format.number(error, digits: 3)) nats"
      }
      if simulation.violations > 0 {
        text +=
          "\nmemory: devices were told \(simulation.violations == 1 ? "once" : "\(simulation.violations) times") to train on more than they have memory for, and did not; see the reasons in results.json, and give them smaller emulators"
      }
    }
    text +=
      "\nsending the full model's weights would be \(Format.bytes(summary.fullModelBytes)) per client and round"
    try report(summary, text: text)
    if let release = summary.release, !release.released {
      let place =
        result.configuration.out.map {
          "It is in '\(URL(path: $0).appendingPathComponent(FederatedTuning.withheldFolder).relativePath)'."
        } ?? "It was not kept, as --out named no folder."
      Terminal.error("The adapter is not released: \(release.reason). \(place)")
      throw ExitCode(Self.notReleased)
    }
  }

  /// The work was done, and its result is not released.
  static let notReleased: Int32 = 1
}
