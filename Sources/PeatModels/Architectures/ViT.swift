// The Vision Transformer. Mirrors transformers `modeling_vit.py`; Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>.

import PeatTensor

/// Pictures cut into patches, with a token of the model's own in front; layer norms before attention and feed-forward layer, queries see
/// both ways. With a head of classes on the first token, or none.
public enum ViT: Architecture {
  public static let modelType = "vit"
  public static let className = "ViT"
  public static let seesBothWays = true
  public static let classificationSuffix = "ForImageClassification"

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try likeViT(file, modelType: modelType, keys: keys)
  }

  /// What models of pictures of this kind have in common.
  static func likeViT(
    _ file: ConfigurationFile, modelType: String, keys: TransformerKeys
  ) throws -> TransformerConfiguration {
    let sizes = try file.attentionSizes()
    let image = try file.image(ownTokens: keys.image?.ownTokens.count ?? 0)
    let bias = try file.flag("qkv_bias", default: true)
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: image.patchSize,
      hiddenSize: sizes.hidden,
      blockCount: try file.size(blockCountKey),
      heads: sizes.heads,
      keyValueHeads: sizes.heads,
      headWidth: sizes.headWidth,
      feedForwardSize: try file.size("intermediate_size"),
      contextLength: image.patches + image.ownTokens,
      norm: .layer(epsilon: Float(try file.number("layer_norm_eps", default: 1e-12))),
      positions: .learned(),
      feedForward: .plain(try file.activation("hidden_act", default: .gelu)),
      biases: .init(projections: bias, attentionOutput: true, feedForward: true),
      keys: keys)
    model.attention = .bidirectional
    model.image = image
    if try file.hasClasses {
      model.head = HeadLayout(
        place: .first, weight: "classifier.weight", bias: "classifier.bias",
        labels: try file.labels)
    }
    return model
  }

  public static let keys = likeViT("vit", ownTokens: ["cls_token"])

  /// Names of tensors under a prefix.
  static func likeViT(_ prefix: String, ownTokens: [String]) -> TransformerKeys {
    TransformerKeys(
      embedding: "\(prefix).embeddings.patch_embeddings.projection.weight",
      positions: "\(prefix).embeddings.position_embeddings",
      blocks: "\(prefix).encoder.layer",
      attentionNorm: "layernorm_before",
      projections: .separate(
        query: "attention.attention.query", key: "attention.attention.key",
        value: "attention.attention.value"),
      attentionOutput: "attention.output.dense",
      feedForwardNorm: "layernorm_after",
      gate: nil,
      up: "intermediate.dense",
      down: "output.dense",
      finalNorm: "\(prefix).layernorm",
      image: ImageKeys(
        bias: "\(prefix).embeddings.patch_embeddings.projection.bias",
        ownTokens: ownTokens.map { "\(prefix).embeddings.\($0)" }),
      unusedSuffixes: ["pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"],
      optionalPrefix: "\(prefix).")
  }
}
