import ArgumentParser
import FedPEAT

/// The command line: one verb per file in Commands/.
struct Fedpeat: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fedpeat",
    abstract: "Tune a model together without giving away the data or the model.",
    discussion: """
      A model owner compresses the middle of a transformer into an emulator; devices tune a small adapter through it on \
      their own data; the adapter is plugged into the full model.

      Begin with: fedpeat demo
      """,
    version: Fedpeat.version,
    subcommands: [
      Demo.self, Pull.self, Inspect.self, Evaluate.self, Generate.self, Embed.self, Compress.self,
      Attack.self,
      CompareEmulators.self, Export.self, Tune.self,
      PlugInCommand.self, Aggregate.self, Serve.self, Join.self, CA.self, Simulate.self, Runs.self,
      Reports.self, Verify.self,
      Pretrain.self,
      Calibrate.self, Estimate.self, TrainController.self, EvaluateController.self, Bench.self,
      Parity.self, Doctor.self,
    ])

  static let version = "0.1.0"

  /// Throws where the first word is no verb, or `help` is asked for one that is none, and names the nearest that is.
  static func checkVerb(_ words: [String]) throws {
    guard let word = words.first == "help" ? words.dropFirst().first : words.first,
      !word.hasPrefix("-"), word != "help"
    else { return }
    let verbs = configuration.subcommands.map { $0._commandName }
    guard !verbs.contains(word) else { return }
    throw PeatError.usage("Unknown verb '\(word)'. " + suggestion(for: word, among: verbs))
  }
}
