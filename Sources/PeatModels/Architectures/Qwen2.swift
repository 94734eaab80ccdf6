// Qwen2 and Qwen2.5. Mirrors transformers `modeling_qwen2.py`; Yang et al. 2024, <https://arxiv.org/abs/2407.10671>.

import PeatTensor

/// As Llama, with biases of queries, keys and values, and in some blocks a window.
public enum Qwen2: Architecture {
  public static let modelType = "qwen2"
  public static let className = "Qwen2"
  public static let keys = Llama.keys

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    var model = try Llama.likeLlama(file, modelType: modelType, keys: keys)
    model.biases.projections = true
    model.windows = try windows(file, blocks: model.blockCount)
    return model
  }

  /// The windows of Qwen's blocks: those from `max_window_layers` on have one, where `use_sliding_window` says so.
  static func windows(_ file: ConfigurationFile, blocks: Int) throws -> [Int?]? {
    guard try file.flag("use_sliding_window", default: false) else { return nil }
    let first = try file.optionalCount("max_window_layers") ?? 28
    return try file.windows(blocks: blocks, standard: 4096) { $0 >= first }
  }
}
