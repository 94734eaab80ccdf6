import Foundation

/// A task to try emulators on: texts to tune an adapter on, texts to measure it on, and how it is tuned.
public struct TuningTrial: Sendable {
  public struct Settings: Sendable, Codable, Equatable {
    public var steps = 100
    public var batch = 8
    public var context = 256
    public var learningRate: Float = 1e-3
    /// LoRA's rank and α, in all linear layers of both ends.
    public var rank = 8
    public var alpha = 16.0
    /// On the states behind an emulator's middle while an adapter is tuned through it.
    public var stateNoise = 0.3
    /// How documents are laid into windows, and whether they begin with the begin token; measured on their own where they do not follow each other as a stream.
    public var layout = LocalTuning.Layout.stream
    public var bos: Bool?
    public var seed: UInt64 = 0
    public var threads = 1

    public init() {}

    public func validate(contextLength: Int) throws {
      try training.validate(contextLength: contextLength)
      _ = try LoRAConfiguration(rank: rank, alpha: alpha)
    }

    var training: TrainingConfiguration {
      var training = TrainingConfiguration(
        steps: steps, batch: batch, context: context, learningRate: learningRate,
        optimizer: .init(weightDecay: 0), seed: seed, threads: threads)
      if layout == .stream { training.order = .uniformWindows }
      return training
    }
  }

  public let settings: Settings
  let full: TransformerModel
  let sourceDigest: Digest
  private let tokenizer: Tokenizer
  private let training: TokenDataset
  private let heldOut: [Document]
  private let measure: PerplexityMeasure
  private let shouldStop: @Sendable () -> Bool
  private let onStep: @Sendable (String, Trainer.Progress) -> Void

  /// - Parameters:
  ///   - task: texts to tune on, such as those of devices.
  ///   - heldOut: of the same kind, to measure on.
  ///   - onStep: where the work stands, with the name of its part.
  public init(
    _ source: Checkpoint, full: TransformerModel, task: [Document], heldOut: [Document],
    settings: Settings, shouldStop: @escaping @Sendable () -> Bool = { false },
    onStep: @escaping @Sendable (String, Trainer.Progress) -> Void = { _, _ in }
  ) throws {
    try settings.validate(contextLength: source.configuration.contextLength)
    self.settings = settings
    self.full = full
    sourceDigest = source.digest()
    tokenizer = try Tokenizer(folder: source.folder)
    training = try TokenDataset.make(
      task, tokenizer: tokenizer, layout: settings.layout, context: settings.context,
      addBegin: settings.bos)
    self.heldOut = heldOut
    measure = try PerplexityMeasure(
      context: settings.context, threads: settings.threads, model: full)
    self.shouldStop = shouldStop
    self.onStep = onStep
  }

  /// Perplexity, with an adapter where one is given.
  ///
  /// - Parameter documents: the held out texts if not given.
  public func perplexity(
    _ model: TransformerModel, with adapter: Adapter? = nil, on documents: [Document]? = nil
  ) throws -> Double {
    let model = try adapter == nil ? model : model.sharingWeights()
    let injected = try adapter?.inject(into: model)
    defer { injected?.remove() }
    return try measure.report(
      model, tokenizer: tokenizer, documents: (documents ?? heldOut).map(\.text),
      asDocuments: settings.layout != .stream, addBegin: settings.bos ?? tokenizer.addsBeginToken,
      shouldStop: shouldStop
    ).perplexity
  }

  /// An adapter in both ends of a model, tuned on the task.
  ///
  /// - Parameters:
  ///   - model: the full one or an emulator's; it is not changed.
  ///   - name: of this part of the work.
  public func adapter(
    through model: TransformerModel, ends: [Int], stateNoise: Double = 0, _ name: String
  ) throws -> Adapter {
    var adapter = try newAdapter(ends)
    let model = try model.sharingWeights()
    let injected = try adapter.inject(into: model)
    defer { injected.remove() }
    var configuration = settings.training
    configuration.stateNoise = stateNoise
    try tune(
      model, injected.parameters.map(\.parameter), on: training, configuration, name)
    adapter.state = injected.state
    return adapter
  }

