import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Memory of a step of a model with an encoder") struct EncoderDecoderMemoryTests {
  /// A T5 of random weights, wide enough for its activations to be what counts.
  private func model() throws -> TransformerModel {
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(
        name: "config.json",
        json: .object(
          ["model_type": JSONValue.string("t5")].merging(
            [
              "vocab_size": 500, "d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 3,
              "num_decoder_layers": 3, "num_heads": 4,
            ].mapValues { .integer($0) }
          ) { $1 })))
    var random = SeededRandom(seed: 2)
    var tensors: NamedTensors = [
      configuration.keys.embedding: .normal([500, 128], deviation: 1, using: &random)
    ]
    for norm in ["encoder", "decoder"] {
      tensors["\(norm).final_layer_norm.weight"] = Tensor(repeating: 1, shape: [128])
      tensors["\(norm).block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = .normal(
        [32, 4], deviation: 1, using: &random)
    }
    for number in 0..<configuration.blockCount {
      let keys = configuration.keys.ofBlock(number)
      for matrix in configuration.matrices(ofBlock: number) {
        tensors[matrix.name] = .normal(
          [matrix.outputs, matrix.inputs], deviation: 0.05, using: &random)
      }
      for norm in [keys.attentionNorm, keys.cross?.norm, keys.feedForwardNorm].compactMap({ $0 }) {
        tensors["\(keys.block(number)).\(norm).weight"] = Tensor(repeating: 1, shape: [128])
      }
    }
    return try TransformerModel(
      configuration: configuration, tensors: tensors, source: "random")
  }

  /// Pairs in which a share of the tokens is the source's.
  private func data(_ share: Double) throws -> TokenDataset {
    var random = SeededRandom(seed: 3)
    func some(_ count: Int) -> [Int32] {
      (0..<count).map { _ in Int32(random.integer(below: 500)) }
    }
    let source = max(1, Int(128 * share) - 1)
    return try TokenDataset(
      (0..<8).map { _ in TokenSequence(source: some(source), start: 0, target: some(128 - source))
      },
      .pairs(context: 128))
  }

  @Test(arguments: [0.02, 0.5, 0.98], [false, true])
  func `is no more than what was planned`(share: Double, checkpointing: Bool) throws {
    // With checkpointing of little but sources, by as much as is given back early.
    try check(
      .lora(try LoRAConfiguration(rank: 8, alpha: 16)), share, checkpointing,
      known: checkpointing ? 1.3 : 1.12, possible: 2.5)
  }

  /// Nothing trains in the encoder then, so that what is kept of sources is less than the plan takes it for, and a batch of sources is far from the largest.
  @Test(arguments: [0.02, 0.5, 0.98], [false, true])
  func `nor is it with a prefix`(share: Double, checkpointing: Bool) throws {
    try check(
      .prefixTuning(try VirtualTokenConfiguration(virtualTokens: 20)), share, checkpointing,
      known: checkpointing ? 1.4 : 1.2, possible: 4)
  }

  /// - Parameters:
  ///   - known: how much more the plan for the data's own pairs may be than what was taken.
  ///   - possible: how much more that for any pairs.
  private func check(
    _ method: Adapter.Method, _ share: Double, _ checkpointing: Bool, known most: Double,
    possible: Double
  ) throws {
    for blocks in [Array(0..<6), [0, 5]] {
      let model = try model()
      let adapter = try Adapter(new: method, for: model, blocks: blocks, seed: 1, sourceDigest: nil)
      let injected = try adapter.inject(into: model)
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: try data(share),
        configuration: TrainingConfiguration(
          steps: 2, batch: 8, context: 128, checkpointing: checkpointing, threads: 2))
      while !trainer.isFinished { _ = try trainer.advance() }
      let demands = MemoryDemands(
        model: model.configuration, method: method, blocks: blocks, batch: 8, context: 128,
        threads: 2)
      let planned = demands.activationBytes(
        checkpointing: checkpointing, accumulation: 1, logitRows: 512)
      var own = demands
      own.pairs = try data(share).largestPairs
      let known = own.activationBytes(
        checkpointing: checkpointing, accumulation: 1, logitRows: 512)
      let found = Double(trainer.activationBytes)
      trainer.finish()
      #expect(found <= 1.04 * planned, "\(found) of \(planned)")
      #expect(planned <= possible * found, "\(found) of \(planned)")
      #expect(
        (0.97...most).contains(known / found),
        "\(known) for \(found), \(share), \(blocks), \(checkpointing)")
    }
  }
}
