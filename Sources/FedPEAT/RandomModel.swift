import Foundation

/// The shapes of models that measurements are made with.
public enum BenchmarkShape: String, Sendable, CaseIterable {
  /// GPT-2's smallest: width 768, 12 heads, vocabulary 50257.
  case gpt2
  /// Llama's with grouped heads: width 576, feed-forward 1536, 9 heads on 3, vocabulary 49152.
  case llama

  /// config.json of a model of so many blocks.
  private func json(layers: Int) -> [String: JSONValue] {
    switch self {
    case .gpt2:
      [
        "model_type": .string("gpt2"), "vocab_size": .integer(50257), "n_embd": .integer(768),
        "n_layer": .integer(layers), "n_head": .integer(12), "n_positions": .integer(1024),
      ]
    case .llama:
      [
        "model_type": .string("llama"), "vocab_size": .integer(49152),
        "hidden_size": .integer(576), "intermediate_size": .integer(1536),
        "num_hidden_layers": .integer(layers), "num_attention_heads": .integer(9),
        "num_key_value_heads": .integer(3), "max_position_embeddings": .integer(1024),
        "rms_norm_eps": .number(1e-5), "tie_word_embeddings": .bool(true),
      ]
    }
  }

  func configuration(layers: Int) throws -> TransformerConfiguration {
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(name: "benchmark", json: .object(json(layers: layers))))
    try MemoryDemand.check(
      bytes: 4 * Double(layers) * Double(configuration.blockMatrixWeights),
      for: "A model of \(layers) blocks", advice: "Give fewer layers.")
    return configuration
  }

  /// Writes a model of so many blocks with random weights.
  public func write(layers: Int, seed: UInt64, to folder: URL) throws {
    try CheckpointWriter.write(
      to: folder,
      tensors: try TransformerModel.random(self, layers: layers, storage: .float32, seed: seed)
        .tensors, configuration: .object(json(layers: layers)))
  }
}

extension TransformerModel {
  /// A model for measurements: random weights of a shape, as many blocks as asked for.
  static func random(
    _ shape: BenchmarkShape = .gpt2, layers: Int, storage: WeightStorage, seed: UInt64
  ) throws -> TransformerModel {
    let configuration = try shape.configuration(layers: layers)
    return try TransformerModel(
      configuration: configuration, weights: RandomWeights(configuration, seed: seed),
      storage: .all(storage), source: "benchmark")
  }
}

/// Random weights of a shape, each made when it is asked for.
package struct RandomWeights: WeightSource {
  package let shapes: [String: [Int]]
  let seed: UInt64

  package init(_ configuration: TransformerConfiguration, seed: UInt64) {
    self.seed = seed
    shapes = Dictionary(
      uniqueKeysWithValues: configuration.tensors.map { ($0.name, $0.shape) })
  }

  package var names: Set<String> { Set(shapes.keys) }

  package func tensor(named name: String) -> Tensor? {
    shapes[name].map { shape in
      if shape.count == 1 {
        return Tensor(repeating: name.hasSuffix("bias") ? 0 : 1, shape: shape)
      }
      var random = SeededRandom(seed: seed, name)
      return .uniform(shape, bound: 0.03, using: &random)
    }
  }
}
