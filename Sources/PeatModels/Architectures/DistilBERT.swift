// DistilBERT. Mirrors transformers `modeling_distilbert.py`; Sanh et al. 2019, <https://arxiv.org/abs/1910.01108>.

import PeatTensor

/// As BERT, without token types, and with names of its own.
public enum DistilBERT: Architecture {
  public static let modelType = "distilbert"
  public static let className = "DistilBert"
  public static let seesBothWays = true
  public static let blockCountKey = "n_layers"
  public static let aliases = [
    "hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
  ]

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    let sizes = try file.attentionSizes(hiddenSize: "dim", heads: "n_heads")
    let function = try file.activation("activation", default: .gelu)
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.size("hidden_dim"),
      contextLength: try file.optionalSize("max_position_embeddings") ?? 512,
      norm: .layer(epsilon: 1e-12),
      positions: .learned(),
      feedForward: .plain(function),
      biases: .all,
      keys: keys)
    model.normPlace = .after
    model.attention = .bidirectional
    model.head =
      switch try file.kind {
      case let kind? where kind.hasSuffix("ForMaskedLM"):
        HeadLayout(
          dense: "vocab_transform", function: function, norm: "vocab_layer_norm",
          weight: "vocab_projector.weight",
          isTied: try file.flag("tie_word_embeddings", default: true), bias: "vocab_projector.bias")
      case let kind? where kind.hasSuffix("ForSequenceClassification"):
        HeadLayout(
          place: .first, dense: "pre_classifier", function: .relu, weight: "classifier.weight",
          bias: "classifier.bias", labels: try file.labels)
      default: nil
      }
    return model
  }

  public static let keys = TransformerKeys(
    embedding: "distilbert.embeddings.word_embeddings.weight",
    positions: "distilbert.embeddings.position_embeddings.weight",
    blocks: "distilbert.transformer.layer",
    attentionNorm: "sa_layer_norm",
    projections: .separate(
      query: "attention.q_lin", key: "attention.k_lin", value: "attention.v_lin"),
    attentionOutput: "attention.out_lin",
    feedForwardNorm: "output_layer_norm",
    gate: nil,
    up: "ffn.lin1",
    down: "ffn.lin2",
    finalNorm: nil,
    embeddingNorm: "distilbert.embeddings.LayerNorm",
    olderSuffixes: BERT.keys.olderSuffixes,
    // What masked-token files hold and other heads do not need, and the other way round.
    ignoredSuffixes: ["embeddings.position_ids"],
    optionalPrefix: "distilbert.")
}
