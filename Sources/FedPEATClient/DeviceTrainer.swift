import Foundation
import Synchronization

/// Tunes the adapter on a device's own data, through the emulator that the coordinator sent.
///
///     let trainer = DeviceTrainer(documents: try DocumentReader.read(url))
///     let client = try Client(configuration, connection: connection, trainer: trainer, workFolder: folder)
///     let report = try await client.run()
public final class DeviceTrainer: LocalTrainer {
  private let documents: [Document]
  private let threads: Int
  private let memory: DeviceMemory
  private let gate: WorkGate?
  private let computeShare: Double
  private let keeping: StateKeeping.Interval
  private let onGoingOn: @Sendable (_ step: Int, _ steps: Int) -> Void
  private let onStep: @Sendable (Trainer.Progress) -> Void
  private let onCut: @Sendable (CutTexts) -> Void
  private let state: Mutex<Prepared?>

  /// What is tuned through: a model, or a checkpoint that is read when it is known how it will be tuned.
  private enum Source: Sendable {
    case model(TransformerModel)
    case folder(URL)
  }

  /// Texts that are longer than what is read of them.
  public struct CutTexts: Sendable, Equatable {
    public var count: Int
    /// Of how many.
    public var total: Int
    /// Tokens that are read at most, a text's first.
    public var context: Int
  }

  /// What a coordinator sent, with its tokenizer; and the data, once it has been encoded for it.
  private struct Prepared: Sendable {
    var source: Source
    var configuration: TransformerConfiguration
    var plan: MemoryPlan?
    var reader: InputReader
    var encoded: (settings: EncodingSettings, dataset: TokenDataset)?
  }

  private struct EncodingSettings: Equatable {
    var layout: LocalTuning.Layout
    var context: Int
    var addBegin: Bool?
  }

  /// - Parameters:
  ///   - documents: the device's data. It never leaves this object.
  ///   - threads: how many threads a step uses; part of what makes a result repeatable.
  ///   - memory: how much memory may be taken, and how frozen weights are kept.
  ///   - gate: lets only so many trainers of this process work at a time; `nil`: no limit.
  ///   - computeShare: how much of the time it works, above 0 and up to 1: after each step it rests, to stay cool or leave room.
  ///   - keeping: when it keeps how far it is with a task, where its client does; and always when it is stopped.
  ///   - onStep: called after each local step.
  ///   - onGoingOn: called where a training that was cut goes on, with the steps that are done, and all of them.
  ///   - onCut: called where texts are longer than what is read of them, once the data is encoded.
  public init(
    documents: [Document], threads: Int = 1, memory: DeviceMemory = DeviceMemory(),
    gate: WorkGate? = nil, computeShare: Double = 1,
    keeping: StateKeeping.Interval = .time(.seconds(10)),
    onStep: @escaping @Sendable (Trainer.Progress) -> Void = { _ in },
    onGoingOn: @escaping @Sendable (_ step: Int, _ steps: Int) -> Void = { _, _ in },
    onCut: @escaping @Sendable (CutTexts) -> Void = { _ in }
  ) {
    self.documents = documents
    self.threads = threads
    self.memory = memory
    self.gate = gate
    self.computeShare = min(max(computeShare, 0.001), 1)
    self.keeping = keeping
    self.onGoingOn = onGoingOn
    self.onStep = onStep
    self.onCut = onCut
    state = Mutex(nil)
  }

  /// A trainer for a model that is already here: the server's own part, through the full model.
  public convenience init(
    documents: [Document], model: TransformerModel, reader: InputReader, threads: Int = 1,
    gate: WorkGate? = nil, onStep: @escaping @Sendable (Trainer.Progress) -> Void = { _ in }
  ) {
    self.init(documents: documents, threads: threads, gate: gate, onStep: onStep)
    state.withLock {
      $0 = Prepared(
        source: .model(model), configuration: model.configuration, reader: reader)
    }
  }

  public func check(outline folder: URL, level: Int, for task: TrainingTask) async throws {
    let settings = try task.decodeSettings(as: LocalTuning.self)
    try memory.check(folder, level: level, for: settings, threads: threads)
  }

  public func prepare(package folder: URL, level: Int) async throws {
    // Weights are read with the first task; what is wrong with the files is found now.
    let checkpoint = try Checkpoint(folder: folder)
    try memory.check(checkpoint, threads: threads)
    let reader = try InputReader(folder: folder, for: checkpoint.configuration)
    state.withLock {
      $0 = Prepared(
        source: .folder(folder), configuration: checkpoint.configuration, reader: reader)
    }
  }

