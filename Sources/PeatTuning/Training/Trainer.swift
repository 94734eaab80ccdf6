import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor

/// Tunes some parameters of a model, step by step.
///
/// One step: draw a batch, give each worker its share of the rows, forward and backward, join the gradients once, clip,
/// update with AdamW. Same seed, data and number of threads: the same bits.
public final class Trainer {
  public let configuration: TrainingConfiguration
  private let model: TransformerModel
  private let trainable: TrainableParameters
  private let workers: StepWorkers
  private var sampler: BatchSampler
  private let prefix: PrefixCache?
  private let objective: (any TrainingObjective)?
  private var optimizer: AdamW
  /// What is added to each gradient.
  public private(set) var terms: GradientTerms?
  /// Digest of the model that is tuned, where somebody says it: a saved state goes on with no other.
  public var modelDigest: Digest?
  /// What is tuned, for a state to be refused by another; `nil`: it is not compared.
  public var method: Adapter.Method?
  /// Steps made.
  public private(set) var step = 0
  /// Predictions so far: tokens, or classes of examples.
  public private(set) var tokens = 0
  /// Time that the steps of all runs took, in seconds.
  public internal(set) var seconds = 0.0
  /// What is predicted.
  public let unit: Unit
  /// Losses of the last steps: a tenth of them, at most 20.
  private(set) var recentLosses: [Double] = []
  /// What the scheduled learning rate is multiplied with, for courses that depend on what is measured on the way.
  public var rateFactor: Float = 1

  /// What a step did.
  public struct StepReport: Sendable {
    /// Steps made, this one included.
    public let step: Int
    /// Mean nats per predicted token, before the update.
    public let loss: Double
    public let learningRate: Float
    /// Norm of the gradient before clipping.
    public let gradientNorm: Double
    public let tokens: Int
  }

  /// Takes the parameters for training; `finish()` gives them back.
  ///
  /// - Parameter objective: what is made small; `nil`: the loss of the data's targets, such as each next token.
  public init(
    _ model: TransformerModel, parameters: [Parameter], data: TokenDataset,
    configuration: TrainingConfiguration, objective: (any TrainingObjective)? = nil
  ) throws {
    try configuration.validate(
      contextLength: model.configuration.contextLength, virtualTokens: model.virtualTokens,
      allowsNoSteps: true)
    try data.check(for: model.configuration)
    try MemoryDemands(
      of: model, tuning: parameters, configuration, isRagged: data.arrangement.isByDocument,
      sequencesPerWindow: model.prompt == nil ? 1 : data.mostSequencesInWindow,
      pairs: data.largestPairs,
      sharesGradient: objective?.sharesGradient ?? false
    ).check(configuration, weightBytes: model.byteCount)
    self.model = model
    self.configuration = configuration
    self.objective = objective
    unit = if case .classes = data.arrangement { .examples } else { .tokens }
    trainable = TrainableParameters(parameters)
    workers = StepWorkers(
      count: configuration.threads, parameterCount: trainable.count,
      sharesGradient: objective?.sharesGradient ?? false)
    // Of windows that start anywhere, or whose tokens are hidden anew, no two are the same.
    let isFixed =
      data.masking == nil
      && (configuration.order != .uniformWindows || data.arrangement.isByDocument)
    prefix =
      objective == nil && configuration.stateNoise == 0 && configuration.prefixCacheBytes > 0
        && isFixed && model.frozenBlocks > 0
      ? PrefixCache(blockCount: model.frozenBlocks, limit: configuration.prefixCacheBytes) : nil
    sampler = BatchSampler(
      data, configuration.order, rows: configuration.batch, seed: configuration.seed)
    optimizer = AdamW(count: trainable.count, settings: configuration.optimizer)
  }

  /// Memory that activations and gradients on their way took at most, in bytes.
  package var activationBytes: Int { workers.activationBytes }

