// T5. Mirrors transformers `modeling_t5.py`; Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>. Version 1.1 and FLAN-T5: Shazeer 2020,
// <https://arxiv.org/abs/2002.05202>, for the gates.

import PeatTensor

/// An encoder and a decoder: RMS norm, relative positions added to unscaled scores, no biases. Version 1 has ReLU and the embedding as its head; 1.1 has gates
/// and a head of its own.
public enum T5: Architecture {
  public static let modelType = "t5"
  public static let className = "T5"
  public static let blockCountKey = "num_layers"
  public static let decoderBlockCountKey: String? = "num_decoder_layers"

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try likeT5(
      file, modelType: modelType, classes: ["T5ForConditionalGeneration", "T5WithLMHeadModel"],
      scalesTiedHead: true)
  }

  /// - Parameters:
  ///   - classes: what `architectures` may be: without its head, or with one of classes, it is another model.
  ///   - scalesTiedHead: whether states are scaled for a head that is the embedding.
  static func likeT5(
    _ file: ConfigurationFile, modelType: String, classes: [String], scalesTiedHead: Bool
  ) throws -> TransformerConfiguration {
    try file.requireKind(classes, modelType: modelType)
    try file.require("is_encoder_decoder", [.bool(true)])
    try file.require("tie_encoder_decoder", [.bool(false)])
    try file.require("pruned_heads", [.object([:])])
    let layers = (
      encoder: try file.size(blockCountKey),
      decoder: try file.optionalSize("num_decoder_layers") ?? file.size(blockCountKey)
    )
    let (function, isGated) = try activation(file)
    let buckets = try file.optionalSize("relative_attention_num_buckets") ?? 32
    let longest = try file.optionalSize("relative_attention_max_distance") ?? 128
    guard RelativePositions.isPossible(buckets: buckets, longest: longest) else {
      throw PeatError.badData(
        "'\(file.name)' has relative_attention_num_buckets = \(buckets) and relative_attention_max_distance = \(longest); expected an even number of buckets from 4 on, and a distance above half of it."
      )
    }
    var keys = keys
    keys.otherVersionsPaths = []
    keys.decoder?.encoderBlocks = layers.encoder
    keys.decoder?.encoderBlocksInFullModel = layers.encoder
    if !isGated {
      keys.gate = nil
      keys.up = "layer.1.DenseReluDense.wi"
      keys.decoder?.gate = nil
      keys.decoder?.up = "layer.2.DenseReluDense.wi"
    }
    let isTied = try file.flag("tie_word_embeddings", default: true)
    let hidden = try file.size("d_model")
    var head = HeadLayout.nextToken("lm_head.weight", isTied: isTied)
    // transformers 5 writes every T5 as tied; a head in the files that is another one counts.
    head.isTiedUnlessStored = true
    if scalesTiedHead, try file.flag("scale_decoder_outputs", default: isTied) {
      head.scale = 1 / Float(hidden).squareRoot()
    }
    let heads = try file.size("num_heads")
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: try file.size("vocab_size"),
      hiddenSize: hidden,
      blockCount: layers.encoder + layers.decoder,
      heads: heads,
      keyValueHeads: heads,
      headWidth: try file.optionalSize("d_kv") ?? 64,
      feedForwardSize: try file.size("d_ff"),
      contextLength: contextLength,
      norm: .rms(epsilon: Float(try file.number("layer_norm_epsilon", default: 1e-6))),
      positions: .relative(buckets: buckets, longest: longest),
      feedForward: isGated ? .gated(function) : .plain(function),
      head: head,
      biases: .none,
      keys: keys)
    model.attention.scale = 1
    model.decoderStart = Int32(
      try file.optionalCount("decoder_start_token_id") ?? file.optionalCount("pad_token_id") ?? 0)
    guard model.decoderStart < model.vocabularySize else {
      throw PeatError.badData(
        "'\(file.name)' has decoder_start_token_id = \(model.decoderStart), which is none of the \(model.vocabularySize) tokens."
      )
    }
    return model
  }

  /// Relative positions end nowhere: so many tokens of a source and its target together, for bounds on memory.
  private static let contextLength = 1 << 15

  /// `relu`, `gated-gelu` and the like.
  private static func activation(
    _ file: ConfigurationFile
  ) throws -> (ActivationFunction, isGated: Bool) {
    let name = try file.optionalString("feed_forward_proj") ?? "relu"
    let parts = name.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
    let isGated = parts.count == 2 && parts[0] == "gated"
    // What transformers means by it.
    let function = name == "gated-gelu" ? "gelu_new" : parts[parts.count - 1]
    guard parts.count == 1 || isGated,
      let activation = ActivationFunction(configurationName: function)
    else { throw file.unsupported("feed_forward_proj", .string(name)) }
    // What these say as well is what transformers computes where they differ.
    try file.require("is_gated_act", [.bool(isGated)])
    if let other = try file.optionalString("dense_act_fn"),
      ActivationFunction(configurationName: other) != activation
    {
      throw file.unsupported("dense_act_fn", .string(other))
    }
    return (activation, isGated)
  }

  public static let keys = TransformerKeys(
    embedding: "shared.weight",
    blocks: "encoder.block",
    attentionNorm: "layer.0.layer_norm",
    projections: .separate(
      query: "layer.0.SelfAttention.q", key: "layer.0.SelfAttention.k",
      value: "layer.0.SelfAttention.v"),
    attentionOutput: "layer.0.SelfAttention.o",
    feedForwardNorm: "layer.1.layer_norm",
    gate: "layer.1.DenseReluDense.wi_0",
    up: "layer.1.DenseReluDense.wi_1",
    down: "layer.1.DenseReluDense.wo",
    finalNorm: "decoder.final_layer_norm",
    // Other names of the embedding, and a table that nothing reads.
    ignoredSuffixes: [
      "encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
      "EncDecAttention.relative_attention_bias.weight",
    ],
    relativePositions: "layer.0.SelfAttention.relative_attention_bias",
    // Of version 1, which has no gates.
    otherVersionsPaths: ["layer.1.DenseReluDense.wi", "layer.2.DenseReluDense.wi"],
    decoder: DecoderKeys(
      encoderNorm: "encoder.final_layer_norm",
      blocks: "decoder.block",
      cross: CrossAttentionKeys(
        norm: "layer.1.layer_norm", query: "layer.1.EncDecAttention.q",
        key: "layer.1.EncDecAttention.k", value: "layer.1.EncDecAttention.v",
        output: "layer.1.EncDecAttention.o"),
      feedForwardNorm: "layer.2.layer_norm",
      gate: "layer.2.DenseReluDense.wi_0",
      up: "layer.2.DenseReluDense.wi_1",
      down: "layer.2.DenseReluDense.wo"))
}
