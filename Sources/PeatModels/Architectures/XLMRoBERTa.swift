// XLM-RoBERTa. Mirrors transformers `modeling_xlm_roberta.py`; Conneau et al. 2020, <https://arxiv.org/abs/1911.02116>.

/// RoBERTa with the vocabulary of many languages; the encoders of multilingual E5 and of BGE-M3 are of its kind.
public enum XLMRoBERTa: Architecture {
  public static let modelType = "xlm-roberta"
  public static let className = "XLMRoberta"
  public static let seesBothWays = true
  public static let keys = RoBERTa.keys

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try RoBERTa.likeRoBERTa(file, modelType: modelType)
  }
}
