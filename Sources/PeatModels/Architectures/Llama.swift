// Llama. Mirrors transformers `modeling_llama.py`; Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>.

import PeatTensor

/// RMS norm, rotary positions, grouped key/value heads, SwiGLU.
public enum Llama: Architecture {
  public static let modelType = "llama"

  public static let layout = WeightLayout.outputsByInputs
  public static let blockCountKey = "num_hidden_layers"

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try file.require("hidden_act", [.string("silu")])
    try file.require("rope_scaling", [])
    let hiddenSize = try file.size("hidden_size")
    let heads = try file.size("num_attention_heads")
    let headWidth = try file.optionalSize("head_dim") ?? hiddenSize / heads
    if !file.has("head_dim"), hiddenSize % heads != 0 {
      throw PeatError.badData(
        "'\(file.name)': hidden_size \(hiddenSize) is not a multiple of num_attention_heads \(heads)."
      )
    }
    let attentionBias = try file.flag("attention_bias", default: false)
    let feedForwardBias = try file.flag("mlp_bias", default: false)
    return TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: hiddenSize,
      blockCount: try file.size("num_hidden_layers"),
      heads: heads,
      keyValueHeads: try file.optionalSize("num_key_value_heads") ?? heads,
      headWidth: headWidth,
      feedForwardSize: try file.size("intermediate_size"),
      contextLength: try file.optionalSize("max_position_embeddings") ?? 2048,
      norm: .rms(epsilon: Float(try file.number("rms_norm_eps", default: 1e-6))),
      positions: .rotary(theta: try theta(file)),
      feedForward: .swiGLU,
      tiesEmbeddings: try file.flag("tie_word_embeddings", default: false),
      attentionHasBias: attentionBias,
      feedForwardHasBias: feedForwardBias,
      layout: layout,
      keys: keys)
  }

  /// `rope_theta`, where newer files keep it inside `rope_parameters`.
  private static func theta(_ file: ConfigurationFile) throws -> Double {
    guard let parameters = file.json["rope_parameters"], !parameters.isNull else {
      return try file.number("rope_theta", default: 10000)
    }
    guard parameters.object != nil else { throw file.unsupported("rope_parameters", parameters) }
    let inner = ConfigurationFile(name: "\(file.name): rope_parameters", json: parameters)
    try inner.require("rope_type", [.string("default")])
    // The key's older name.
    try inner.require("type", [.string("default")])
    return try inner.number("rope_theta", default: file.number("rope_theta", default: 10000))
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
    head: "lm_head.weight",
    ignoredSuffixes: ["rotary_emb.inv_freq"])
}
