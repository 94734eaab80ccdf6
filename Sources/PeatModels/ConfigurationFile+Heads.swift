import PeatTensor

extension ConfigurationFile {
  /// Throws where a key that no family looks at makes another model than the one that is computed: transformers looks at it.
  func checkNothingElseIsAsked(of architecture: any Architecture.Type) throws {
    for key in ["quantization_config", "compression_config", "quantization"] {
      guard let value = json[key], !value.isNull, value.object?.isEmpty != true else { continue }
      let method = value["quant_method"]?.string.map { " (\($0))" } ?? ""
      throw PeatError.badData(
        "'\(name)' has \(key)\(method): its weights are quantised in a way that this program does not read. Take the checkpoint in float32, bfloat16 or float16; fedpeat keeps it as int8 or int4 itself (--storage)."
      )
    }
    try require("is_encoder_decoder", [.bool(architecture.decoderBlockCountKey != nil)])
    for key in [
      "add_cross_attention", "tie_encoder_decoder", "use_bidirectional_attention", "use_mrope",
    ] {
      try require(key, [.bool(false)])
    }
    try require("pruned_heads", [.object([:])])
    try checkHead(of: architecture)
  }

  /// Whether `architectures` names a model without a head, such as `LlamaModel`.
  var isBare: Bool {
    get throws { try kind.map { $0.hasSuffix("Model") && !$0.hasSuffix("LMHeadModel") } ?? false }
  }

  /// Throws where `architectures` names a head that is not computed here, such as one that tells tokens apart: without this it would be left out in silence, or taken for
  /// another.
  private func checkHead(of architecture: any Architecture.Type) throws {
    // Models with an encoder and a decoder say themselves which classes they know.
    guard architecture.decoderBlockCountKey == nil, let kind = try kind else { return }
    let computed =
      architecture.seesBothWays
      ? architecture.classificationSuffix == "ForImageClassification"
        ? [architecture.classificationSuffix]
        : ["ForMaskedLM"] + (architecture.modelType == BERT.modelType ? ["ForPreTraining"] : [])
          + [architecture.classificationSuffix]
      : ["ForCausalLM", "LMHeadModel", architecture.classificationSuffix]
    guard Self.namesHead(kind), !computed.contains(where: kind.hasSuffix) else { return }
    let family = architecture.className
    throw headRefusal(
      kind, architecture.modelType, computed,
      otherwise:
        ", or none: to use what lies below the head, write \"architectures\": [\"\(family)Model\"]")
  }

  /// Throws where `architectures` names something else than the one model that is computed of a family.
  func requireKind(_ kinds: [String], modelType: String) throws {
    guard let kind = try kind, !kinds.contains(kind) else { return }
    throw headRefusal(kind, modelType, kinds)
  }

  private static func namesHead(_ kind: String) -> Bool {
    kind.firstMatch(of: /For[A-Z]/) != nil
      || ["LMHeadModel", "DoubleHeadsModel", "WithTeacher"].contains(where: kind.hasSuffix)
  }

  private func headRefusal(
    _ kind: String, _ modelType: String, _ computed: [String], otherwise: String = ""
  ) -> PeatError {
    .badData(
      "'\(name)' is for \(kind), \(Self.namesHead(kind) ? "whose head this program does not compute" : "which has no head"). Of a model of the type \(modelType) it computes the heads \(computed.joined(separator: ", "))\(otherwise)."
    )
  }
}
