// Mistral. Mirrors transformers `modeling_mistral.py`; Jiang et al. 2023, <https://arxiv.org/abs/2310.06825>.

import PeatTensor

/// As Llama, with a window of keys that queries see.
public enum Mistral: Architecture {
  public static let modelType = "mistral"
  public static let className = "Mistral"
  public static let keys = Llama.keys

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try Llama.likeLlama(file, modelType: modelType, keys: keys)
    // Where the key is missing transformers takes 4096; null is no window.
    model.attention.window =
      file.json["sliding_window"] == nil ? 4096 : try file.optionalSize("sliding_window")
    return model
  }
}