  /// Bytes that cached states of the frozen blocks take.
  public var prefixCacheBytes: Int { prefix?.byteCount ?? 0 }
  public var trainableCount: Int { trainable.count }
  public var isFinished: Bool { step >= configuration.steps }

  /// Adds terms to each gradient from now on; their start is where the parameters are now.
  public func add(_ terms: GradientTerms) {
    var terms = terms
    terms.begin(at: trainable.values)
    self.terms = terms
  }

  /// What AdamW remembers of the parameters that it steps, one behind the other: it can go on with it in another trainer of the same ones.
  public struct Moments: Sendable {
    /// Names of the parameters, as their model has them.
    public let parameters: [String]
    /// How many steps it has counted.
    public let steps: Int
    public let first: Tensor
    public let second: Tensor

    public init(parameters: [String], steps: Int, first: Tensor, second: Tensor) {
      self.parameters = parameters
      (self.steps, self.first, self.second) = (steps, first, second)
    }
  }

  /// The moments as they are now.
  public var moments: Moments {
    Moments(
      parameters: trainable.parameters.map(\.name), steps: optimizer.steps,
      first: optimizer.firstMoment.copied(), second: optimizer.secondMoment.copied())
  }

  /// Goes on with another trainer's moments; where they are of other parameters nothing is done.
  public func goOn(with moments: Moments) {
    guard moments.parameters == trainable.parameters.map(\.name),
      moments.first.count == trainable.count, moments.second.count == trainable.count
    else { return }
    optimizer = AdamW(
      resuming: configuration.optimizer, steps: moments.steps, firstMoment: moments.first,
      secondMoment: moments.second)
  }

  /// Makes one step.
  ///
  /// - Throws: `badData` where the loss is no longer a number; the parameters are then as they were before the step.
  public func advance() throws -> StepReport {
    let (loss, norm) = differentiate(isStep: true)
    let gradient = workers.gradient
    guard loss.sum.isFinite, norm.isFinite else {
      // Nothing was changed yet that could have been too much.
      if step == 0 {
        throw PeatError.badData(
          "The model computes a loss of \(loss.mean) with a gradient of norm \(norm) before the first step: its weights are damaged, or the adapter that tuning starts from diverged."
        )
      }
      throw PeatError.badData(
        "Tuning diverged at step \(step + 1): the loss is \(loss.mean), the gradient's norm \(norm). "
          + "Try a lower learning rate than \(configuration.learningRate), or clip gradients.")
    }
    if let limit = configuration.clipNorm, norm > Double(limit) {
      PeatTensor.scale(trainable.count, gradient, by: Float(Double(limit) / (norm + 1e-6)))
    }
    let rate =
      configuration.learningRate * rateFactor
      * configuration.schedule.factor(at: step, of: configuration.steps)
    workers.measured(.optimizer) {
      switch configuration.rule {
      case nil, .adam: optimizer.update(trainable, gradient: gradient, learningRate: rate)
      case .sgd: optimizer.descend(trainable, gradient: gradient, learningRate: rate)
      }
      objective?.restrain()
    }
    step += 1
    tokens += loss.count
    recentLosses.append(loss.mean)
    recentLosses.removeFirst(
      max(0, recentLosses.count - max(1, min(20, configuration.steps / 10))))
    return StepReport(
      step: step, loss: loss.mean, learningRate: rate, gradientNorm: norm, tokens: tokens)
  }

  /// Loss and gradient of the next batch; the gradient is then the first worker's, and its norm is returned.
  private func differentiate(isStep: Bool) -> (loss: TokenLoss, norm: Double) {
    let batch = sampler.next()
    workers.zeroGradient()
    let scale = 1 / Float(max(batch.targetCount, 1))
    var loss = TokenLoss(sum: 0, count: 0)
    for part in split(batch.windowCount, into: configuration.accumulation) {
      loss = loss + gradients(of: batch, windows: part, scale: scale)
    }
    let norm = workers.measured(.optimizer) {
      workers.joinGradients()
      terms?.add(to: workers.gradient, at: trainable.values, isStep: isStep)
      return squaredNorm(trainable.count, workers.gradient).squareRoot()
    }
    return (loss, norm)
  }

