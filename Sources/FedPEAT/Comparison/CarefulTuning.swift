import Foundation

/// Tuning as somebody does it who has nothing to measure on but texts held back of its own: the weights are kept as they were when those were predicted best, which may be
/// before the first step.
struct CarefulTuning {
  /// At most.
  var steps: Int
  var learningRate: Float
  var schedule = LearningRateSchedule()
  /// How often on the way it is measured.
  var checks: Int
  /// Ends after so many steps that brought nothing; `nil`: never.
  var patience: Int?

  /// Texts of which a part is held back.
  struct Texts {
    let training: TokenDataset
    let validation: TokenDataset

    /// - Parameter name: of the texts, for errors.
    init(_ data: TokenDataset, holdingBack share: Double, for trial: TuningTrial, _ name: String)
      throws
    {
      (training, validation) = try trial.named(name) {
        try data.split(validationShare: share, seed: trial.settings.seed)
      }
    }
  }

  struct Outcome {
    /// That were made, and those after which the weights were kept.
    var steps: Int
    var keptStep: Int
    /// Mean nats per token of what was held back, with what was kept.
    var loss: Double
  }
}

extension TuningTrial {
  /// Tunes weights of a model on some texts; see `CarefulTuning`. Where a rate makes numbers of no size the best moment before is what there is.
  ///
  /// - Parameter name: of this part of the work.
  func tune(
    _ model: TransformerModel, _ parameters: [Parameter], on texts: CarefulTuning.Texts,
    _ tuning: CarefulTuning, _ name: String
  ) throws -> CarefulTuning.Outcome {
    var best = (
      step: 0, loss: try loss(model, on: texts.validation),
      values: parameters.map { $0.tensor.copied() }
    )
    var configuration = settings.training
    configuration.steps = tuning.steps
    configuration.learningRate = tuning.learningRate
    configuration.schedule = tuning.schedule
    let trainer = try Trainer(
      model, parameters: parameters, data: texts.training, configuration: configuration)
    defer { trainer.finish() }
    let interval = max(1, tuning.steps / tuning.checks)
    func isInVain() -> Bool {
      tuning.patience.map { trainer.step - best.step > $0 } ?? false
    }
    do {
      let outcome = try trainer.run(
        shouldStop: { shouldStop() || isInVain() },
        onStep: { progress in
          let step = progress.report.step
          if step % interval == 0 || step == progress.steps {
            let loss = try loss(model, on: texts.validation)
            if loss < best.loss { best = (step, loss, parameters.map { $0.tensor.copied() }) }
          }
          onStep(name, progress)
        })
      guard outcome.isComplete || isInVain() else { throw PeatError(.interrupted, "Interrupted.") }
    } catch let error as PeatError where error.code == .badData && trainer.step > 0 {
      // Diverged: this rate is too high.
    }
    let steps = trainer.step
    trainer.finish()
    for (parameter, value) in zip(parameters, best.values) { parameter.assign(value) }
    return .init(steps: steps, keptStep: best.step, loss: best.loss)
  }
}
