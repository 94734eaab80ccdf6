import Foundation

/// A LoRA training step of a GPT-2-shaped model with random weights: rank 8 on every linear layer of every block.
public final class StepBenchmark {
  private let trainer: Trainer
  private let injected: InjectedAdapter

  /// How the step is computed, where a limit of memory was given.
  public let plan: MemoryPlan?

  /// - Parameter memoryLimit: bytes that the process must stay below; storage and checkpointing are then the least it may
  ///   choose.
  public init(
    layers: Int, batch: Int, context: Int, threads: Int, checkpointing: Bool = false,
    storage: WeightStorage? = nil, memoryLimit: Int? = nil, seed: UInt64 = 0
  ) throws {
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(
        name: "benchmark",
        json: .object([
          "model_type": .string("gpt2"), "vocab_size": .integer(50257), "n_embd": .integer(768),
          "n_layer": .integer(layers), "n_head": .integer(12), "n_positions": .integer(1024),
        ])))
    // A block has 12 · 768² weights.
    try MemoryDemand.check(
      bytes: 4 * Double(layers) * 12 * 768 * 768, for: "A model of \(layers) blocks",
      advice: "Give fewer layers.")
    let lora = try LoRAConfiguration(rank: 8, alpha: 16)
    plan = try memoryLimit.map { limit in
      try MemoryDemands(
        model: configuration, method: .lora(lora), blocks: Array(0..<layers), batch: batch,
        context: context, threads: threads
      ).plan(
        below: limit, storages: storage.map { [$0] } ?? WeightStorage.allCases,
        checkpointing: checkpointing, base: ProcessMeasurement.memoryBytes)
    }
    let model = try TransformerModel(
      configuration: configuration, weights: RandomWeights(configuration, seed: seed),
      storage: .all(plan?.storage ?? storage ?? .float32), source: "benchmark")
    let weights =
      model.blocks.reduce(0) { $0 + $1.linears.reduce(0) { $0 + $1.weight.count } }
      + model.head.count
    gigaflopsPerStep = 4 * Double(weights) * Double(batch * context) / 1e9
    var random = SeededRandom(seed: seed, "benchmark")
    let adapter = try Adapter(
      new: .lora(lora), for: model, blocks: Array(0..<layers),
      seed: seed, sourceDigest: nil)
    injected = try adapter.inject(into: model)
    let tokens = (0..<batch * (context + 1) + 1).map { _ in
      Int32(random.integer(below: configuration.vocabularySize))
    }
    let training = TrainingConfiguration(
      steps: .max, batch: batch, context: context, learningRate: 1e-4,
      checkpointing: checkpointing, order: .uniformWindows, seed: seed, threads: threads)
    trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter),
      data: try TokenDataset([TokenSequence(tokens)], .stream(context: context)),
      configuration: plan.map(training.following) ?? training)
  }

  /// 10⁹ operations of a step in products with frozen weights: forward and to the inputs, per token, twice each weight of
  /// the blocks' linear layers and of the head.
  public let gigaflopsPerStep: Double

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

  /// Random weights of a GPT-2 shape, each made when it is asked for.
  private struct RandomWeights: WeightSource {
    let shapes: [String: [Int]]
    let seed: UInt64

    init(_ configuration: TransformerConfiguration, seed: UInt64) {
      self.seed = seed
      let keys = configuration.keys
      let d = configuration.hiddenSize
      let inner = configuration.feedForwardSize
      var shapes = [keys.embedding: [configuration.vocabularySize, d]]
      if let positions = keys.positions { shapes[positions] = [configuration.contextLength, d] }
      func norm(_ name: String) {
        shapes["\(name).weight"] = [d]
        shapes["\(name).bias"] = [d]
      }
      for block in 0..<configuration.blockCount {
        let prefix = keys.block(block)
        norm("\(prefix).\(keys.attentionNorm)")
        norm("\(prefix).\(keys.feedForwardNorm)")
        for (path, inputs, outputs) in [
          ("attn.c_attn", d, 3 * d), (keys.attentionOutput, d, d), (keys.up, d, inner),
          (keys.down, inner, d),
        ] {
          shapes["\(prefix).\(path).weight"] = [inputs, outputs]
          shapes["\(prefix).\(path).bias"] = [outputs]
        }
      }
      norm(keys.finalNorm)
      self.shapes = shapes
    }

    var names: Set<String> { Set(shapes.keys) }

    func tensor(named name: String) -> Tensor? {
      shapes[name].map { shape in
        if shape.count == 1 {
          return Tensor(repeating: name.hasSuffix("bias") ? 0 : 1, shape: shape)
        }
        var random = SeededRandom(seed: seed, name)
        return .uniform(shape, bound: 0.03, using: &random)
      }
    }
  }
}
