import ArgumentParser
import FedPEAT
import Foundation

/// What a run does where neither a flag nor the run file says something else; for the flags' help.
private let standard = RunConfiguration()

/// Flags that say the same as keys of a run file, and win over them.
struct RunOptions: ParsableArguments {
  @Option(help: "The full model's folder; the run file's if not given.")
  var model: String?

  @Option(
    help:
      "Emulator recipe; give it once per level. (default: \(standard.emulators.joined(separator: " ")))"
  )
  var emulator: [String] = []

  @Option(help: "Blocks at the bottom in which the adapter sits. (default: \(standard.bottom))")
  var bottom: Int?

  @Option(help: "Blocks at the top in which the adapter sits. (default: \(standard.top))")
  var top: Int?

  @Option(help: "lora or end-blocks. (default: \(standard.method))")
  var method: String?

  @Option(help: "LoRA: rank. (default: \(standard.rank))")
  var rank: Int?

  @Option(help: "LoRA: the update is scaled with alpha / rank. (default: \(standard.alpha))")
  var alpha: Double?

  @Option(help: "Rounds. (default: \(standard.rounds))")
  var rounds: Int?

  @Option(help: "Local optimizer steps per round. (default: \(standard.localSteps))")
  var localSteps: Int?

  @Option(help: "Windows per local step. (default: \(standard.batch))")
  var batch: Int?

  @Option(help: "Input tokens per window. (default: \(standard.context))")
  var context: Int?

  @Option(help: "Learning rate of the adapter. (default: \(standard.learningRate))")
  var learningRate: Float?

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
      "How updates are aggregated: \(Strategies.names.joined(separator: ", ")). (default: \(standard.strategy))"
  )
  var strategy: String?

  @Option(
    help: "Clients that must be there before the first round. (default: \(standard.minimumClients))"
  )
  var minimumClients: Int?

  @Flag(help: "The coordinator tunes too, through the full middle, on --server-data.")
  var participate = false

  @Option(help: "The coordinator's own data; needed with --participate, unused if not given.")
  var serverData: String?

  @Option(
    help:
      "The coordinator's share in the next adapter, from 0 to below 1. (default: \(standard.serverWeight))"
  )
  var serverWeight: Double?

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
    var table: [String: JSONValue] = [:]
    func set(_ key: RunConfiguration.CodingKeys, _ value: JSONValue?) {
      if let value { table[key.rawValue] = value }
    }
    set(.model, model.map { .string(URL(path: $0).path) })
    if !emulator.isEmpty { set(.emulators, .array(emulator.map { .string($0) })) }
    set(.bottom, bottom.map { .integer($0) })
    set(.top, top.map { .integer($0) })
    set(.method, method.map { .string($0) })
    set(.rank, rank.map { .integer($0) })
    set(.alpha, alpha.map { .number($0) })
    set(.rounds, rounds.map { .integer($0) })
    set(.localSteps, localSteps.map { .integer($0) })
    set(.batch, batch.map { .integer($0) })
    set(.context, context.map { .integer($0) })
    set(.learningRate, learningRate.map { .number(Double($0)) })
    set(.planner, planner.map { .string($0) })
    set(.edge, edge.map { .string(EdgeFile.isScenario($0) ? $0 : URL(path: $0).path) })
    set(.maxExposure, maxExposure.map { .number($0) })
    set(.strategy, strategy.map { .string($0) })
    set(.minimumClients, minimumClients.map { .integer($0) })
    if participate { set(.participate, .bool(true)) }
    set(.serverData, serverData.map { .string(URL(path: $0).path) })
    set(.serverWeight, serverWeight.map { .number($0) })
    set(.evaluationData, evaluationData.map { .string(URL(path: $0).path) })
    set(.bos, bos.map { .bool($0) })
    set(.out, out.map { .string(URL(path: $0).path) })
    set(.seed, common.seed.map { .integer(Int(clamping: $0)) })
    set(.threads, common.threads.map { .integer($0) })
    return table
  }
}
