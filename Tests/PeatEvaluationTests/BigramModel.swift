import PeatModels
import PeatTensor
import PeatTokenizers

/// A model whose predictions depend on the last token alone, with probabilities that can be put in by hand.
///
/// The embedding of token i is the unit vector i, the blocks add nothing (their outputs are zero), and row j of the head
/// holds at i the logit of j after i. RMS norm scales a unit vector of width d by √d, which the head undoes.
enum BigramModel {
  /// - Parameter logits: `logits[i][j]`: of token j after token i.
  static func make(_ logits: [[Float]], context: Int = 8) throws -> TransformerModel {
    let count = logits.count
    let width = count + count % 2
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(
        name: "by hand",
        json: .object([
          "model_type": .string("llama"), "vocab_size": .integer(count),
          "hidden_size": .integer(width), "num_hidden_layers": .integer(1),
          "num_attention_heads": .integer(1), "head_dim": .integer(width),
          "intermediate_size": .integer(2), "max_position_embeddings": .integer(context),
          "rms_norm_eps": .number(1e-12), "tie_word_embeddings": .bool(false),
        ])))
    var embedding = [Float](repeating: 0, count: count * width)
    var head = embedding
    for i in 0..<count {
      embedding[i * width + i] = 1
      for j in 0..<count { head[j * width + i] = logits[i][j] / Float(width).squareRoot() }
    }
    let keys = configuration.keys
    let block = keys.block(0)
    func zeros(_ shape: Int...) -> Tensor { Tensor(zeros: shape) }
    let ones = Tensor(repeating: 1, shape: [width])
    return try TransformerModel(
      configuration: configuration,
      tensors: [
        keys.embedding: Tensor(embedding, shape: [count, width]),
        "lm_head.weight": Tensor(head, shape: [count, width]),
        "model.norm.weight": ones,
        "\(block).\(keys.attentionNorm).weight": ones,
        "\(block).\(keys.feedForwardNorm).weight": ones,
        "\(block).self_attn.q_proj.weight": zeros(width, width),
        "\(block).self_attn.k_proj.weight": zeros(width, width),
        "\(block).self_attn.v_proj.weight": zeros(width, width),
        "\(block).self_attn.o_proj.weight": zeros(width, width),
        "\(block).mlp.gate_proj.weight": zeros(2, width),
        "\(block).mlp.up_proj.weight": zeros(2, width),
        "\(block).mlp.down_proj.weight": zeros(width, 2),
      ], source: "by hand")
  }
}

/// One token per letter: a, b, c and the blank are 0 to 3; the full stop, 4, begins a text.
struct LetterTokenizer: TextTokenizer {
  static let letters = Array("abc .")
  var vocabularySize: Int { Self.letters.count }
  var beginToken: Int32? { 4 }
  var endToken: Int32? { nil }

  func encode(_ text: String, addSpecialTokens: Bool) -> [Int32] {
    let tokens = text.compactMap { Self.letters.firstIndex(of: $0).map(Int32.init) }
    return (addSpecialTokens ? [4] : []) + tokens
  }

  func decode(_ tokens: [Int32], skipSpecialTokens: Bool) -> String {
    String(tokens.filter { $0 != 4 || !skipSpecialTokens }.map { Self.letters[Int($0)] })
  }
}