  /// The gradient of the next batch with respect to all that trains, one parameter after the other; nothing is changed.
  public func gradient() -> [Float] {
    _ = differentiate(isStep: false)
    return Array(UnsafeBufferPointer(start: workers.gradient, count: trainable.count))
  }

  /// On the states behind the last block in which nothing trains, other noise in each step.
  private var noise: StateNoise? {
    guard configuration.stateNoise > 0, let place = model.placeBehindFrozen else { return nil }
    return StateNoise(
      place: place, share: configuration.stateNoise,
      seed: configuration.seed &+ UInt64(step) &* 0x9E37_79B9_7F4A_7C15)
  }

  private func gradients(
    of batch: TokenBatch, windows: Range<Int>, scale: Float
  ) -> TokenLoss {
    let model = model
    let configuration = configuration
    let objective = objective
    let noise = noise
    let step = step
    let states = prefix.map {
      (cache: $0.blockCount, tensors: $0.states(for: batch, windows: windows, model, workers))
    }
    return workers.run(
      batch.layout.part(batch.places(ofWindows: windows)),
      wholeSequences: model.configuration.needsWholeSequences
    ) { tape, layout in
      tape.dropoutPlace = DropoutPlace(
        seed: configuration.seed, step: step, firstRow: layout.rows.lowerBound)
      return batch.withInputs { inputs in
        batch.targets.withUnsafeBufferPointer { targets in
          let targets = UnsafeBufferPointer(rebasing: targets[layout.rows])
          if let objective {
            return objective.loss(
              inputs[layout.rows], targets: targets, layout: layout,
              scale: scale, on: tape)
          }
          guard let states else {
            return model.loss(
              inputs[layout.rows], targets: targets, layout: layout,
              scale: scale, on: tape, checkpointing: configuration.checkpointing,
              logitRows: configuration.logitRows, noise: noise)
          }
          let hidden = model.hiddenStates(
            from: states.cache,
            batch.rows(
              layout.rows, of: states.tensors, fromWindow: windows.lowerBound, on: tape),
            layout: layout, on: tape, checkpointing: configuration.checkpointing)
          return model.loss(
            of: hidden, targets: targets, scale: scale, on: tape,
            logitRows: configuration.logitRows)
        }
      }
    }
  }

  /// Measures from now on where the processor time of a step goes.
  package func startProfile() { workers.startProfile() }

  /// Seconds of processor time by part since then, all workers together.
  package var profile: [StepProfile.Part: Double] { workers.profile }

  /// Gives back the memory that only a step needs, such as for a while in which something else is done; the next step takes it anew.
  public func rest() { workers.release() }

  /// Ends training: the parameters keep their values and are frozen again.
  public func finish() {
    workers.release()
    trainable.release()
  }
}

// MARK: Interrupting and resuming

extension Trainer {
  /// What a run needs, besides model and data, to go on to the same bits.
  public struct State: Sendable {
    struct Facts: Codable, Sendable {
      var formatVersion = 1
      var step: Int
      var tokens: Int
      var configuration: TrainingConfiguration
      var sampler: BatchSampler.State
      var parameters: [String]
      var modelDigest: Digest?
      /// The method and its options, as `Adapter.Method.settings`.
      var method: JSONValue?
      /// How frozen matrices were kept: others give other numbers.
      var storage: WeightStorage?
      /// What was made small; `nil`: the loss of predicting each next token.
      var objective: String?
      /// Of the last steps; `nil` in states from before they were kept, as all that follows.
      var recentLosses: [Double]?
      /// Steps that AdamW counts: more than these where it went on with another trainer's moments.
      var optimizerSteps: Int?
      var seconds: Double?
      /// How many gradients `gradientSum` is of.
      var gradientCount: Int?
    }

