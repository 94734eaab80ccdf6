import ArgumentParser
import FedPEAT

/// What a run does where neither a flag nor the run file says something else; for the flags' help.
private let standard = RunConfiguration()

/// Flags that say what devices tune, and how: the same as keys of a run file, and they win over it.
struct TuningOptions: ParsableArguments {
  @Option(
    help:
      "An emulator: a recipe, or a folder that compress wrote; give it once per level. (default: \(standard.emulators.joined(separator: " ")))"
  )
  var emulator: [String] = []

  @Option(help: "Blocks at the bottom in which the adapter sits. (default: \(standard.bottom))")
  var bottom: Int?

  @Option(help: "Blocks at the top in which the adapter sits. (default: \(standard.top))")
  var top: Int?

  @Option(
    help: "\(Adapter.Method.names.joined(separator: ", ")). (default: \(standard.method))")
  var method: String?

  @Option(help: "LoRA and DoRA: rank. (default: \(standard.rank))")
  var rank: Int?

  @Option(
    help: "LoRA and DoRA: the update is scaled with alpha / rank. (default: \(standard.alpha))")
  var alpha: Double?

  @Option(help: "Local optimizer steps per round. (default: \(standard.localSteps))")
  var localSteps: Int?

  @Option(help: "Windows per local step. (default: \(standard.batch))")
  var batch: Int?

  @Option(help: "Input tokens per window. (default: \(standard.context))")
  var context: Int?

  @Option(
    help:
      "Learning rate of the adapter. ia3, norm-tuning, bitfit, prompts and prefixes want more than the default: 0.1. (default: \(standard.learningRate))"
  )
  var learningRate: Float?

  /// The keys that were given.
  var overrides: [String: JSONValue] {
    var table: [String: JSONValue] = [:]
    func set(_ key: RunConfiguration.CodingKeys, _ value: JSONValue?) {
      if let value { table[key.rawValue] = value }
    }
    if !emulator.isEmpty { set(.emulators, .array(emulator.map { .string($0) })) }
    set(.bottom, bottom.map { .integer($0) })
    set(.top, top.map { .integer($0) })
    set(.method, method.map { .string($0) })
    set(.rank, rank.map { .integer($0) })
    set(.alpha, alpha.map { .number($0) })
    set(.localSteps, localSteps.map { .integer($0) })
    set(.batch, batch.map { .integer($0) })
    set(.context, context.map { .integer($0) })
    set(.learningRate, learningRate.map { .number(Double($0)) })
    return table
  }
}
