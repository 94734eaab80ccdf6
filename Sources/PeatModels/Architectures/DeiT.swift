// DeiT, the data-efficient image transformer. Mirrors transformers `modeling_deit.py`; Touvron et al. 2020, <https://arxiv.org/abs/2012.12877>.

import PeatTensor

/// As ViT, with a second token of the model's own, which learned from a teacher.
public enum DeiT: Architecture {
  public static let modelType = "deit"
  public static let className = "DeiT"
  public static let seesBothWays = true
  public static let classificationSuffix = ViT.classificationSuffix
  public static let keys = ViT.likeViT("deit", ownTokens: ["cls_token", "distillation_token"])

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    if let kind = try file.kind, kind.hasSuffix("WithTeacher") {
      throw file.unsupported("architectures", .string(kind))
    }
    return try ViT.likeViT(file, modelType: modelType, keys: keys)
  }
}
