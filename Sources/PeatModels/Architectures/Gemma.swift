// Gemma. Mirrors transformers `modeling_gemma.py`; Gemma Team 2024, <https://arxiv.org/abs/2403.08295>.

import PeatTensor

/// As Llama, with GEGLU, norms whose weights are kept as what they differ from 1 by, and embeddings times √d.
public enum Gemma: Architecture {
  public static let modelType = "gemma"
  public static let className = "Gemma"
  public static let keys = Llama.keys

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try likeGemma(file, modelType: modelType, keys: keys, activation: "hidden_act")
    // Files from before 2024 say "gelu" and mean its approximation.
    if model.feedForward == .gated(.gelu) { model.feedForward = .gated(.tanhGELU) }
    return model
  }

  /// What both versions have in common.
  static func likeGemma(
    _ file: ConfigurationFile, modelType: String, keys: TransformerKeys, activation: String
  ) throws -> TransformerConfiguration {
    try file.require("use_bidirectional_attention", [.bool(false)])
    var model = try Llama.likeLlama(
      file, modelType: modelType, keys: keys, headWidth: 256, activation: activation,
      tiesEmbeddings: true, padding: 0)
    if !file.has(activation) { model.feedForward = .gated(.tanhGELU) }
    if case .rms(let epsilon, _) = model.norm { model.norm = .rms(epsilon: epsilon, offset: 1) }
    model.embeddingScale = Float(model.hiddenSize).squareRoot()
    let bias = try file.flag("attention_bias", default: false)
    model.biases = .init(projections: bias, attentionOutput: bias, feedForward: false)
    return model
  }
}
