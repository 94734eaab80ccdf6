import Foundation

/// A LoRA training step of a GPT-2-shaped model with random weights: rank 8 on every linear layer of every block.
public final class StepBenchmark {
  private let trainer: Trainer
  private let injected: InjectedAdapter

  public init(
    layers: Int, batch: Int, context: Int, threads: Int, checkpointing: Bool = false,
    storage: WeightStorage = .float32, seed: UInt64 = 0
  ) throws {
    let model = try TransformerModel.random(layers: layers, storage: storage, seed: seed)
    let weights =
      model.blocks.reduce(0) { $0 + $1.linears.reduce(0) { $0 + $1.weight.count } }
      + model.head.count
    gigaflopsPerStep = 4 * Double(weights) * Double(batch * context) / 1e9
    var random = SeededRandom(seed: seed, "benchmark")
    let adapter = try Adapter(
      new: .lora(LoRAConfiguration(rank: 8, alpha: 16)), for: model, blocks: Array(0..<layers),
      seed: seed, sourceDigest: nil)
    injected = try adapter.inject(into: model)
    let tokens = (0..<batch * (context + 1) + 1).map { _ in
      Int32(random.integer(below: model.configuration.vocabularySize))
    }
    trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter),
      data: try TokenDataset([TokenSequence(tokens)], .stream(context: context)),
      configuration: TrainingConfiguration(
        steps: .max, batch: batch, context: context, learningRate: 1e-4,
        checkpointing: checkpointing, order: .uniformWindows, seed: seed, threads: threads))
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
}
