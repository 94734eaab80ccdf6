import Foundation
import Synchronization

/// The model owner's side: the full model, and what is measured with it.
///
/// Adapters are put into the full model one at a time: all that touches the model passes one gate, on a thread of its
/// own.
final class ModelOwner: Sendable {
  let checkpoint: Checkpoint
  let model: TransformerModel
  let reader: InputReader
  let digest: Digest
  let configuration: RunConfiguration
  let evaluation: [Document]?
  private let pooled: [Document]?
  let onEvent: @Sendable (FederatedTuning.Event) -> Void
  /// One at a time.
  private let gate = WorkGate(limit: 1)
  /// Whether the work under way is to stop, because its task was cancelled.
  private let shouldStop = Atomic(false)

  init(
    _ configuration: RunConfiguration, evaluation: [Document]?, pooled: [Document]?,
    onEvent: @escaping @Sendable (FederatedTuning.Event) -> Void
  ) throws {
    let own = try Checkpoint(folder: configuration.modelFolder())
    let configuration = try configuration.sayingTask(of: own.configuration)
    self.configuration = configuration
    self.evaluation = evaluation
    self.pooled = pooled
    self.onEvent = onEvent
    checkpoint = try Self.checkpoint(own, configuration, (evaluation ?? []) + (pooled ?? []))
    model = try checkpoint.model()
    reader = try InputReader(folder: checkpoint.folder, for: checkpoint.configuration)
    digest = checkpoint.digest()
    let virtualTokens = try configuration.adapterMethod().virtualTokens
    try model.configuration.checkRoom(forVirtualTokens: virtualTokens)
    try configuration.training(steps: 1, rate: configuration.learningRate, seed: 0)
      .validate(
        contextLength: model.configuration.contextLength,
        virtualTokens: virtualTokens)
    if model.blocks.enumerated().contains(where: { $0 != $1.numberInFullModel }) {
      throw PeatError.badData(
        "'\(configuration.model)' is an emulator; a federation starts from the full model.")
    }
  }

  /// The full model's folder; with a head of the task's classes, where it has none.
  private static func checkpoint(
    _ own: Checkpoint, _ configuration: RunConfiguration, _ documents: [Document]
  ) throws -> Checkpoint {
    guard configuration.task == .classification else {
      try own.configuration.requireLearnableHead()
      try configuration.task?.check(own.configuration, named: configuration.model)
      return own
    }
    let ownLabels = configuration.newHead ? nil : own.configuration.head?.labels
    guard configuration.labels != nil || ownLabels != nil || !documents.isEmpty else {
      throw PeatError.usage(
        "The head of classes is to be made anew, and nothing says for which: give 'labels: [good, bad]', or evaluationData with a class of each text."
      )
    }
    let labels =
      try configuration.labels ?? ownLabels ?? ClassificationTask.labels(of: documents)
    return try own.classifying(
      labels, seed: configuration.seed, head: configuration.newHead ? .drawn : .kept)
  }

  var hasEvaluation: Bool { evaluation != nil }
  var isToStop: Bool { shouldStop.load(ordering: .relaxed) }

  /// Runs work that uses the full model, apart from the pool that serves connections.
  func onThread<Result: Sendable>(
    _ work: @escaping @Sendable (ModelOwner) throws -> Result
  ) async throws -> Result {
    try await gate.run {
      shouldStop.store(false, ordering: .relaxed)
      return try await withTaskCancellationHandler {
        try await runOnThread { try work(self) }
      } onCancel: {
        shouldStop.store(true, ordering: .relaxed)
      }
    }
  }

  /// Documents as the run lays them into windows.
  func dataset(_ documents: [Document], context: Int? = nil) throws -> TokenDataset {
    try TokenDataset.make(
      documents, reader: reader, for: model.configuration, layout: configuration.layout,
      context: context ?? configuration.context, addBegin: configuration.bos,
      seed: configuration.seed)
  }