    let facts: Facts
    let tensors: NamedTensors
    /// What `GradientTerms` sums up, where they do.
    let gradientSum: [Double]?

    public var step: Int { facts.step }
    public var configuration: TrainingConfiguration { facts.configuration }
    public var storage: WeightStorage { facts.storage ?? .float32 }

    /// The two files of a saved state, by name.
    public static let names = [factsName, tensorsName]
    public static let factsName = "training_state.json"
    public static let tensorsName = "training_state.safetensors"
    private static let gradientSumName = "gradient_sum"

    /// Writes the state's files into a folder, each whole or not at all.
    public func write(to folder: URL) throws {
      let raw = gradientSum.map { sum in
        SafeTensors.Raw("F64", [sum.count], sum.withUnsafeBytes { Data($0) })
      }
      try SafeTensors.write(
        tensors, raw: raw.map { [State.gradientSumName: $0] } ?? [:],
        to: folder.appendingPathComponent(State.tensorsName), as: { _ in .float32 },
        metadata: ["step": String(facts.step)])
      try JSONFile.write(facts, to: folder.appendingPathComponent(State.factsName))
    }

    /// Whether the folder holds a state.
    public static func exists(in folder: URL) -> Bool {
      FileManager.default.fileExists(atPath: folder.appendingPathComponent(factsName).path)
    }

    public init(readFrom folder: URL) throws {
      let url = folder.appendingPathComponent(State.factsName)
      facts = try JSONFile.read(Facts.self, from: url)
      guard facts.formatVersion == 1 else {
        throw PeatError.badData(
          "'\(url.path)' has formatVersion \(facts.formatVersion); this program reads 1.")
      }
      let file = try SafeTensorsFile(contentsOf: folder.appendingPathComponent(State.tensorsName))
      guard file.metadata["step"] == String(facts.step) else {
        throw PeatError.badData(
          "The saved state in '\(folder.path)' is of two different steps. Delete it and start again."
        )
      }
      tensors = try file.names.filter { $0 != State.gradientSumName }.reduce(into: [:]) {
        $0[$1] = try file.tensor(named: $1)
      }
      gradientSum = try State.gradientSum(in: file)
    }

    private static func gradientSum(in file: SafeTensorsFile) throws -> [Double]? {
      guard let entry = file.entries[gradientSumName] else { return nil }
      guard entry.dtype == "F64", entry.shape.count == 1 else {
        throw PeatError.badData(
          "'\(file.url.path)' has a \(gradientSumName) of type \(entry.dtype) and shape \(entry.shape); one row of F64 was expected."
        )
      }
      return file.withBytes(of: entry) { bytes in
        (0..<entry.shape[0]).map { bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Double.self) }
      }
    }

