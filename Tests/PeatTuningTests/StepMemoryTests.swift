import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// What a step's activations take in each family, beside what is counted for them.
@Suite("StepMemory") struct StepMemoryTests {
  /// One that learns from each kind of input and has each kind of part.
  static let families = [
    "llama", "llama-classes", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gpt-neox", "opt",
    "opt-norms-behind", "bert-classes", "distilbert-classes", "vit-classes", "deit-classes",
    "clip-classes", "mixer-classes",
  ]

  private let batch = 256

  private func data(_ model: TransformerConfiguration) throws -> TokenDataset {
    var random = SeededRandom(seed: 5)
    if let image = model.image {
      return try TokenDataset(
        pictures: (0..<batch).map { number in
          (randomTensor([image.channels, image.height, image.width], &random), Int32(number % 3))
        }, cut: image)
    }
    func tokens(_ count: Int) -> [Int32] {
      (0..<count).map { _ in Int32(random.integer(below: 50)) }
    }
    guard let head = model.head, head.labels != nil else {
      return try TokenDataset([TokenSequence(tokens(batch * 32 + 1))], .stream(context: 32))
    }
    return try TokenDataset(
      (0..<batch).map { number in
        TokenSequence(
          tokens: tokens(32) + [Int32(number % 3)],
          isTarget: Array(repeating: false, count: 32) + [true])
      }, .classes(context: 32, atFirst: head.place != .last))
  }

  private func check(
    _ name: String, _ method: Adapter.Method?, range: ClosedRange<Double>
  ) throws {
    let model = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("families/\(name)")
    ).model()
    let data = try data(model.configuration)
    for (checkpointing, threads) in [(false, 1), (true, 1), (false, 2)] {
      let blocks = [0, 2]
      let adapter = try method.map {
        try Adapter(new: $0, for: model, blocks: blocks, seed: 1, sourceDigest: nil)
      }
      let injected = try adapter?.inject(into: model)
      let trainer = try Trainer(
        model, parameters: injected?.parameters.map(\.parameter) ?? model.parameters, data: data,
        configuration: TrainingConfiguration(
          steps: 2, batch: batch, context: data.context, learningRate: 1e-4,
          checkpointing: checkpointing, order: .sequential, threads: threads))
      for _ in 0..<2 { _ = try trainer.advance() }
      let demands = MemoryDemands(
        model: model.configuration, method: method, blocks: blocks, batch: batch,
        context: data.context, threads: threads)
      #expect(demands.trainable == adapter?.parameterCount ?? model.parameterCount)
      let counted = demands.activationBytes(
        checkpointing: checkpointing, accumulation: 1, logitRows: trainer.configuration.logitRows)
      let taken = Double(trainer.activationBytes)
      trainer.finish()
      injected?.remove()
      #expect(
        range.contains(counted / taken),
        "\(counted) of \(taken): \(name), \(method?.name ?? "all"), \(checkpointing), \(threads)")
    }
  }

  @Test(arguments: families) func `with a low-rank adapter`(name: String) throws {
    try check(name, .lora(try LoRAConfiguration(rank: 4, alpha: 8)), range: 0.96...1.35)
  }

  @Test(arguments: families) func `with every weight`(name: String) throws {
    try check(name, nil, range: 0.96...1.35)
  }
}
