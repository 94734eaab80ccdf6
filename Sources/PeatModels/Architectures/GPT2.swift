// GPT-2. Mirrors transformers `modeling_gpt2.py`; Radford et al. 2019, "Language Models are Unsupervised Multitask
// Learners".

import PeatTensor

/// Layer norm, learned positions, one projection for queries, keys and values, GELU; weights in Conv1D layout.
public enum GPT2: Architecture {
  public static let modelType = "gpt2"
  public static let className = "GPT2"

  public static let layout = WeightLayout.inputsByOutputs
  public static let blockCountKey = "n_layer"
  public static let aliases = [
    "hidden_size": "n_embd", "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
  ]

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try file.require("scale_attn_weights", [.bool(true)])
    try file.require("scale_attn_by_inverse_layer_idx", [.bool(false)])
    try file.require("add_cross_attention", [.bool(false)])
    let sizes = try file.attentionSizes(hiddenSize: "n_embd", heads: "n_head")
    return TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.optionalSize("n_inner") ?? 4 * sizes.hidden,
      contextLength: try file.optionalSize("n_positions") ?? 1024,
      norm: .layer(epsilon: Float(try file.number("layer_norm_epsilon", default: 1e-5))),
      positions: .learned(),
      feedForward: .plain(try file.activation("activation_function", default: .tanhGELU)),
      head: try file.tokenHead("lm_head.weight", tied: true),
      biases: .all,
      layout: layout,
      keys: keys)
  }

  public static let keys = TransformerKeys(
    embedding: "transformer.wte.weight",
    positions: "transformer.wpe.weight",
    blocks: "transformer.h",
    attentionNorm: "ln_1",
    projections: .fused("attn.c_attn"),
    attentionOutput: "attn.c_proj",
    feedForwardNorm: "ln_2",
    gate: nil,
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    finalNorm: "transformer.ln_f",
    ignoredSuffixes: ["attn.bias", "attn.masked_bias"],
    optionalPrefix: "transformer.")
}
