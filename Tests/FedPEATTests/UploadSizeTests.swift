import FedPEAT
import TestSupport
import Testing

/// What a device sends in a round, beside sending a whole OPT-1.3B in f16: computed from shapes, and from a step through one block of its size.
@Suite("Size of an upload") struct UploadSizeTests {
  /// OPT-1.3B, of so many blocks and words.
  private func configuration(blocks: Int, vocabulary: Int) throws -> TransformerConfiguration {
    try Architectures.configuration(
      from: ConfigurationFile(
        name: "config.json",
        json: .object([
          "model_type": .string("opt"), "vocab_size": .integer(vocabulary),
          "hidden_size": .integer(2048), "ffn_dim": .integer(8192),
          "num_hidden_layers": .integer(blocks), "num_attention_heads": .integer(32),
          "max_position_embeddings": .integer(2048), "word_embed_proj_dim": .integer(2048),
          "do_layer_norm_before": .bool(true), "activation_function": .string("relu"),
        ])))
  }

  private static func parameters(_ shapes: some Sequence<[Int]>) -> Int {
    shapes.reduce(0) { $0 + $1.reduce(1, *) }
  }

  @Test(arguments: [
    (["q_proj", "v_proj"], "int8", 9000),
    (["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], "int4", 4000),
  ])
  func `an update after a step is a small part of OPT-1.3B in f16`(
    layers: [String], word: String, part: Int
  ) throws {
    let whole = RandomWeights(try configuration(blocks: 24, vocabulary: 50272), seed: 1)
    let parameters = Self.parameters(whole.shapes.values)
    #expect(parameters == 1_315_758_080)

    // The head is the embedding's, so fewer words change nothing of the block.
    let small = try configuration(blocks: 1, vocabulary: 64)
    let model = try TransformerModel(
      configuration: small, weights: RandomWeights(small, seed: 1), storage: .all(.float32),
      source: "OPT-1.3B's block")
    let method = Adapter.Method.lora(try LoRAConfiguration(rank: 8, targetModules: layers))
    let adapter = try Adapter(new: method, for: model, blocks: [0], seed: 1, sourceDigest: nil)
    let injected = try adapter.inject(into: model)
    let tokens = (0..<12).map { Int32($0 * 5) }
    let trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter),
      data: TokenDataset([TokenSequence(tokens)], .stream(context: 8)),
      configuration: TrainingConfiguration(steps: 2, batch: 1, context: 8, learningRate: 1e-3))
    #expect(try trainer.run().isComplete)
    let tuned = injected.state
    injected.remove()
    #expect(tuned != adapter.state)

    let encoding = try UpdateEncoding(word: word)
    let sent = try encoding.encode(tuned, from: adapter.state, seed: 0)
    #expect(4 * sent.count * part <= 2 * parameters, "1/\(2 * parameters / (4 * sent.count))")

    // 2 + 2 blocks in one update, whose names are a little longer.
    var four: [String: [Int]] = [:]
    for (name, tensor) in adapter.state {
      for block in [0, 1, 22, 23] {
        four[name.replacing("layers.0.", with: "layers.\(block).")] = tensor.shape
      }
    }
    #expect(four.count == 4 * adapter.state.count)
    let bytes = encoding.byteCount(four)
    #expect(bytes * part <= 2 * parameters, "1/\(2 * parameters / bytes)")
    #expect(encoding.byteCount(adapter.state.mapValues(\.shape)) == sent.count)
  }
}
