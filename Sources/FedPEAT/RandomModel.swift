extension TransformerModel {
  /// A model for measurements: GPT-2's smallest shape, random weights, as many blocks as asked for.
  static func random(layers: Int, storage: WeightStorage, seed: UInt64) throws -> TransformerModel {
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
    return try TransformerModel(
      configuration: configuration, weights: RandomWeights(configuration, seed: seed),
      storage: .all(storage), source: "benchmark")
  }
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
