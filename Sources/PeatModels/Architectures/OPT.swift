// OPT. Mirrors transformers `modeling_opt.py`; Zhang et al. 2022, <https://arxiv.org/abs/2205.01068>.

import PeatTensor

/// Layer norm, learned positions of which the first two are for filling, ReLU. In the model of 350 M parameters norms stand behind, and the embedding is
/// narrower than the states: layers lead from one width to the other.
public enum OPT: Architecture {
  public static let modelType = "opt"
  public static let className = "OPT"

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    let sizes = try file.attentionSizes()
    try file.require("layer_norm_elementwise_affine", [.bool(true)])
    let normsBefore = try file.flag("do_layer_norm_before", default: true)
    let bias = try file.flag("enable_bias", default: true)
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.size("ffn_dim"),
      contextLength: try file.optionalSize("max_position_embeddings") ?? 2048,
      norm: .layer(epsilon: 1e-5),
      positions: .learned(firstRow: 2),
      feedForward: .plain(try file.activation("activation_function", default: .relu)),
      head: try file.tokenHead("lm_head.weight", tied: true, padding: 1),
      biases: .init(projections: bias, attentionOutput: bias, feedForward: bias),
      keys: keys)
    if !normsBefore { model.normPlace = .after }
    if let width = try file.optionalSize("word_embed_proj_dim"), width != sizes.hidden {
      model.embeddingSize = width
      model.keys.inputProjection = "model.decoder.project_in"
      model.keys.outputProjection = "model.decoder.project_out"
    }
    if try !normsBefore || file.flag("_remove_final_layer_norm", default: false) {
      model.keys.finalNorm = nil
    }
    return model
  }

  public static let keys = TransformerKeys(
    embedding: "model.decoder.embed_tokens.weight",
    positions: "model.decoder.embed_positions.weight",
    blocks: "model.decoder.layers",
    attentionNorm: "self_attn_layer_norm",
    projections: .separate(
      query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj"),
    attentionOutput: "self_attn.out_proj",
    feedForwardNorm: "final_layer_norm",
    gate: nil,
    up: "fc1",
    down: "fc2",
    finalNorm: "model.decoder.final_layer_norm",
    optionalPrefix: "model.")
}
