// BERT, and MiniLM in its form. Mirrors transformers `modeling_bert.py`; Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>; Wang et al. 2020,
// <https://arxiv.org/abs/2002.10957>.

import PeatTensor

/// An encoder: queries see both ways; layer norms behind attention and feed-forward layer and behind the embedding, learned positions, token
/// types. With a head of masked tokens, of classes, or none.
public enum BERT: Architecture {
  public static let modelType = "bert"
  public static let className = "Bert"
  public static let seesBothWays = true

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try likeBERT(file, modelType: modelType, keys: keys)
    let function = try file.activation("hidden_act", default: .gelu)
    model.head =
      switch try file.kind {
      case let kind? where kind.hasSuffix("ForMaskedLM") || kind.hasSuffix("ForPreTraining"):
        .maskedTokens(
          dense: "cls.predictions.transform.dense", function: function,
          norm: "cls.predictions.transform.LayerNorm", last: "cls.predictions.decoder",
          isTied: try file.flag("tie_word_embeddings", default: true),
          tiedBias: "cls.predictions.bias")
      case let kind? where kind.hasSuffix("ForSequenceClassification"):
        HeadLayout(
          place: .first, dense: "bert.pooler.dense", function: .tanh, weight: "classifier.weight",
          bias: "classifier.bias", labels: try file.labels)
      default: nil
      }
    return model
  }

  /// What encoders of BERT's kind have in common.
  ///
  /// - Parameter firstPosition: the row of the first token in the table of positions.
  static func likeBERT(
    _ file: ConfigurationFile, modelType: String, keys: TransformerKeys, firstPosition: Int = 0
  ) throws -> TransformerConfiguration {
    try file.require("position_embedding_type", [.string("absolute")])
    try file.require("is_decoder", [.bool(false)])
    try file.require("add_cross_attention", [.bool(false)])
    let sizes = try file.attentionSizes()
    let rows = try file.optionalSize("max_position_embeddings") ?? 512
    guard rows > firstPosition else {
      throw PeatError.badData(
        "'\(file.name)' has max_position_embeddings = \(rows), of which the first \(firstPosition) are no positions; none is left."
      )
    }
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.size("intermediate_size"),
      contextLength: rows - firstPosition,
      norm: .layer(epsilon: Float(try file.number("layer_norm_eps", default: 1e-12))),
      positions: .learned(firstRow: firstPosition),
      feedForward: .plain(try file.activation("hidden_act", default: .gelu)),
      biases: .all,
      keys: keys)
    model.normPlace = .after
    model.attention = .bidirectional
    model.tokenTypes = try file.optionalSize("type_vocab_size") ?? 2
    return model
  }

  public static let keys = likeBERT("bert")

  /// Names of tensors under a prefix.
  static func likeBERT(_ prefix: String) -> TransformerKeys {
    TransformerKeys(
      embedding: "\(prefix).embeddings.word_embeddings.weight",
      positions: "\(prefix).embeddings.position_embeddings.weight",
      blocks: "\(prefix).encoder.layer",
      attentionNorm: "attention.output.LayerNorm",
      projections: .separate(
        query: "attention.self.query", key: "attention.self.key", value: "attention.self.value"),
      attentionOutput: "attention.output.dense",
      feedForwardNorm: "output.LayerNorm",
      gate: nil,
      up: "intermediate.dense",
      down: "output.dense",
      finalNorm: nil,
      embeddingNorm: "\(prefix).embeddings.LayerNorm",
      tokenTypes: "\(prefix).embeddings.token_type_embeddings.weight",
      // As the first files were saved, from TensorFlow.
      olderSuffixes: ["LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"],
      // The bias under its two names, of which the head reads one.
      ignoredSuffixes: [
        "embeddings.position_ids", "predictions.decoder.bias", "cls.predictions.bias",
      ],
      // Files of one head often hold what others need.
      unusedSuffixes: [
        "pooler.dense.weight", "pooler.dense.bias", "seq_relationship.weight",
        "seq_relationship.bias",
      ],
      optionalPrefix: "\(prefix).")
  }
}
