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

  @Option(help: "Steps of distillation; 600 if not given.")
  var distillSteps: Int?

  @Option(help: "Learning rate of distillation; it falls along a cosine; 0.001 if not given.")
  var distillRate: Float?

  @Option(help: "Windows per step of distillation; 8 if not given.")
  var distillBatch: Int?

  @Option(help: "Tokens per window of distillation; 256, or the model's longest, if not given.")
  var distillContext: Int?

  @Option(help: "Weight of the loss of predicting each next token; 1 if not given.")
  var lossWeight: Double?

  @Option(help: "Weight of how far the states behind the middle are off; 30 if not given.")
  var stateWeight: Double?

  @Option(
    help:
      "Weight of how far the states behind each of its blocks but the last are off; 0 if not given."
  )
  var blockWeight: Double?

  @Option(
    help:
      "Noise on the states before the middle, as a share of their root mean square, at most; 0 if not given."
  )
  var stateNoise: Double?

  @Option(
    help:
      "How often on the way an adapter is tuned for a few steps and plugged in; the emulator is kept as it was when that was worth the most. 0 keeps the last; 6 if not given."
  )
  var distillChecks: Int?

  @Flag(help: "Go on from the state that an interrupted distillation left in the output folder.")
  var resume = false

  @Option(help: "Save the state every so many steps; only when interrupted if not given.")
  var saveEvery: Int?

  func validate() throws {
    if let saveEvery, saveEvery < 1 {
      throw ValidationError("--save-every is \(saveEvery); it must be at least 1.")
    }
    let given: [(String, Bool)] = [
      ("--distill-steps", distillSteps != nil), ("--distill-rate", distillRate != nil),
      ("--distill-batch", distillBatch != nil), ("--distill-context", distillContext != nil),
      ("--loss-weight", lossWeight != nil), ("--state-weight", stateWeight != nil),
      ("--block-weight", blockWeight != nil), ("--state-noise", stateNoise != nil),
      ("--distill-checks", distillChecks != nil), ("--save-every", saveEvery != nil),
      ("--resume", resume),
    ]
    if distill == nil, let option = given.first(where: \.1) {
      throw ValidationError("\(option.0) is about distillation; name its text with --distill.")
    }
  }

  /// What a distillation is made with: settings that make sense, and the text.
  struct Lesson {
    var settings: DistillationSettings
    var data: TokenDataset
    /// Digest of the text's bytes.
    var digest: Digest
  }

  /// Reads the text and checks the settings, before any work; `nil` where nothing is to be distilled.
  func lesson(_ source: Checkpoint, _ common: CommonOptions) throws -> Lesson? {
    guard let distill else { return nil }
    let settings = try settings(common, longest: source.configuration.contextLength)
    let url = URL(path: distill)
    DataCautions.tell(url, for: source.configuration)
    return Lesson(
      settings: settings,
      data: try Distillation.data(
        try source.configuration.documents(in: url), source: source, settings: settings),
      digest: try Digest(ofDataAt: url))
  }

  private func settings(_ common: CommonOptions, longest: Int) throws -> DistillationSettings {
    var settings = DistillationSettings()
    if let distillContext, distillContext > longest {
      throw PeatError.usage(
        "--distill-context is \(distillContext); the model reads \(longest) tokens at most.")
    }
    settings.context = distillContext ?? min(settings.context, longest)
    settings.steps = distillSteps ?? settings.steps
    settings.batch = distillBatch ?? settings.batch
    settings.learningRate = distillRate ?? settings.learningRate
    settings.lossWeight = lossWeight ?? settings.lossWeight
    settings.stateWeight = stateWeight ?? settings.stateWeight
    settings.blockWeight = blockWeight ?? settings.blockWeight
    settings.noise = stateNoise ?? settings.noise
    settings.checks = distillChecks ?? settings.checks
    settings.seed = common.seedValue
    settings.threads = common.threadCount
    try settings.validate(contextLength: longest)
    return settings
  }

  /// Distils; saves the state where it is interrupted.
  func run(
    _ emulator: inout Emulator, _ lesson: Lesson, full: TransformerModel, source: Checkpoint,
    target: URL, probeText: TokenDataset? = nil, isOneOfSeveral: Bool = false
  ) throws {
    // Of several levels only the one that was under way has a state.
    let goesOn = resume && (!isOneOfSeveral || Trainer.State.exists(in: target))
    let saved = try Trainer.State.read(in: target, resume: goesOn)
    let settings = lesson.settings
    let distillation = try Distillation(
      emulator, full: full, source: source, data: lesson.data, probed: probeText,
      settings: settings)
    defer { distillation.trainer.finish() }
    if let saved {
      try distillation.resume(saved, from: target)
      Terminal.note("resumed at step \(saved.step) of \(settings.steps)")
    }
    func goOn() throws -> Trainer.Outcome? {
      do {
        return try distillation.run(
          shouldStop: { Interruption.isRequested },
          onStep: { progress in
            Terminal.status(
              "distilling: step \(progress.report.step) of \(progress.steps)  off by \(Format.number(progress.report.loss, digits: 4))  "
                + "\(Format.number(progress.rate, digits: 0)) \(progress.unit.perSecond)  \(Format.time(progress.timeLeft)) left"
            )
            if let saveEvery, progress.report.step % saveEvery == 0 {
              try distillation.save(in: target)
            }
          },
          onCheck: { check in
            Terminal.note(
              "distilling   step \(check.step): with a probe's adapter the full model's loss is \(Format.number(check.plugInLoss, digits: 4)) nats per token"
            )
          })
      } catch let error as PeatError where error.code == .interrupted { return nil }
    }
    guard let outcome = try goOn(), outcome.isComplete else {
      try distillation.save(in: target)
      throw PeatError(
        .interrupted,
        "Interrupted at step \(distillation.trainer.step) of \(settings.steps). The state is saved; go on with the same command and --resume."
      )
    }
    if let chosen = distillation.chosen {
      Terminal.note("distilled    kept as it was at step \(chosen.step), where that loss was least")
    }
    emulator.distillation = DistillationFacts(
      settings: settings, finalLoss: outcome.finalLoss, text: lesson.digest,
      chosen: distillation.chosen)
  }
}
