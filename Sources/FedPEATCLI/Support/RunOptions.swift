import ArgumentParser
import FedPEAT
import Foundation

/// What a run does where neither a flag nor the run file says something else; for the flags' help.
private let standard = RunConfiguration()

/// Flags that say what a run takes and gives, also where it is only foreseen: the same as keys of a run file, and they win over it.
struct ForecastOptions: ParsableArguments {
  @Option(help: "The full model: its folder, or its name on the Hub; the run file's if not given.")
  var model: String?

  @OptionGroup var tuning: TuningOptions

  @Option(help: "Rounds. (default: \(standard.rounds))")
  var rounds: Int?

  @Option(
    help:
      "Who takes part in a round, and on which emulator: \(RunConfiguration.plannerNames.joined(separator: ", ")). (default: \(standard.planner))"
  )
  var planner: String?

  @Option(
    help:
      "The edge that clients are at: a file that calibrate wrote, or a scenario such as pedestrian; none if not given."
  )
  var edge: String?

  @Option(
    help:
      "The share of the middle that a client may put together at most. (default: \(standard.maxExposure))"
  )
  var maxExposure: Double?

  @Option(
    help:
      "How updates are sent: f32, or differences as f16, bf16, int8 or int4, with top-k=S before it the share S of them that is largest, as in top-k=0.1,int8. (default: \(UpdateEncoding.plain))"
  )
  var upload: String?

  @Option(
    help:
      "How the adapter is sent to clients: f32, f16, bf16, int8 or int4. (default: \(standard.download))"
  )
  var download: String?

  @Flag(help: "The coordinator tunes too, through the full middle, on --server-data.")
  var participate = false

  @Option(help: "The coordinator's own data; needed with --participate, unused if not given.")
  var serverData: String?

  @Option(
    help:
      "The coordinator's share in the next adapter, from 0 to below 1. (default: \(standard.serverWeight))"
  )
  var serverWeight: Double?

  /// The keys that were given.
  func overrides(_ common: CommonOptions) -> [String: JSONValue] {
    var table = tuning.overrides
    func set(_ key: RunConfiguration.CodingKeys, _ value: JSONValue?) {
      if let value { table[key.rawValue] = value }
    }
    set(.model, model.map { .string(ModelFolder.word($0)) })
    set(.rounds, rounds.map { .integer($0) })
    set(.planner, planner.map { .string($0) })
    set(.edge, edge.map { .string(EdgeFile.isScenario($0) ? $0 : URL(path: $0).path) })
    set(.maxExposure, maxExposure.map { .number($0) })
    if let upload {
      set(.upload, .string(upload))
      // The words say the bits, too.
      set(.uploadBits, .integer(32))
    }
    set(.download, download.map { .string($0) })
    if participate { set(.participate, .bool(true)) }
    set(.serverData, serverData.map { .string(URL(path: $0).path) })
    set(.serverWeight, serverWeight.map { .number($0) })
    set(.seed, common.seed.map { .integer(Int(clamping: $0)) })
    set(.threads, common.threads.map { .integer($0) })
    return table
  }
}

/// Flags that say the same as keys of a run file, and win over them.
struct RunOptions: ParsableArguments {
  @OptionGroup var forecast: ForecastOptions

  @Option(
    help:
      "How updates are aggregated: \(Strategies.names.joined(separator: ", ")). (default: \(standard.strategy))"
  )
  var strategy: String?

  @OptionGroup var strategyOptions: ServerOptions

  @Option(
    help:
      "How devices step: adam, begun anew in each round, or sgd. (default: \(standard.localOptimizer.rawValue))"
  )
  var localOptimizer: String?

  @Flag(help: "Let devices' Adam go on with its moments from round to round.")
  var keepMoments = false

  @Option(
    help:
      "Hold devices near the adapter that a round began with, by mu / 2 times the squared distance; 0.01 by fedprox, else 0 if not given."
  )
  var proximal: Double?

  @Option(
    help: "Clients that must be there before the first round. (default: \(standard.minimumClients))"
  )
  var minimumClients: Int?

  @Option(
    help:
      "The text perplexity is measured on; if not given, simulate holds back \(Format.percent(standard.validationShare)) of each client's data, and serve measures nothing."
  )
  var evaluationData: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Begin each document with the begin token; as the tokenizer does if not given.")
  var bos: Bool?

  @Option(
    help: "The folder for adapter, configuration and results; nothing is written if not given.")
  var out: String?

  /// The keys that were given.
  func overrides(_ common: CommonOptions) -> [String: JSONValue] {
    var table = forecast.overrides(common)
    func set(_ key: RunConfiguration.CodingKeys, _ value: JSONValue?) {
      if let value { table[key.rawValue] = value }
    }
    set(.strategy, strategy.map { .string($0) })
    set(.localOptimizer, localOptimizer.map { .string($0) })
    if keepMoments { set(.keepMoments, .bool(true)) }
    set(.proximal, proximal.map { .number($0) })
    for (key, value) in strategyOptions.overrides { set(key, value) }
    set(.minimumClients, minimumClients.map { .integer($0) })
    set(.evaluationData, evaluationData.map { .string(URL(path: $0).path) })
    set(.bos, bos.map { .bool($0) })
    set(.out, out.map { .string(URL(path: $0).path) })
    return table
  }
}
