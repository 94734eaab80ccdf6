import Foundation

/// How long a new model is trained.
struct PretrainingCourse: Sendable, Equatable {
  /// Steps at most, the final decay included.
  var maximumSteps: Int
  /// The held-out loss is measured every so many steps.
  var measureEvery: Int
  /// The loss has levelled off when it fell by less than this share…
  var levelShare: Double
  /// …over so many measurements.
  var patience: Int
}

/// Where the training of a new model was interrupted, to go on from there to the same bits.
public struct PretrainingState: Sendable {
  static let factsName = "pretraining_state.json"
  static let bestName = "pretraining_best.safetensors"

  /// What has been measured on the way.
  struct Facts: Sendable, Codable, Equatable {
    /// Held-out losses so far.
    var measured: [Double] = []
    /// The lowest of them, and its step.
    var bestLoss: Double?
    var bestStep: Int?
    /// Steps left of the final decay, once it has begun, and how many it has.
    var decayLeft: Int?
    var decaySteps: Int?
    var levelledOff = false
    /// Seconds before the interruption.
    var seconds = 0.0
  }

  let trainer: Trainer.State
  let facts: Facts
  let best: NamedTensors?

  /// Steps that were made.
  public var step: Int { trainer.step }

  /// The state that a command goes on from; `nil` where it begins anew.
  ///
  /// - Throws: where one is there and the command does not say that it goes on, or the other way round; where it is damaged.
  public static func read(in folder: URL, resume: Bool) throws -> PretrainingState? {
    guard let trainer = try Trainer.State.read(in: folder, resume: resume) else { return nil }
    let url = folder.appendingPathComponent(factsName)
    let facts = try JSONFile.read(Facts.self, from: url)
    let weights = folder.appendingPathComponent(bestName)
    let isDecaying = facts.decayLeft != nil
    guard facts.measured.allSatisfy(\.isFinite), facts.bestLoss?.isFinite ?? true,
      (facts.bestLoss != nil) == (facts.bestStep != nil),
      isDecaying == (facts.decaySteps != nil),
      (facts.decayLeft ?? 0) >= 0, (facts.decaySteps ?? 1) > 0,
      (facts.bestLoss != nil) == FileManager.default.fileExists(atPath: weights.path)
    else {
      throw PeatError.badData(
        "The saved state in '\(folder.path)' is damaged: '\(factsName)' does not fit the rest. Delete it and start again."
      )
    }
    return PretrainingState(
      trainer: trainer, facts: facts,
      best: facts.bestLoss == nil ? nil : try SafeTensorsFile(contentsOf: weights).tensors())
  }
}

/// Where a new model's training saves its state when it is interrupted.
public struct PretrainingSaving: Sendable {
  public var folder: URL
  /// Also after every so many steps.
  public var every: Int?

  public init(folder: URL, every: Int? = nil) {
    self.folder = folder
    self.every = every
  }
}

/// Trains all weights of a new model until its held-out loss levels off or the steps run out.
///
/// The rate is constant after the warm-up while the held-out loss falls, and then decays to 0 over a quarter of the steps
/// made so far (warm-up, stable, decay: Hu et al. 2024, <https://arxiv.org/abs/2404.06395>). Where the held-out loss has risen, the weights are those of the
/// best step again.
final class PretrainingLoop {
  struct Outcome {
    var loss: Double
    var steps: Int
    /// Predictions that were learned from.
    var targets: Int
    var seconds: Double
    var levelledOff: Bool
  }

  private let model: TransformerModel
  private let trainer: Trainer
  private let course: PretrainingCourse
  private let heldOutLoss: () throws -> Double
  private var facts = PretrainingState.Facts()
  private var best: NamedTensors?

  init(
    _ model: TransformerModel, data: TokenDataset, _ training: TrainingConfiguration,
    _ course: PretrainingCourse, resuming state: PretrainingState?,
    heldOutLoss: @escaping () throws -> Double
  ) throws {
    self.model = model
    self.course = course
    self.heldOutLoss = heldOutLoss
    let digest = model.tensors.digest
    trainer = try Trainer(
      model, parameters: model.parameters, data: data, configuration: training)
    trainer.modelDigest = digest
    guard let state else { return }
    let shapes = Dictionary(
      uniqueKeysWithValues: model.parameters.map { ($0.name, $0.shape) })
    guard state.best.map({ $0.mapValues(\.shape) == shapes }) ?? true else {
      throw PeatError.badData(
        "The saved state can't be resumed: it is of another model. Give the same options as before, or start again without --resume."
      )
    }
    try trainer.resume(state.trainer)
    facts = state.facts
    best = state.best.map { $0.copied() }
  }

