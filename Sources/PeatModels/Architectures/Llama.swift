// Llama. Mirrors transformers `modeling_llama.py`; Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>.

import PeatTensor

/// RMS norm, rotary positions, grouped key/value heads, SwiGLU. Versions 1 to 3, with the ways in which positions are stretched.
public enum Llama: Architecture {
  public static let modelType = "llama"
  public static let className = "Llama"

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try likeLlama(file, modelType: modelType, keys: keys)
    let attentionBias = try file.flag("attention_bias", default: false)
    model.biases = .init(
      projections: attentionBias, attentionOutput: attentionBias,
      feedForward: try file.flag("mlp_bias", default: false))
    return model
  }

  /// What the families that follow Llama have in common with it. They change what is their own.
  ///
  /// - Parameter headWidth: where the file names none; the hidden size divided among the heads if not given.
  static func likeLlama(
    _ file: ConfigurationFile, modelType: String, keys: TransformerKeys, headWidth: Int? = nil,
    activation: String = "hidden_act", tiesEmbeddings: Bool = false, padding: Int32? = nil
  ) throws -> TransformerConfiguration {
    let sizes = try file.attentionSizes(headWidth: file.optionalSize("head_dim") ?? headWidth)
    let context = try file.optionalSize("max_position_embeddings") ?? 2048
    return TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: try file.optionalSize("num_key_value_heads") ?? sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.size("intermediate_size"),
      contextLength: context,
      norm: .rms(epsilon: Float(try file.number("rms_norm_eps", default: 1e-6))),
      positions: .rotary(try file.rotary(headWidth: sizes.headWidth, contextLength: context)),
      feedForward: .gated(try file.activation(activation, default: .silu)),
      head: try file.tokenHead("lm_head.weight", tied: tiesEmbeddings, padding: padding),
      biases: .none,
      keys: keys)
  }

  public static let keys = TransformerKeys(
    embedding: "model.embed_tokens.weight",
    blocks: "model.layers",
    attentionNorm: "input_layernorm",
    projections: .separate(
      query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj"),
    attentionOutput: "self_attn.o_proj",
    feedForwardNorm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    finalNorm: "model.norm",
    ignoredSuffixes: ["rotary_emb.inv_freq"],
    optionalPrefix: "model.")
}
