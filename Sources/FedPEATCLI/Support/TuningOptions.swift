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

  @Option(
    help:
      "LoRA, DoRA, IA3: linear layers that get one, such as q_proj,v_proj, or one regular expression; all, or IA3's usual, if not given."
  )
  var targetModules: String?

  @Option(
    help: "LoRA, DoRA, IA3: those of them that get none, such as down_proj; none if not given.")
  var excludeModules: String?

  @Option(help: "Local optimizer steps per round. (default: \(standard.localSteps))")
  var localSteps: Int?

  @Option(help: "Windows per local step. (default: \(standard.batch))")
  var batch: Int?

  @Option(
    help:
      "Input tokens per window; \(RunConfiguration.usualContext), or the model's longest if that is less, if not given."
  )
  var context: Int?

  @Option(
    help:
      "Learning rate of the adapter; \(MethodWords.usualRates) if not given."
  )
  var learningRate: Float?

  /// The keys that were given.
  var overrides: [String: JSONValue] {
    var table: [String: JSONValue] = [:]
    typealias Key = RunConfiguration.CodingKeys
    func set(_ key: Key, _ value: JSONValue?) {
      if let value { table[key.rawValue] = value }
    }
    if !emulator.isEmpty { set(.emulators, .array(emulator.map { .string($0) })) }
    set(.bottom, bottom.map { .integer($0) })
    set(.top, top.map { .integer($0) })
    set(.method, method.map { .string($0) })
    set(.rank, rank.map { .integer($0) })
    set(.alpha, alpha.map { .number($0) })
    for (key, words) in [(Key.targetModules, targetModules), (.excludeModules, excludeModules)] {
      set(key, words.map { .array(MethodWords.modules($0).map { .string($0) }) })
    }
    set(.localSteps, localSteps.map { .integer($0) })
    set(.batch, batch.map { .integer($0) })
    set(.context, context.map { .integer($0) })
    set(.learningRate, learningRate.map { .number(Double($0)) })
    return table
  }
}
