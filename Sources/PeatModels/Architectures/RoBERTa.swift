// RoBERTa. Mirrors transformers `modeling_roberta.py`; Liu et al. 2019, <https://arxiv.org/abs/1907.11692>.

import PeatTensor

/// As BERT, with positions that begin behind the one for filling, and heads of its own.
public enum RoBERTa: Architecture {
  public static let modelType = "roberta"
  public static let className = "Roberta"
  public static let seesBothWays = true
  public static let keys: TransformerKeys = {
    var keys = BERT.likeBERT("roberta")
    keys.ignoredSuffixes += ["lm_head.decoder.bias", "lm_head.bias"]
    return keys
  }()

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try likeRoBERTa(file, modelType: modelType)
  }

  static func likeRoBERTa(
    _ file: ConfigurationFile, modelType: String
  ) throws -> TransformerConfiguration {
    let padding = try file.optionalCount("pad_token_id") ?? 1
    var model = try BERT.likeBERT(
      file, modelType: modelType, keys: keys, firstPosition: padding + 1)
    model.unplacedToken = Int32(padding)
    model.head =
      switch try file.kind {
      case let kind? where kind.hasSuffix("ForMaskedLM"):
        .maskedTokens(
          dense: "lm_head.dense", function: .gelu, norm: "lm_head.layer_norm",
          last: "lm_head.decoder",
          isTied: try file.flag("tie_word_embeddings", default: true), tiedBias: "lm_head.bias")
      case let kind? where kind.hasSuffix("ForSequenceClassification"):
        HeadLayout(
          place: .first, dense: "classifier.dense", function: .tanh,
          weight: "classifier.out_proj.weight", bias: "classifier.out_proj.bias",
          labels: try file.labels)
      default: nil
      }
    return model
  }
}