  // MARK: What is measured

  /// Of the full model, with an adapter plugged in if one is given.
  func quality(_ adapter: Adapter?) throws -> Double {
    guard let adapter else { return try quality(of: model) }
    let plugged = try PlugIn(adapter, into: model, digest: digest)
    defer { plugged.remove() }
    return try orInfinite { try quality(of: model) }
  }

  /// Where an adapter makes a model give no numbers its perplexity is infinite: it is no better than any other, and no reason for a run to end.
  private func orInfinite(_ measure: () throws -> Double) throws -> Double {
    do { return try measure() } catch let error as PeatError where error.cause is NoPerplexity {
      return .infinity
    }
  }

  /// Of an emulator with an adapter.
  func quality(of emulator: TransformerModel, with adapter: Adapter) throws -> Double {
    let injected = try adapter.inject(into: emulator)
    defer { injected.remove() }
    return try orInfinite { try quality(of: emulator) }
  }

  /// Of a model on some documents, those of the evaluation if not given.
  func quality(
    of model: TransformerModel, on documents: [Document]? = nil
  ) throws -> Double {
    let documents = documents ?? evaluation ?? []
    let context = min(configuration.context, model.contextLength)
    if configuration.metric == .accuracy {
      return try ClassificationMeasure(threads: configuration.threadCount).report(
        model, dataset(documents, context: context),
        shouldStop: { self.shouldStop.load(ordering: .relaxed) }
      ).accuracy
    }
    if configuration.metric == .maskedPerplexity {
      return try MaskedTokenMeasure(threads: configuration.threadCount).report(
        model, dataset(documents, context: context),
        shouldStop: { self.shouldStop.load(ordering: .relaxed) }
      ).maskedPerplexity
    }
    let measure = try PerplexityMeasure(
      context: configuration.context, threads: configuration.threadCount, model: model)
    let asDocuments = configuration.evaluateDocuments
    let tokenizer = try reader.tokenizer
    return try measure.report(
      model, tokenizer: tokenizer, documents: documents, asDocuments: asDocuments,
      addBegin: configuration.bos,
      shouldStop: { self.shouldStop.load(ordering: .relaxed) }
    ).perplexity
  }

  /// Mean loss in nats, as planners' learning models look at it: of each target, such as a class; with an adapter plugged in if one is given.
  func loss(_ adapter: Adapter?) throws -> Double {
    guard configuration.metric == .accuracy else { return naturalLogarithm(try quality(adapter)) }
    let plugged = try adapter.map { try PlugIn($0, into: model, digest: digest) }
    defer { plugged?.remove() }
    let context = min(configuration.context, model.contextLength)
    return try dataset(evaluation ?? [], context: context).loss(
      model, rows: configuration.batch, threads: configuration.threadCount,
      shouldStop: { self.shouldStop.load(ordering: .relaxed) }
    ).mean
  }

  /// Measures one of the numbers, or notes that there is no text to measure it on.
  func measure(
    _ name: FiveNumberName, of emulator: String? = nil, _ numbers: inout FiveNumbers,
    _ work: @escaping @Sendable (ModelOwner) throws -> Double
  ) async throws {
    guard evaluation != nil else {
      numbers.notMeasured[name.rawValue] =
        "no text to evaluate on was given (evaluationData)"
      return
    }
    onEvent(.measuring(name, of: emulator))
    let value = try await onThread(work)
    numbers[name] = value
    onEvent(.measured(name, of: emulator, value))
  }

  // MARK: The server's own part

  /// Tunes through the full middle on the server's own data, which is read and encoded here.
  func serverTrainer(_ settings: LocalTuning) throws -> DeviceTrainer {
    let documents = try configuration.documents(
      in: URL(fileURLWithPath: configuration.serverData ?? ""))
    // A model of its own, sharing the weights: evaluation plugs adapters into the other one.
    let own = try model.sharingWeights()
    // One at a time: a part that came too late may still be ending when the next begins.
    let trainer = DeviceTrainer(
      documents: documents, model: own, reader: reader, threads: configuration.threadCount,
      gate: WorkGate(limit: 1))
    try trainer.encode(for: settings)
    return trainer
  }

