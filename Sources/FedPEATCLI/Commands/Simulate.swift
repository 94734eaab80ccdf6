import ArgumentParser
import FedPEAT
import Foundation

struct Simulate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a whole federation in one process.",
    discussion: """
      Example: fedpeat simulate run.yaml

      where run.yaml holds, for example:
        model: models/stories260K
        data: input.txt
        clientsBy: speaker
        clients: 4
        emulators: [layer-drop=2]
        rounds: 10
      The run file (YAML or JSON) names what differs from the defaults; flags win over it. The first round waits for all \
      clients. With --out the run is kept beside it as it goes: after it was interrupted the same command goes on with it. With --seeds 3 the run is made with three seeds, and each number is a mean with its deviation.
      """)

  @Argument(help: "A run file.")
  var config: String?

  @OptionGroup var options: RunOptions

  @OptionGroup var clientData: ClientDataOptions

  @Option(
    help:
      "The most components of low-rank pairs that each client trains, dealt out in turn, such as 2,4,8,16; the whole rank if not given."
  )
  var rankLimits: String?

  @Flag(
    help:
      "Measure plug-in on each client's own held-out texts at the end, with the adapter of all and with one that the client tuned on from there."
  )
  var perClient = false

  @Option(
    help:
      "Make the run with so many seeds, counting up from --seed; --out then gets a folder for each."
  )
  var seeds = 1

  @OptionGroup var keeping: StoreOptions

  @Flag(help: "Tune nothing: play the run in its simulated edge by the learning model alone.")
  var learningModel = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if seeds < 1 || seeds > 1000 {
      throw ValidationError("--seeds is \(seeds); it must be between 1 and 1000.")
    }
  }

  /// What several seeds gave together.
  struct ManyReport: Encodable {
    var fiveNumbers: FiveNumbersOverSeeds
    var rounds: Int
    var bytesUp: Int
    var bytesDown: Int
    var simulatedSeconds: Double?
    /// How many were asked for, and how it ended before they were done.
    var seedsAsked: Int
    var ending: RunResult.Summary.Ending
    var seeds: [RunResult.Summary]

    private enum CodingKeys: String, CodingKey {
      case fiveNumbers, rounds, bytesUp, bytesDown, simulatedSeconds, seedsAsked, ending, seeds
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(fiveNumbers, forKey: .fiveNumbers)
      try container.encode(rounds, forKey: .rounds)
      try container.encode(bytesUp, forKey: .bytesUp)
      try container.encode(bytesDown, forKey: .bytesDown)
      try container.encode(simulatedSeconds, forKey: .simulatedSeconds)
      try container.encode(seedsAsked, forKey: .seedsAsked)
      try container.encode(ending, forKey: .ending)
      try container.encode(seeds, forKey: .seeds)
    }
  }

  func run() async throws {
    var overrides = options.overrides(common).merging(clientData.overrides) { $1 }
    if let rankLimits {
      overrides[RunConfiguration.CodingKeys.rankLimits.rawValue] = .array(
        try MethodWords.numbers(rankLimits, of: "--rank-limits").map { .integer($0) })
    }
    if perClient { overrides[RunConfiguration.CodingKeys.perClient.rawValue] = .bool(true) }
    let configuration = try RunConfiguration.read(
      from: config.map(URL.init(path:)), flags: overrides)
    if learningModel {
      return try play(configuration)
    }
    try checkOutput(configuration)
    var results: [RunResult] = []
    for number in 0..<seeds {
      var one = configuration
      one.seed = configuration.seed &+ UInt64(number)
      if seeds > 1 {
        Terminal.note("seed \(one.seed)")
        one.out = configuration.out.map {
          URL(path: $0).appendingPathComponent("seed-\(one.seed)").path
        }
      }
      do { results.append(try await run(one)) } catch {
        // What other seeds gave is kept.
        if let (report, _) = summary(results, configuration, endedBy: error),
          let out = configuration.out
        {
          try write(report, to: out)
          throw FederatedTuning.adding(
            "What \(results.count == 1 ? "the seed" : "the \(results.count) seeds") before gave is in '\(out)/results.json'.",
            to: error)
        }
        throw error
      }
    }
    guard seeds > 1, let (report, numbers) = summary(results, configuration, endedBy: nil) else {
      if let result = results.first { try common.report(result) }
      return
    }
    if let out = configuration.out { try write(report, to: out) }
    try common.report(report, text: numbers.table)
    let withheld = results.filter { $0.release?.released == false }
    guard withheld.isEmpty else {
      Terminal.error(
        "The adapters of \(withheld.count) of \(results.count) seeds are not released: \(withheld[0].release?.reason ?? "")."
      )
      throw ExitCode(CommonOptions.notReleased)
    }
  }

  /// What several seeds gave; `nil` where there is none.
  private func summary(
    _ results: [RunResult], _ configuration: RunConfiguration, endedBy error: (any Error)?
  ) -> (report: ManyReport, numbers: FiveNumbersOverSeeds)? {
    guard let numbers = FiveNumbersOverSeeds(results.map(\.fiveNumbers)) else { return nil }
    let report = ManyReport(
      fiveNumbers: numbers, rounds: configuration.rounds,
      bytesUp: results.reduce(0) { $0 + $1.report.bytesUp } / results.count,
      bytesDown: results.reduce(0) { $0 + $1.report.bytesDown } / results.count,
      simulatedSeconds: results.meanSimulatedSeconds, seedsAsked: seeds,
      ending: .init(error),
      seeds: results.map(\.summary))
    return (report, numbers)
  }

  /// Of several seeds each has a folder of its own, which an earlier run with seeds may have left.
  private func checkOutput(_ configuration: RunConfiguration) throws {
    guard seeds > 1, let out = configuration.out.map(URL.init(path:)) else {
      return try configuration.checkOutput()
    }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: out.path)) ?? []
    guard names.allSatisfy({ $0 == "results.json" || $0.hasPrefix("seed-") }) else {
      return try configuration.checkOutput()
    }
    for number in 0..<seeds {
      var one = configuration
      one.out = out.appendingPathComponent("seed-\(configuration.seed &+ UInt64(number))").path
      try one.checkOutput()
    }
  }

  private func write(_ report: ManyReport, to out: String) throws {
    try AtomicOutput.write(
      JSONFile.encode(report), to: URL(path: out).appendingPathComponent("results.json"))
  }

  /// One run with the clients in this process.
  private func run(_ configuration: RunConfiguration) async throws -> RunResult {
    try DataCautions.tell(of: configuration)
    let parts = try ClientData(configuration)
    if configuration.partition != nil { Terminal.note(Format.table(parts.partition.rows())) }
    guard configuration.minimumUpdates <= parts.groups.count else {
      throw PeatError.usage(
        "A round needs minimumUpdates = \(configuration.minimumUpdates) updates, but there are only "
          + "\(parts.groups.count) clients.")
    }
    // Who comes first is chance; the first round waits for all, so that a run can be repeated.
    var configuration = configuration
    configuration.minimumClients = parts.groups.count
    let database = try keeping.open(configuration, finished: .isReplaced)
    defer { database?.leave() }
    let progress = RunProgress(rounds: configuration.rounds)
    let tuning = try FederatedTuning(
      configuration, evaluation: parts.evaluation, pooled: parts.groups.flatMap(\.documents),
      cell: try parts.shares(), clients: parts.clients, database: database, othersMayCome: false,
      otherTexts: configuration.data.map { ["data": URL(path: $0)] } ?? [:], logger: .silent,
      onEvent: progress.report)
    return try await tuning.run(
      FederatedTuning.inProcess(
        parts.groups, threads: configuration.threads ?? 1, seed: configuration.seed,
        rankLimits: configuration.rankLimits ?? [], faults: try configuration.faults,
        database: database, logger: .silent,
        onCaution: { client, text in progress.report(.warning("\(client): \(text)")) }))
  }
}

extension [RunResult] {
  /// `nil` without a simulated cell.
  fileprivate var meanSimulatedSeconds: Double? {
    let seconds = compactMap(\.simulation?.seconds)
    return seconds.isEmpty ? nil : seconds.reduce(0, +) / Double(seconds.count)
  }
}