  private func save(in folder: URL, seconds: Double) throws {
    var facts = facts
    facts.seconds = seconds
    let (written, best) = (facts, best)
    try trainer.save(
      in: folder,
      others: [
        PretrainingState.factsName: { try JSONFile.write(written, to: $0) },
        PretrainingState.bestName: best.map { best in { try SafeTensors.write(best, to: $0) } },
      ])
  }

  private func measure(_ onEvent: (Pretraining.Event) -> Void) throws -> Double {
    let loss = try heldOutLoss()
    if loss < facts.bestLoss ?? .infinity {
      (facts.bestLoss, facts.bestStep) = (loss, trainer.step)
      // A small set is soon learned by heart, and then the loss rises.
      best = model.tensors.copied()
    }
    onEvent(.heldOut(step: trainer.step, loss: loss))
    return loss
  }

  private var hasLevelledOff: Bool {
    guard let now = facts.measured.last, facts.measured.count > course.patience else {
      return false
    }
    let before = facts.measured[facts.measured.count - 1 - course.patience]
    return now > before * (1 - course.levelShare)
  }

  /// Trains to the end.
  ///
  /// - Throws: `interrupted` where it was to stop; the state is saved then, if there is a place for it.
  func run(
    saving: PretrainingSaving?, shouldStop: () -> Bool, onEvent: (Pretraining.Event) -> Void
  ) throws -> Outcome {
    let clock = ContinuousClock()
    let start = clock.now
    let (firstStep, firstTargets, before) = (trainer.step, trainer.tokens, facts.seconds)
    defer { trainer.finish() }
    // The decay must end with the steps: it begins at the latest after four fifths of them.
    let latest = max(1, course.maximumSteps * 4 / 5)
    while facts.decayLeft != 0 {
      if shouldStop() {
        guard let saving else {
          throw PeatError(.interrupted, "Interrupted at step \(trainer.step).")
        }
        try save(in: saving.folder, seconds: before + (clock.now - start).seconds)
        throw PeatError(
          .interrupted,
          "Interrupted at step \(trainer.step). The state is saved; go on with the same command and --resume."
        )
      }
      if let left = facts.decayLeft, let steps = facts.decaySteps {
        trainer.rateFactor = Float(left) / Float(steps)
        facts.decayLeft = left - 1
      }
      let report = try trainer.advance()
      let seconds = (clock.now - start).seconds
      let end = facts.decayLeft.map { trainer.step + $0 } ?? course.maximumSteps
      let perStep = seconds / Double(trainer.step - firstStep)
      onEvent(
        .step(
          trainer.step, of: end, loss: report.loss,
          tokensPerSecond: Double(trainer.tokens - firstTargets) / max(seconds, 1e-9),
          timeLeft: .seconds(perStep * Double(max(end - trainer.step, 0)))))
      if facts.decayLeft == nil {
        if trainer.step % course.measureEvery == 0 {
          facts.measured.append(try measure(onEvent))
          facts.levelledOff = hasLevelledOff
          if facts.levelledOff {
            onEvent(
              .levelledOff(
                step: trainer.step, share: course.levelShare,
                over: course.patience * course.measureEvery))
          }
        }
        if facts.levelledOff || trainer.step >= latest {
          let steps = min(max(1, trainer.step / 4), course.maximumSteps - trainer.step)
          (facts.decayLeft, facts.decaySteps) = (steps, max(steps, 1))
        }
      }
      if let saving, let every = saving.every, trainer.step % every == 0 {
        try save(in: saving.folder, seconds: before + seconds)
      }
    }
    var loss = try measure(onEvent)
    if let weights = best, let step = facts.bestStep, let lowest = facts.bestLoss,
      step < trainer.step
    {
      for parameter in model.parameters {
        if let values = weights[parameter.name] { parameter.assign(values) }
      }
      loss = lowest
      onEvent(.wentBack(toStep: step, loss: loss))
    }
    return Outcome(
      loss: loss, steps: trainer.step, targets: trainer.tokens,
      seconds: before + (clock.now - start).seconds, levelledOff: facts.levelledOff)
  }
}