  // MARK: Comparisons

  /// Full fine-tuning and, where asked for, the same method without compression.
  func compare(
    _ numbers: inout FiveNumbers, method: Adapter.Method, ends: [Int]
  ) async throws {
    if configuration.fullFineTuning {
      numbers.notMeasured[FiveNumberName.fullFineTuning.rawValue] = nil
      try await compare(.fullFineTuning, &numbers) { owner, documents in
        try owner.fineTuned(on: documents)
      }
    } else {
      numbers.notMeasured[FiveNumberName.fullFineTuning.rawValue] =
        "not asked for (fullFineTuning: false)"
    }
    if configuration.fullModelAdapter {
      try await compare(.fullModelAdapter, &numbers) { owner, documents in
        try owner.tuned(
          method, blocks: Array(owner.model.blocks.indices), on: documents, .fullModelAdapter)
      }
    }
    if configuration.endBlocksThroughFullMiddle {
      try await compare(.endBlocksThroughFullMiddle, &numbers) { owner, documents in
        try owner.tuned(method, blocks: ends, on: documents, .endBlocksThroughFullMiddle)
      }
    }
  }

  private func compare(
    _ name: FiveNumberName, _ numbers: inout FiveNumbers,
    _ work: @escaping @Sendable (ModelOwner, [Document]) throws -> Double
  ) async throws {
    guard let pooled else {
      numbers.notMeasured[name.rawValue] =
        "what the clients tune on is not known here; `serve --reference-data FILE` names all their texts, where somebody has them"
      return
    }
    do { try await measure(name, &numbers) { try work($0, pooled) } } catch let error
      as PeatError where error.code != .interrupted
    {
      // The run itself is done; that this one could not be had is part of its result.
      numbers.notMeasured[name.rawValue] = error.message
    }
  }

  /// The metric after all of the model was tuned on the documents. The model itself is not changed.
  private func fineTuned(on documents: [Document]) throws -> Double {
    let copy = try model.sharingWeights()
    return try tune(
      copy, copy.parameters, documents, rate: configuration.fullFineTuningRate, .fullFineTuning)
  }

  /// The metric after the method was used on some blocks of the uncompressed model.
  private func tuned(
    _ method: Adapter.Method, blocks: [Int], on documents: [Document], _ name: FiveNumberName
  ) throws -> Double {
    let copy = try model.sharingWeights()
    let adapter = try Adapter(
      new: method, for: copy, blocks: blocks, seed: configuration.seed, sourceDigest: digest)
    let injected = try adapter.inject(into: copy)
    return try tune(
      copy, injected.parameters.map(\.parameter), documents, rate: configuration.learningRate, name)
  }

  private func tune(
    _ copy: TransformerModel, _ parameters: [Parameter], _ documents: [Document], rate: Float,
    _ name: FiveNumberName
  ) throws -> Double {
    let steps = configuration.comparisonStepCount
    let dataset = try dataset(documents)
    let trainer = try Trainer(
      copy, parameters: parameters, data: dataset,
      configuration: configuration.training(
        steps: steps, rate: rate, course: configuration.schedule, seed: configuration.seed))
    defer { trainer.finish() }
    let outcome = try trainer.run(
      shouldStop: { shouldStop.load(ordering: .relaxed) },
      onStep: { progress in
        onEvent(
          .comparing(
            name, step: progress.report.step, steps: progress.steps,
            rate: progress.rate, unit: progress.unit, timeLeft: progress.timeLeft))
      })
    if !outcome.isComplete { throw CancellationError() }
    return try quality(of: copy)
  }
}
