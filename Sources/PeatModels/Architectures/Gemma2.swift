// Gemma 2. Mirrors transformers `modeling_gemma2.py`; Gemma Team 2024, <https://arxiv.org/abs/2408.00118>.

import PeatTensor

/// As Gemma, with norms around attention and feed-forward layer, soft caps of scores and logits, and a window in every other block.
public enum Gemma2: Architecture {
  public static let modelType = "gemma2"
  public static let className = "Gemma2"
  public static let keys: TransformerKeys = {
    var keys = Llama.keys
    keys.attentionOutputNorm = "post_attention_layernorm"
    keys.feedForwardNorm = "pre_feedforward_layernorm"
    keys.feedForwardOutputNorm = "post_feedforward_layernorm"
    return keys
  }()

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try Gemma.likeGemma(
      file, modelType: modelType, keys: keys, activation: "hidden_activation")
    model.normPlace = .around
    let scalar = try file.optionalPositive("query_pre_attn_scalar") ?? 256
    model.attention.scale = Float(1 / scalar.squareRoot())
    model.attention.softCap = try cap("attn_logit_softcapping", standard: 50, file)
    model.logitSoftCap = try cap("final_logit_softcapping", standard: 30, file)
    model.windows = try windows(file, blocks: model.blockCount)
    return model
  }

  /// `nil` where the file says null.
  private static func cap(
    _ key: String, standard: Double, _ file: ConfigurationFile
  ) throws -> Float? {
    if file.json[key]?.isNull == true { return nil }
    return Float(try file.optionalPositive(key) ?? standard)
  }

  private static func windows(_ file: ConfigurationFile, blocks: Int) throws -> [Int?]? {
    if file.json["sliding_window"]?.isNull == true { return nil }
    return try file.windows(blocks: blocks, standard: 4096) { $0 % 2 == 0 }
  }
}
