import ArgumentParser
import FedPEAT
import Foundation

/// How an emulator is distilled before its matrices are stored in fewer bits.
struct DistillationOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Distil the middle on this text of the owner's; it stays as the recipe leaves it if not given.",
      valueName: "text"))
  var distill: String?

  @Option(help: "Steps of distillation.")
  var distillSteps = DistillationSettings().steps

  @Option(help: "Learning rate of distillation; it falls along a cosine.")
  var distillRate = DistillationSettings().learningRate

  @Option(help: "Windows per step of distillation.")
  var distillBatch = DistillationSettings().batch

  @Option(help: "Tokens per window of distillation.")
  var distillContext = DistillationSettings().context

  @Option(help: "Weight of the loss of predicting each next token.")
  var lossWeight = DistillationSettings().lossWeight

  @Option(help: "Weight of how far the states behind the middle are off.")
  var stateWeight = DistillationSettings().stateWeight

  @Option(help: "Weight of how far the states behind each of its blocks but the last are off.")
  var blockWeight = DistillationSettings().blockWeight

  @Option(
    help: "Noise on the states before the middle, as a share of their root mean square, at most.")
  var stateNoise = DistillationSettings().noise

  @Flag(help: "Go on from the state that an interrupted distillation left in the output folder.")
  var resume = false

  @Option(help: "Save the state every so many steps; only when interrupted if not given.")
  var saveEvery: Int?

  func validate() throws {
    if let saveEvery, saveEvery < 1 {
      throw ValidationError("--save-every is \(saveEvery); it must be at least 1.")
    }
    if resume, distill == nil {
      throw ValidationError("--resume goes on with a distillation; name its text with --distill.")
    }
  }

  func settings(_ common: CommonOptions, longest: Int) throws -> DistillationSettings {
    var settings = DistillationSettings()
    settings.steps = distillSteps
    settings.learningRate = distillRate
    settings.batch = distillBatch
    settings.context = min(distillContext, longest)
    settings.lossWeight = lossWeight
    settings.stateWeight = stateWeight
    settings.blockWeight = blockWeight
    settings.noise = stateNoise
    settings.seed = common.seedValue
    settings.threads = common.threadCount
    try settings.validate()
    return settings
  }

  /// Distils where it was asked for; saves the state where it is interrupted.
  func run(
    _ emulator: inout Emulator, full: TransformerModel, source: Checkpoint, target: URL,
    _ common: CommonOptions, isOneOfSeveral: Bool = false
  ) throws {
    guard let distill else { return }
    // Of several levels only the one that was under way has a state.
    let goesOn = resume && (!isOneOfSeveral || Trainer.State.exists(in: target))
    let saved = try Trainer.State.read(in: target, resume: goesOn)
    let settings = try settings(common, longest: source.configuration.contextLength)
    let url = URL(path: distill)
    let data = try TokenDataset.make(
      try DocumentReader.read(url), tokenizer: try Tokenizer(folder: source.folder),
      layout: .stream, context: settings.context, addBegin: nil)
    let distillation = try Distillation(emulator, full: full, data: data, settings: settings)
    defer { distillation.trainer.finish() }
    distillation.trainer.modelDigest = source.digest()
    if let saved {
      try distillation.trainer.resume(saved)
      Terminal.note("resumed at step \(saved.step) of \(settings.steps)")
    }
    let outcome = try distillation.trainer.run(
      shouldStop: { Interruption.isRequested },
      onStep: { progress in
        Terminal.status(
          "distilling: step \(progress.report.step) of \(progress.steps)  off by \(Format.number(progress.report.loss, digits: 4))  "
            + "\(Format.number(progress.tokensPerSecond, digits: 0)) tokens/s  \(Format.time(progress.timeLeft)) left"
        )
        if let saveEvery, progress.report.step % saveEvery == 0 {
          try distillation.trainer.state.save(in: target)
        }
      })
    guard outcome.isComplete else {
      try distillation.trainer.state.save(in: target)
      throw PeatError(
        .interrupted,
        "Interrupted at step \(distillation.trainer.step) of \(settings.steps). The state is saved; go on with the same command and --resume."
      )
    }
    emulator.distillation = DistillationFacts(
      settings: settings, finalLoss: outcome.finalLoss,
      text: Digest(of: try Data(contentsOf: url)))
  }
}
