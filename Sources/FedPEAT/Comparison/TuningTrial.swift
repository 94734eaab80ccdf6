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
  /// Where the model predicts each next token; else it says masked ones.
  private let measure: PerplexityMeasure?
  let shouldStop: @Sendable () -> Bool
  let onStep: @Sendable (String, Trainer.Progress) -> Void

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
      task, reader: .texts(tokenizer), for: full.configuration, layout: settings.layout,
      context: settings.context,
      addBegin: settings.bos, seed: settings.seed)
    self.heldOut = heldOut
    measure =
      full.configuration.predictsMaskedTokens
      ? nil
      : try PerplexityMeasure(
        context: settings.context, threads: settings.threads, model: full)
    self.shouldStop = shouldStop
    self.onStep = onStep
  }

  /// Perplexity, or masked perplexity, with an adapter where one is given.
  ///
  /// - Parameter documents: the held out texts if not given.
  public func perplexity(
    _ model: TransformerModel, with adapter: Adapter? = nil, on documents: [Document]? = nil
  ) throws -> Double {
    let model = try adapter == nil ? model : model.sharingWeights()
    let injected = try adapter?.inject(into: model)
    defer { injected?.remove() }
    guard let measure else {
      return try MaskedTokenMeasure(threads: settings.threads).report(
        model, try dataset(documents ?? heldOut), shouldStop: shouldStop
      ).maskedPerplexity
    }
    return try measure.report(
      model, tokenizer: tokenizer, documents: documents ?? heldOut,
      asDocuments: settings.layout != .stream, addBegin: settings.bos,
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
      documents, reader: .texts(tokenizer), for: full.configuration, layout: settings.layout,
      context: settings.context,
      addBegin: settings.bos, seed: settings.seed)
  }

  /// Says in an error of which texts it tells.
  func named<Result>(_ name: String, _ body: () throws -> Result) throws -> Result {
    do { return try body() } catch let error as PeatError {
      throw PeatError(error.code, "\(name): \(error.message)", cause: error)
    }
  }

  /// Mean nats per token of texts.
  func loss(_ model: TransformerModel, on texts: TokenDataset) throws -> Double {
    try texts.meanLoss(model, rows: settings.batch, threads: settings.threads)
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
