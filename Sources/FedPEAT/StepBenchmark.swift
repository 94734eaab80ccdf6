import Foundation

/// A LoRA training step of a GPT-2-shaped model with random weights: rank 8 on every linear layer of every block.
public final class StepBenchmark {
  private let trainer: Trainer
  private let injected: InjectedAdapter

  public init(
    layers: Int, batch: Int, context: Int, threads: Int, checkpointing: Bool = false,
    seed: UInt64 = 0
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
    var random = SeededRandom(seed: seed, "benchmark")
    let model = try TransformerModel(
      configuration: configuration, tensors: StepBenchmark.tensors(configuration, &random),
      source: "benchmark")
    let adapter = try Adapter(
      new: .lora(LoRAConfiguration(rank: 8, alpha: 16)), for: model, blocks: Array(0..<layers),
      seed: seed, sourceDigest: nil)
    injected = try adapter.inject(into: model)
    let tokens = (0..<batch * (context + 1) + 1).map { _ in
      Int32(random.integer(below: configuration.vocabularySize))
    }
    trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter),
      data: try TokenDataset([TokenSequence(tokens)], .stream(context: context)),
      configuration: TrainingConfiguration(
        steps: .max, batch: batch, context: context, learningRate: 1e-4,
        checkpointing: checkpointing, order: .uniformWindows, seed: seed, threads: threads))
  }

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

  private static func tensors(
    _ configuration: TransformerConfiguration, _ random: inout SeededRandom
  ) -> NamedTensors {
    let keys = configuration.keys
    let d = configuration.hiddenSize
    let inner = configuration.feedForwardSize
    var tensors: NamedTensors = [
      keys.embedding: .uniform([configuration.vocabularySize, d], bound: 0.03, using: &random)
    ]
    if let positions = keys.positions {
      tensors[positions] = .uniform([configuration.contextLength, d], bound: 0.03, using: &random)
    }
    func norm(_ name: String) {
      tensors["\(name).weight"] = Tensor(repeating: 1, shape: [d])
      tensors["\(name).bias"] = Tensor(zeros: [d])
    }
    for block in 0..<configuration.blockCount {
      let prefix = keys.block(block)
      norm("\(prefix).\(keys.attentionNorm)")
      norm("\(prefix).\(keys.feedForwardNorm)")
      for (path, inputs, outputs) in [
        ("attn.c_attn", d, 3 * d), (keys.attentionOutput, d, d), (keys.up, d, inner),
        (keys.down, inner, d),
      ] {
        tensors["\(prefix).\(path).weight"] = .uniform(
          [inputs, outputs], bound: 0.03, using: &random)
        tensors["\(prefix).\(path).bias"] = Tensor(zeros: [outputs])
      }
    }
    norm(keys.finalNorm)
    return tensors
  }
}
