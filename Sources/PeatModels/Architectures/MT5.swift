// mT5. Mirrors transformers `modeling_mt5.py`; Xue et al. 2021, <https://arxiv.org/abs/2010.11934>.

/// T5 1.1 with the vocabulary of many languages: never a scale before the head.
public enum MT5: Architecture {
  public static let modelType = "mt5"
  public static let className = "MT5"
  public static let blockCountKey = T5.blockCountKey
  public static let decoderBlockCountKey = T5.decoderBlockCountKey
  public static let keys = T5.keys

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try T5.likeT5(
      file, modelType: modelType, classes: ["MT5ForConditionalGeneration"], scalesTiedHead: false)
  }
}
