import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

/// What CLIP's tower and the MLP-Mixer have of their own, beside what `FamilyParityTests` compares.
@Suite("Families of pictures") struct PictureFamilyTests {
  private func checkpoint(_ name: String) throws -> Checkpoint {
    try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
  }

  private func configuration(_ json: JSONValue) throws -> TransformerConfiguration {
    try Architectures.configuration(from: ConfigurationFile(name: "config.json", json: json))
  }

  @Test func `of a whole CLIP the vision tower is read, with the defaults of its class`() throws {
    let tower = try configuration(["model_type": "clip"])
    #expect(tower.hiddenSize == 768 && tower.blockCount == 12 && tower.heads == 12)
    #expect(tower.contextLength == 50 && tower.image?.patch == 32)
    #expect(tower.feedForward == .plain(.quickGELU) && tower.head == nil)
    let alone = try configuration(["model_type": "clip_vision_model", "image_size": [64, 32]])
    #expect(alone.contextLength == 3)
    #expect(throws: PeatError.self) {
      try configuration(["model_type": "clip", "architectures": ["CLIPTextModel"]])
    }
    #expect(throws: PeatError.self) {
      try configuration(["model_type": "clip", "vision_config": ["num_attention_heads": 7]])
    }
  }

  @Test func `the same tower lies in all three files`() throws {
    let whole = try checkpoint("clip").model()
    let keys = CLIPVision.keys
    #expect(whole.parameters.allSatisfy { $0.name.hasPrefix("vision_model.") })
    let alone = try checkpoint("clip-vision").model()
    #expect(whole.parameters.map(\.name) == alone.parameters.map(\.name))
    let classes = try checkpoint("clip-classes").model()
    #expect(classes.head?.layout.place == .mean)
    #expect(classes.parameters.count == whole.parameters.count + 2)
    #expect(keys.block(2) == "vision_model.encoder.layers.2")
  }

  /// What transformers' CLIPForImageClassification reads is the configuration of a whole CLIP.
  @Test(arguments: ["clip", "clip-vision"])
  func `a head of classes makes a CLIPForImageClassification`(name: String) throws {
    let made = try checkpoint(name).classifying(["a", "b"], seed: 1)
    #expect(made.configurationJSON["model_type"] == "clip")
    #expect(made.configurationJSON["architectures"] == ["CLIPForImageClassification"])
    #expect(made.configurationJSON["vision_config"]?["hidden_size"] == 16)
    #expect(made.configurationJSON["id2label"] == ["0": "a", "1": "b"])
    #expect(made.configuration.head?.labels == ["a", "b"])
    #expect(made.configuration.modelType == "clip")
    #expect(try made.model().head?.table.shape == [2, 16])
  }

  @Test(arguments: ["clip", "clip-vision", "mixer", "mixer-classes", "vit"])
  func `fewer blocks are said where the file says sizes`(name: String) throws {
    let whole = try checkpoint(name)
    let json = Architectures.configuration(whole.configurationJSON, withBlocks: [0, 2])
    let part = try configuration(json)
    #expect(part == whole.configuration.selecting(blocks: [0, 2]))
    let selected = try whole.model().selecting(blocks: [0, 2])
    let again = try TransformerModel(
      configuration: part, tensors: selected.tensors, source: "two blocks")
    #expect(again.blocks.count == 2)
  }

  @Test func `timm's names stand for sizes`() throws {
    let file: JSONValue = [
      "architecture": "mixer_b16_224", "num_classes": 3, "num_features": 768,
      "global_pool": "avg",
      "model_args": ["img_size": [32, 48], "num_classes": 3, "in_chans": 3],
      "pretrained_cfg": ["num_classes": 3],
    ]
    let model = try configuration(file)
    #expect(model.hiddenSize == 768 && model.blockCount == 12 && model.image?.patch == 16)
    #expect(model.tokenMixing == 384 && model.feedForwardSize == 3072)
    #expect(model.contextLength == 6 && model.head?.labels == ["LABEL_0", "LABEL_1", "LABEL_2"])
    // The name does not fit a model of fewer blocks.
    let part = Architectures.configuration(file, withBlocks: [1, 2, 3])
    #expect(part["architecture"] == nil && part["model_type"] == "mlp-mixer")
    #expect(part["model_args"]?["num_blocks"] == 3)
    #expect(try configuration(part) == model.selecting(blocks: [1, 2, 3]))
    guard case .object(let table) = file else { return }
    let named = MLPMixer.classifying(table, ["x", "y"])
    #expect(named["architecture"] == "mixer_b16_224" && named["label_names"] == ["x", "y"])
    #expect(named["pretrained_cfg"]?["num_classes"] == 2)
    #expect(try configuration(.object(named)).head?.labels == ["x", "y"])
  }

  @Test(
    arguments: [
      ["model_type": "mlp-mixer"],
      [
        "model_type": "mlp-mixer", "num_classes": 3,
        "model_args": ["img_size": 8, "patch_size": 2],
      ],
      ["architecture": "mixer_s32_224", "num_classes": 1],
      ["architecture": "mixer_s32_224", "num_classes": -1],
      ["architecture": "mixer_s32_224", "num_classes": 2, "global_pool": ""],
      ["architecture": "mixer_s32_224", "num_classes": 2, "label_names": ["a"]],
      ["architecture": "mixer_s32_224", "model_args": ["stem_norm": true]],
      ["architecture": "mixer_s32_224", "model_args": ["mlp_ratio": [0.5]]],
      ["architecture": "mixer_s32_224", "model_args": ["mlp_ratio": 1e-9]],
      ["architecture": "mixer_s32_224", "model_args": ["mlp_ratio": "x"]],
      ["architecture": "mixer_s32_224", "model_args": ["img_size": 16]],
      ["architecture": "resmlp_12_224"], ["architecture": 3], [:],
    ] as [JSONValue])
  func `a mixer that makes no sense is refused`(json: JSONValue) {
    let error = #expect(throws: PeatError.self) { try configuration(json) }
    #expect(error?.code == .badData)
  }

  @Test func `a mixer's ratios may be one, and are cut to whole numbers`() throws {
    let arguments: JSONValue = [
      "img_size": 8, "patch_size": 4, "in_chans": 1, "num_blocks": 1, "embed_dim": 10,
      "mlp_ratio": 0.77,
    ]
    let model = try configuration(
      ["model_type": "mlp-mixer", "num_classes": 0, "model_args": arguments])
    #expect(model.tokenMixing == 7 && model.feedForwardSize == 7 && model.head == nil)
    #expect(model.linearSizes.map(\.inputs) == [4, 7, 10, 7])
    #expect(model.linearSizes.map(\.outputs) == [7, 4, 7, 10])
    #expect(model.blockMatrixWeights == 2 * 28 + 2 * 70)
  }

  /// The tensors that are counted are the model's.
  @Test func `a description names every tensor of its model`() throws {
    let families = ProjectFolders.golden.appendingPathComponent("families")
    let names = try FileManager.default.contentsOfDirectory(atPath: families.path)
      .filter { $0 != "manifest.json" }
    for name in names {
      let model = try checkpoint(name).model()
      let stated = Dictionary(
        uniqueKeysWithValues: model.configuration.tensors.map { ($0.name, $0.shape) })
      #expect(stated == model.tensors.mapValues(\.shape), "\(name)")
    }
  }
}