  /// What the cores can do at most is not what training reaches: about half of it, and less where it rests.
  public func measureCompute() async -> Double? {
    let (threads, share) = (threads, computeShare)
    return try? await runOnThread {
      0.5e9 * PeakMeasurement.gigaflops(threads: threads, seconds: 0.05) * share
    }
  }

  public func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    try await train(task, adapter: adapter, carried: [:], unfinished: nil) { _ in }
  }

  public func train(
    _ task: TrainingTask, adapter: NamedTensors, carried: NamedTensors,
    unfinished: UnfinishedTraining?, onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> LocalResult {
    let cancelled = Atomic(false)
    return try await withTaskCancellationHandler {
      guard let gate else {
        return try await runOnThread {
          try self.tune(task, adapter, carried, unfinished, cancelled, onStep)
        }
      }
      return try await gate.run {
        try await runOnThread {
          try self.tune(task, adapter, carried, unfinished, cancelled, onStep)
        }
      }
    } onCancel: {
      cancelled.store(true, ordering: .relaxed)
    }
  }

  private func tune(
    _ task: TrainingTask, _ tensors: NamedTensors, _ carried: NamedTensors,
    _ unfinished: UnfinishedTraining?, _ cancelled: borrowing Atomic<Bool>,
    _ onProgress: @Sendable (Int) -> Void
  ) throws -> LocalResult {
    let settings = try task.decodeSettings(as: LocalTuning.self)
    guard settings.method.name == task.method else {
      throw PeatError.badData(
        "The coordinator's task is for the method '\(task.method)', its instructions for '\(settings.method.name)'."
      )
    }
    let (model, dataset, plan) = try prepared(for: settings)
    var configuration = plan.map(settings.training.following) ?? settings.training
    configuration.seed = task.seed
    configuration.threads = threads
    try configuration.follow(task)
    let controls = tensors.controls
    let tensors = tensors.withoutControls
    let injected = try Adapter(method: settings.method, state: tensors, sourceDigest: nil)
      .inject(into: model, trainedRank: task.trainedRank)
    defer { injected.remove() }
    let trained = injected.parameters.filter {
      !(settings.freezesDown && LowRankNames.layer(ofDown: $0.name) != nil)
    }
    let trainer = try Trainer(
      model, parameters: trained.map(\.parameter), data: dataset, configuration: configuration)
    defer { trainer.finish() }
    try trainer.addTerms(of: settings, trained, controls)
    let keepsMoments = settings.keepsMoments ?? false
    if keepsMoments, let kept = Trainer.Moments(carried, of: trained) { trainer.goOn(with: kept) }
    if let unfinished, trainer.goOn(with: unfinished) {
      onGoingOn(trainer.step, configuration.steps)
    }
    let clock = ContinuousClock()
    var stepStart = clock.now
    let outcome = try trainer.run(
      keeping: unfinished.map(keep),
      shouldStop: { cancelled.load(ordering: .relaxed) },
      onStep: { progress in
        onStep(progress)
        onProgress(progress.report.step)
        guard computeShare < 1 else { return }
        let rest = (clock.now - stepStart) * (1 / computeShare - 1)
        let end = clock.now + rest
        while clock.now < end, !cancelled.load(ordering: .relaxed) {
          Thread.sleep(forTimeInterval: min(0.1, max((end - clock.now).seconds, 0)))
        }
        stepStart = clock.now
      })
    if !outcome.isComplete { throw CancellationError() }
    let names = Set(trained.map(\.name))
    var results = injected.state.widened(from: tensors).filter { names.contains($0.key) }
    if let mean = trainer.terms?.meanGradient {
      results = results.settingControls(trained.tensors(of: mean))
    }
    var result = LocalResult(
      tensors: results,
      exampleCount: dataset.windowCount,
      metrics: ["loss": outcome.finalLoss], computeSeconds: trainer.seconds,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes, tokens: trainer.tokens)
    if keepsMoments { result.carried = trainer.moments.tensors(of: trained) }
    return result
  }

  /// Where there is no room, training goes on all the same: it is begun anew if it is cut.
  private func keep(_ unfinished: UnfinishedTraining) -> StateKeeping {
    StateKeeping(every: keeping) { trainer in
      try? unfinished.keep { try trainer.write(to: $0) }
    }
  }

  /// Encodes the data now instead of with the first task. Throws where it can't be tuned on.
  package func encode(for settings: LocalTuning) throws { _ = try prepared(for: settings) }

  /// The model, the data encoded for it, and how a step is computed; reading and encoding are done once.
  private func prepared(
    for settings: LocalTuning
  ) throws -> (TransformerModel, TokenDataset, MemoryPlan?) {
    var cut: CutTexts?
    defer { if let cut { onCut(cut) } }
    return try state.withLock { state in
      guard var prepared = state else {
        throw PeatError(.internalError, "A task came before its emulator.")
      }
      if case .folder = prepared.source {
        // The instructions come from outside.
        try settings.training.validate(
          contextLength: prepared.configuration.contextLength,
          virtualTokens: settings.method.virtualTokens)
      }
      // The data first: what it takes is there already when memory is planned.
      let wanted = EncodingSettings(
        layout: settings.layout, context: settings.training.context, addBegin: settings.addBegin)
      let dataset: TokenDataset
      if let encoded = prepared.encoded, encoded.settings == wanted {
        dataset = encoded.dataset
      } else {
        dataset = try settings.dataset(
          documents, reader: prepared.reader, for: prepared.configuration)
        prepared.encoded = (wanted, dataset)
        if dataset.shortenedDocuments > 0 {
          cut = CutTexts(
            count: dataset.shortenedDocuments, total: dataset.documentCount,
            context: wanted.context)
        }
        ProcessMeasurement.releaseFreeMemory()
      }
      let model: TransformerModel
      switch prepared.source {
      case .model(let ready): model = ready
      case .folder(let folder):
        (model, prepared.plan) = try memory.open(
          folder, for: settings, sequencesPerWindow: dataset.mostSequencesInWindow,
          pairs: dataset.largestPairs,
          threads: threads)
        prepared.source = .model(model)
      }
      state = prepared
      return (model, dataset, prepared.plan)
    }
  }
}

