import ArgumentParser
import FedPEAT
import Foundation

/// How an adapter is tuned where emulators are tried on a task.
struct TrialOptions: ParsableArguments {
  @Option(help: "Sequences per step.")
  var batch = TuningTrial.Settings().batch

  @Option(help: "Input tokens per window; 256, or the model's longest, if not given.")
  var context: Int?

  @Option(help: "Learning rate.")
  var learningRate = TuningTrial.Settings().learningRate

  @Option(help: "Rank of the LoRA adapter.")
  var rank = TuningTrial.Settings().rank

  @Option(help: "LoRA's alpha.")
  var alpha = TuningTrial.Settings().alpha

  @Option(
    help:
      "Noise on the states behind an emulator's middle while an adapter is tuned, as a share of their root mean square."
  )
  var stateNoise = TuningTrial.Settings().stateNoise

  @Option(
    help:
      "How documents are laid into windows: stream, packed or documents; packed where there are prompts, else stream, if not given."
  )
  var layout: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Begin each document with the begin token; as the tokenizer does if not given.")
  var bos: Bool?

  func settings(
    _ common: CommonOptions, steps: Int, documents: [Document], longest: Int, seed: UInt64
  ) throws -> TuningTrial.Settings {
    var settings = TuningTrial.Settings()
    settings.steps = steps
    settings.batch = batch
    settings.context = context ?? min(settings.context, longest)
    settings.learningRate = learningRate
    settings.rank = rank
    settings.alpha = alpha
    settings.stateNoise = stateNoise
    settings.layout =
      try layout.map(LocalTuning.Layout.init(typed:))
      ?? (documents.contains { $0.prompt != nil } ? .packed : .stream)
    settings.bos = bos
    settings.seed = seed
    settings.threads = common.threadCount
    try settings.validate(contextLength: longest)
    return settings
  }

  static func tell(_ part: String, _ progress: Trainer.Progress) {
    Terminal.status(
      "\(part): step \(progress.report.step) of \(progress.steps)  loss \(Format.number(progress.report.loss, digits: 4))  "
        + "\(Format.number(progress.tokensPerSecond, digits: 0)) tokens/s  \(Format.time(progress.timeLeft)) left"
    )
  }
}

extension LocalTuning.Layout {
  /// A word as a person types it.
  init(typed word: String) throws {
    guard let layout = LocalTuning.Layout(rawValue: word) else {
      throw PeatError.usage(
        "Unknown layout '\(word)'. "
          + suggestion(for: word, among: LocalTuning.Layout.allCases.map(\.rawValue)))
    }
    self = layout
  }
}
