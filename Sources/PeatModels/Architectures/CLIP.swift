// CLIP's vision tower. Mirrors transformers `modeling_clip.py`; Radford et al. 2021, <https://arxiv.org/abs/2103.00020>.

import PeatTensor

/// The vision tower of a whole CLIP checkpoint, whose sizes are in `vision_config`. The text tower and the projections beside it are left alone.
public enum CLIP: Architecture {
  public static let modelType = "clip"
  public static let className = "CLIP"
  public static let seesBothWays = true
  public static let classificationSuffix = ViT.classificationSuffix
  public static let section: String? = "vision_config"
  public static let keys = CLIPVision.keys

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    if let kind = try file.kind, kind.hasPrefix("CLIPText") {
      throw file.unsupported("architectures", .string(kind))
    }
    let tower = ConfigurationFile(name: "\(file.name): vision_config", json: .object([:]))
    var model = try CLIPVision.tower(
      try file.optionalTable("vision_config") ?? tower, modelType: modelType)
    if try file.hasClasses {
      model.head = HeadLayout(
        place: .mean, weight: "classifier.weight", bias: "classifier.bias",
        labels: try file.labels)
    }
    return model
  }
}

/// The vision tower by itself, `CLIPVisionModel`: as ViT, with a norm of the embedding, QuickGELU and no bias of the patches' projection.
///
/// The result is the last states. The norm that CLIP puts on the first of them, `post_layernorm`, is of use to its projection alone: neither last states nor
/// `CLIPForImageClassification`, which looks at the mean of the patches' states, know it.
public enum CLIPVision: Architecture {
  public static let modelType = "clip_vision_model"
  public static let className = "CLIPVision"
  public static let seesBothWays = true
  public static let classificationSuffix = ViT.classificationSuffix

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    try tower(file, modelType: modelType)
  }

  /// A head of classes stands on the tower of a whole CLIP.
  public static func classifying(
    _ table: [String: JSONValue], _ names: [String]
  ) -> [String: JSONValue] {
    var whole: [String: JSONValue] = [
      "model_type": .string(CLIP.modelType), "vision_config": .object(table),
    ]
    whole["projection_dim"] = table["projection_dim"]
    return CLIP.classifying(whole, names)
  }

  fileprivate static func tower(
    _ file: ConfigurationFile, modelType: String
  ) throws -> TransformerConfiguration {
    let hidden = try file.optionalSize("hidden_size") ?? 768
    let heads = try file.optionalSize("num_attention_heads") ?? 12
    guard hidden % heads == 0 else {
      throw PeatError.badData(
        "'\(file.name)': hidden_size \(hidden) is not a multiple of num_attention_heads \(heads).")
    }
    let image = try file.image(ownTokens: 1, standard: (224, 32))
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: image.patchSize,
      hiddenSize: hidden,
      blockCount: try file.optionalSize(blockCountKey) ?? 12,
      heads: heads,
      keyValueHeads: heads,
      headWidth: hidden / heads,
      feedForwardSize: try file.optionalSize("intermediate_size") ?? 3072,
      contextLength: image.patches + image.ownTokens,
      norm: .layer(epsilon: Float(try file.number("layer_norm_eps", default: 1e-5))),
      positions: .learned(),
      feedForward: .plain(try file.activation("hidden_act", default: .quickGELU)),
      biases: .all,
      keys: keys)
    model.attention = .bidirectional
    model.image = image
    return model
  }

  public static let keys = TransformerKeys(
    embedding: "vision_model.embeddings.patch_embedding.weight",
    positions: "vision_model.embeddings.position_embedding.weight",
    blocks: "vision_model.encoder.layers",
    attentionNorm: "layer_norm1",
    projections: .separate(
      query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj"),
    attentionOutput: "self_attn.out_proj",
    feedForwardNorm: "layer_norm2",
    gate: nil,
    up: "mlp.fc1",
    down: "mlp.fc2",
    finalNorm: nil,
    // Spelled so in the files.
    embeddingNorm: "vision_model.pre_layrnorm",
    image: ImageKeys(
      bias: nil, ownTokens: ["vision_model.embeddings.class_embedding"], isFlat: true),
    ignoredSuffixes: ["embeddings.position_ids"],
    unusedSuffixes: ["post_layernorm.weight", "post_layernorm.bias"],
    ignoredPrefixes: ["text_model.", "text_projection.", "visual_projection.", "logit_scale"],
    optionalPrefix: "vision_model.")
}
