// GPT-NeoX and Pythia. Mirrors transformers `modeling_gpt_neox.py`; Black et al. 2022, <https://arxiv.org/abs/2204.06745>; Biderman et al.
// 2023, <https://arxiv.org/abs/2304.01373>.

import PeatTensor

/// Layer norm, rotary positions of a part of each head, attention and feed-forward layer side by side, one projection with each head's query,
/// key and value together.
public enum GPTNeoX: Architecture {
  public static let modelType = "gpt_neox"
  public static let className = "GPTNeoX"

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try file.require("is_decoder", [.bool(true), .bool(false)])
    // Two names for the same: transformers looks at its own alone.
    for (own, other, usual) in [
      ("rotary_pct", "partial_rotary_factor", 0.25), ("rotary_emb_base", "rope_theta", 10000),
    ] {
      let value =
        try file.optionalTable("rope_parameters")?.optionalNumber(other)
        ?? file.optionalNumber(own) ?? usual
      if let stated = try file.optionalNumber(other), stated != value {
        throw PeatError.badData(
          "'\(file.name)' has \(other) = \(stated), and \(own) is \(value) for a model of its type. Let both say the same, or leave \(other) out."
        )
      }
    }
    let sizes = try file.attentionSizes()
    let context = try file.optionalSize("max_position_embeddings") ?? 2048
    let bias = try file.flag("attention_bias", default: true)
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.size("intermediate_size"),
      contextLength: context,
      norm: .layer(epsilon: Float(try file.number("layer_norm_eps", default: 1e-5))),
      positions: .rotary(
        try file.rotary(
          headWidth: sizes.headWidth, share: file.number("rotary_pct", default: 0.25),
          theta: file.number("rotary_emb_base", default: 10000), contextLength: context)),
      feedForward: .plain(try file.activation("hidden_act", default: .gelu)),
      head: try file.tokenHead("embed_out.weight", tied: false),
      biases: .init(projections: bias, attentionOutput: bias, feedForward: true),
      keys: keys)
    model.isParallel = try file.flag("use_parallel_residual", default: true)
    return model
  }

  public static let keys = TransformerKeys(
    embedding: "gpt_neox.embed_in.weight",
    blocks: "gpt_neox.layers",
    attentionNorm: "input_layernorm",
    projections: .fusedByHead("attention.query_key_value"),
    attentionOutput: "attention.dense",
    feedForwardNorm: "post_attention_layernorm",
    gate: nil,
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
    finalNorm: "gpt_neox.final_layer_norm",
    ignoredSuffixes: ["attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"],
    optionalPrefix: "gpt_neox.")
}
