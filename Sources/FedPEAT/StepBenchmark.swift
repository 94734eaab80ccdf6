import Foundation

/// Training steps of a model with random weights.
public final class StepBenchmark {
  /// What is tuned, and how.
  public struct Setting: Sendable {
    public var shape = BenchmarkShape.gpt2
    public var layers = 12
    /// Blocks with LoRA of rank 8 on every linear layer; `nil`: all of them. Ignored where all weights train.
    public var adapterBlocks: [Int]?
    /// Whether every weight trains, instead of an adapter.
    public var isFull = false
    public var batch = 4
    public var context = 256
    public var threads = 1
    public var checkpointing = false
    public var storage: WeightStorage?
    /// Bytes that the process must stay below; storage and checkpointing are then the least it may choose.
    public var memoryLimit: Int?
    /// Whether the same windows come again and again, and frozen blocks' states are kept in so many bytes.
    public var prefixCacheBytes = 0
    public var seed: UInt64 = 0

    public init() {}

    func demands() throws -> MemoryDemands {
      var demands = MemoryDemands(
        model: try shape.configuration(layers: layers),
        method: isFull ? nil : .lora(try LoRAConfiguration(rank: 8, alpha: 16)),
        blocks: adapterBlocks ?? Array(0..<layers), batch: batch, context: context,
        threads: threads)
      // Nothing is saved.
      demands.adapterCopies = 1
      return demands
    }

    /// The largest batch whose step stays below so many bytes without giving anything up; 0 where none does.
    public func largestBatch(below limit: Int) throws -> Int {
      var demands = try demands()
      let base = ProcessMeasurement.memoryBytes
      var batch = 0
      while batch < 4096 {
        demands.batch = batch + 1
        let bytes = demands.bytes(
          storage: .float32, checkpointing: false, accumulation: 1,
          logitRows: MemoryDemands.usualLogitRows(checkpointing: checkpointing), base: base)
        if bytes > limit { break }
        batch += 1
      }
      return batch
    }
  }

  private let trainer: Trainer
  private let injected: InjectedAdapter?

  /// How the step is computed, where a limit of memory was given.
  public let plan: MemoryPlan?

  public init(_ setting: Setting) throws {
    let demands = try setting.demands()
    plan = try setting.memoryLimit.map { limit in
      try demands.plan(
        below: limit, storage: setting.storage,
        checkpointing: setting.checkpointing, base: ProcessMeasurement.memoryBytes)
    }
    let model = try TransformerModel.random(
      setting.shape, layers: setting.layers,
      storage: plan?.storage ?? setting.storage ?? .float32, seed: setting.seed)
    let parameters: [Parameter]
    if setting.isFull {
      injected = nil
      parameters = model.parameters
    } else {
      let adapter = try Adapter(
        probing: model, ends: setting.adapterBlocks ?? Array(0..<setting.layers),
        seed: setting.seed)
      let injected = try adapter.inject(into: model)
      self.injected = injected
      parameters = injected.parameters.map(\.parameter)
    }
    var random = SeededRandom(seed: setting.seed, "benchmark")
    let tokens = (0..<setting.batch * setting.context + 1).map { _ in
      Int32(random.integer(below: model.configuration.vocabularySize))
    }
    let training = TrainingConfiguration(
      steps: .max, batch: setting.batch, context: setting.context, learningRate: 1e-4,
      checkpointing: setting.checkpointing, prefixCacheBytes: setting.prefixCacheBytes,
      order: .sequential, seed: setting.seed, threads: setting.threads)
    trainer = try Trainer(
      model, parameters: parameters,
      data: try TokenDataset([TokenSequence(tokens)], .stream(context: setting.context)),
      configuration: plan.map(training.following) ?? training)
    gigaflopsPerStep =
      Self.operations(model.configuration, setting) * Double(setting.batch * setting.context) / 1e9
  }

  /// 10⁹ operations of a step in products with the weights of the blocks' linear layers and of the head.
  public let gigaflopsPerStep: Double

  private static func operations(
    _ model: TransformerConfiguration, _ setting: Setting
  ) -> Double {
    let first = setting.isFull ? 0 : setting.adapterBlocks?.min() ?? 0
    return model.stepOperations(
      firstTrained: first, keepsPrefix: setting.prefixCacheBytes > 0,
      trainsAll: setting.isFull)
  }

  /// How much more arithmetic a step in one setting is than in another, for as many tokens.
  public static func operationsRatio(of first: Setting, to second: Setting) -> Double {
    func operations(_ setting: Setting) -> Double {
      (try? setting.shape.configuration(layers: setting.layers)).map {
        Self.operations($0, setting)
      } ?? .nan
    }
    return operations(first) / operations(second)
  }

  /// Bytes of the frozen blocks' states that are kept.
  public var prefixCacheBytes: Int { trainer.prefixCacheBytes }

  /// Seconds per step, over some steps.
  public func run(steps: Int) throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    for _ in 0..<steps { _ = try trainer.advance() }
    return (clock.now - start).seconds / Double(steps)
  }

  /// Seconds of processor time in a step by part, all threads together; what belongs to none is under `other`.
  public func breakdown(steps: Int) throws -> [String: Double] {
    trainer.startProfile()
    let before = ProcessMeasurement.processorSeconds
    _ = try run(steps: steps)
    let total = ProcessMeasurement.processorSeconds - before
    var parts = Dictionary(
      uniqueKeysWithValues: trainer.profile.map { ($0.key.rawValue, $0.value / Double(steps)) })
    parts["other"] = max(0, total / Double(steps) - parts.values.reduce(0, +))
    return parts
  }
}
