// Qwen3. Mirrors transformers `modeling_qwen3.py`; Yang et al. 2025, <https://arxiv.org/abs/2505.09388>.

import PeatTensor

/// As Qwen2, with norms of each head's queries and keys in the place of biases.
public enum Qwen3: Architecture {
  public static let modelType = "qwen3"
  public static let className = "Qwen3"
  public static let keys: TransformerKeys = {
    var keys = Llama.keys
    keys.queryNorm = "self_attn.q_norm"
    keys.keyNorm = "self_attn.k_norm"
    return keys
  }()

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try Llama.likeLlama(file, modelType: modelType, keys: keys, headWidth: 128)
    let bias = try file.flag("attention_bias", default: false)
    model.biases = .init(projections: bias, attentionOutput: bias, feedForward: false)
    model.windows = try Qwen2.windows(file, blocks: model.blockCount)
    return model
  }
}