    init(facts: Facts, tensors: NamedTensors, gradientSum: [Double]?) {
      self.facts = facts
      self.tensors = tensors
      self.gradientSum = gradientSum
    }
  }

  public var state: State { state { $0.copied() } }

  /// - Parameter keep: what becomes of a tensor that the next step changes.
  func state(_ keep: (Tensor) -> Tensor) -> State {
    State(
      facts: State.Facts(
        step: step, tokens: tokens, configuration: configuration, sampler: sampler.state,
        parameters: trainable.parameters.map(\.name), modelDigest: modelDigest,
        method: method.flatMap { try? $0.settings },
        storage: model.storage, objective: objective?.name, recentLosses: recentLosses,
        optimizerSteps: optimizer.steps, seconds: seconds, gradientCount: terms?.sum?.count),
      tensors: [
        "values": keep(trainable.values), "first_moment": keep(optimizer.firstMoment),
        "second_moment": keep(optimizer.secondMoment),
      ], gradientSum: terms?.sum?.values)
  }

  /// Goes on where a state was saved. Terms that gradients get are added before, and are the same: their start is not kept.
  ///
  /// - Throws: `badData` where the state belongs to other parameters, data or settings; nothing is changed then.
  public func resume(_ state: State) throws {
    func refuse(_ what: String) -> PeatError {
      .badData(
        "The saved state can't be resumed: \(what). Give the same model, data and settings as before, or start "
          + "again without --resume.")
    }
    var settings = state.facts.configuration
    settings.steps = configuration.steps
    guard settings == configuration else {
      let differences = try JSONValue(encoding: configuration)
        .differences(from: JSONValue(encoding: settings))
      throw refuse(
        "the settings differ from those it was saved with (\(differences.joined(separator: "; ")))")
    }
    guard
      state.facts.configuration.steps == configuration.steps
        || configuration.schedule.course == .constant
    else { throw refuse("the schedule depends on the number of steps, which differs") }
    guard state.facts.parameters == trainable.parameters.map(\.name) else {
      throw refuse("it is for other parameters")
    }
    if let modelDigest, let saved = state.facts.modelDigest, saved != modelDigest {
      throw refuse("it is for another model, with digest \(saved.short)")
    }
    if let method, let saved = state.facts.method, let what = try method.difference(from: saved) {
      throw refuse("the method's options differ (\(what))")
    }
    guard state.storage == model.storage else {
      throw refuse(
        "its frozen weights were kept as \(state.storage.rawValue), these are \(model.storage.rawValue)"
      )
    }
    guard state.facts.objective == objective?.name else {
      throw refuse("it was for another objective")
    }
    guard let values = state.tensors["values"], let first = state.tensors["first_moment"],
      let second = state.tensors["second_moment"],
      [values, first, second].allSatisfy({ $0.shape == [trainable.count] })
    else { throw refuse("its tensors do not fit \(trainable.count) parameters") }
    guard state.facts.step >= 0, state.facts.tokens >= 0, state.facts.optimizerSteps ?? 0 >= 0
    else { throw refuse("it counts negative steps") }
    let sum = GradientTerms.Sum(
      values: state.gradientSum ?? [], count: state.facts.gradientCount ?? 0)
    guard terms?.sum?.values.count ?? 0 == sum.values.count, sum.count >= 0 else {
      throw refuse("it sums up gradients in another way")
    }
    let drawing = state.facts.sampler
    guard
      (drawing.order, drawing.rows, drawing.seed)
        == (configuration.order, configuration.batch, configuration.seed)
    else { throw refuse("its batches are drawn in another way than its settings say") }
    sampler = try BatchSampler(sampler.dataset, resuming: state.facts.sampler)
    trainable.values.withUnsafeMutableBufferPointer { target in
      values.withUnsafeBufferPointer { source in _ = target.update(from: source) }
    }
    optimizer = AdamW(
      resuming: configuration.optimizer, steps: state.facts.optimizerSteps ?? state.facts.step,
      firstMoment: first, secondMoment: second)
    if !sum.values.isEmpty { terms?.sum = sum }
    for tensor in state.tensors.values { tensor.releasePages() }
    recentLosses = state.facts.recentLosses ?? []
    step = state.facts.step
    tokens = state.facts.tokens
    seconds = state.facts.seconds ?? 0
  }
}

extension TokenBatch {
  /// Some places' rows of matrices that each belong to a window.
  fileprivate func rows(
    _ places: Range<Int>, of windows: [Tensor], fromWindow first: Int, on tape: Tape
  ) -> Activation {
    let width = windows.first?.shape[1] ?? 0
    let result = tape.makeActivation(rows: places.count, columns: width, needsGradient: false)
    for (number, tensor) in windows.enumerated() {
      let window = self.places(ofWindows: first + number..<first + number + 1)
      let shared = window.clamped(to: places)
      if shared.isEmpty { continue }
      (result.pointer + (shared.lowerBound - places.lowerBound) * width).update(
        from: tensor.pointer + (shared.lowerBound - window.lowerBound) * width,
        count: shared.count * width)
    }
    return result
  }
}