  /// Perplexity of the full model with all its weights tuned on the task.
  public func fullFineTuning() throws -> Double {
    let copy = try TransformerModel(
      configuration: full.configuration, tensors: full.tensors.copied(), source: "the full model")
    try tune(copy, copy.parameters, on: training, settings.training, "full fine-tuning")
    return try perplexity(copy)
  }

  /// Texts as windows.
  func dataset(_ documents: [Document]) throws -> TokenDataset {
    try TokenDataset.make(
      documents, tokenizer: tokenizer, layout: settings.layout, context: settings.context,
      addBegin: settings.bos)
  }

  /// Says in an error of which texts it tells.
  func named<Result>(_ name: String, _ body: () throws -> Result) throws -> Result {
    do { return try body() } catch let error as PeatError {
      throw PeatError(error.code, "\(name): \(error.message)", cause: error)
    }
  }

  /// Texts of which a fifth is held back.
  struct HeldBack {
    let training: TokenDataset
    let validation: TokenDataset

    /// - Parameter name: of the texts, for errors.
    init(_ documents: [Document], for trial: TuningTrial, _ name: String) throws {
      (training, validation) = try trial.named(name) {
        try trial.dataset(documents).split(validationShare: 0.2, seed: trial.settings.seed)
      }
    }
  }

  /// Tunes weights of a model on texts, so often over all of them, with a rate that falls along a cosine.
  ///
  /// - Parameter name: of this part of the work.
  func tune(
    _ model: TransformerModel, _ parameters: [Parameter], on data: TokenDataset, epochs: Int,
    learningRate: Float, _ name: String
  ) throws {
    var configuration = settings.training
    configuration.schedule = .init(.cosine)
    configuration.steps = max(
      1, epochs * ((data.windowCount + settings.batch - 1) / settings.batch))
    configuration.learningRate = learningRate
    try tune(model, parameters, on: data, configuration, name)
  }

  /// Tunes weights of a model on some texts as somebody does who has no others: the weights are kept as they were when what was held back was predicted
  /// best, which may be before the first step. Ends when a quarter of the steps brought nothing.
  ///
  /// - Parameter steps: at most.
  func tuneCarefully(
    _ model: TransformerModel, _ parameters: [Parameter], on texts: HeldBack, steps: Int,
    _ name: String
  ) throws {
    func loss() throws -> Double {
      try texts.validation.meanLoss(model, rows: settings.batch, threads: settings.threads)
    }
    var best = (step: 0, loss: try loss(), values: parameters.map { $0.tensor.copied() })
    var configuration = settings.training
    configuration.steps = steps
    let trainer = try Trainer(
      model, parameters: parameters, data: texts.training, configuration: configuration)
    defer { trainer.finish() }
    let interval = max(1, steps / 40)
    func isInVain() -> Bool { trainer.step - best.step > max(10, steps / 4) }
    let outcome = try trainer.run(
      shouldStop: { shouldStop() || isInVain() },
      onStep: { progress in
        let step = progress.report.step
        if step % interval == 0 {
          let loss = try loss()
          if loss < best.loss { best = (step, loss, parameters.map { $0.tensor.copied() }) }
        }
        onStep(name, progress)
      })
    guard outcome.isComplete || isInVain() else { throw PeatError(.interrupted, "Interrupted.") }
    trainer.finish()
    for (parameter, value) in zip(parameters, best.values) { parameter.assign(value) }
  }

  private func newAdapter(_ ends: [Int]) throws -> Adapter {
    try Adapter(
      new: .lora(try LoRAConfiguration(rank: settings.rank, alpha: settings.alpha)), for: full,
      blocks: ends, seed: settings.seed, sourceDigest: sourceDigest)
  }

  private func tune(
    _ model: TransformerModel, _ parameters: [Parameter], on data: TokenDataset,
    _ configuration: TrainingConfiguration, _ name: String
  ) throws {
    let trainer = try Trainer(
      model, parameters: parameters, data: data, configuration: configuration)
    defer { trainer.finish() }
    let outcome = try trainer.run(shouldStop: shouldStop, onStep: { onStep(name, $0) })
    guard outcome.isComplete else { throw PeatError(.interrupted, "Interrupted.") }
  }
}