/// Runs long work on a thread of its own, so that the pool that serves connections stays free.
package func runOnThread<Result: Sendable>(
  _ work: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    let thread = Thread { continuation.resume(with: Swift.Result(catching: work)) }
    // Deep recursion does not occur, but BLAS keeps buffers on the stack.
    thread.stackSize = 8 << 20
    thread.start()
  }
}

extension TrainingConfiguration {
  /// Takes over what the coordinator says of this client's part in a round.
  ///
  /// - Throws: `badData` where that can't be.
  fileprivate mutating func follow(_ task: TrainingTask) throws {
    if let count = task.localSteps {
      guard (1...1_000_000_000).contains(count) else {
        throw PeatError.badData("The coordinator asks for \(count) local steps.")
      }
      steps = count
    }
    if let scale = task.learningRateScale {
      guard scale > 0, scale <= 1000 else {
        throw PeatError.badData("The coordinator multiplies the learning rate with \(scale).")
      }
      learningRate *= Float(scale)
    }
  }
}

extension Trainer {
  /// Goes on where the same task was cut; where what is kept of it fits no more, as the data or the threads are others, it begins at the start.
  ///
  /// - Returns: whether it goes on.
  fileprivate func goOn(with unfinished: UnfinishedTraining) -> Bool {
    guard let folder = unfinished.restored() else { return false }
    do {
      try resume(State(readFrom: folder))
      return true
    } catch {
      unfinished.forget()
      return false
    }
  }

  /// Adds what the coordinator's instructions say of gradients.
  ///
  /// - Throws: `badData` where control variates do not fit what trains.
  fileprivate func addTerms(
    of settings: LocalTuning, _ trained: [NamedParameter], _ controls: NamedTensors
  ) throws {
    let mu = settings.proximal ?? 0
    guard mu >= 0, mu <= 1e6 else {
      throw PeatError.badData("The coordinator's proximal term has the strength \(mu).")
    }
    var shift: [Float]?
    if settings.usesControls ?? false {
      shift = try trained.flatMap { name, parameter in
        guard let control = controls[name], control.shape == parameter.shape else {
          throw PeatError.badData(
            "The control variate of '\(name)' has the shape \(controls[name]?.shape ?? []), \(parameter.shape) trains. By scaffold a device trains the whole rank."
          )
        }
        return control.scalars
      }
    }
    guard mu > 0 || shift != nil else { return }
    add(GradientTerms(proximal: Float(mu), shift: shift))
  }
}
