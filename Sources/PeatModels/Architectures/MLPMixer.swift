// MLP-Mixer, which is no transformer. Mirrors timm `mlp_mixer.py`; Tolstikhin et al. 2021, <https://arxiv.org/abs/2105.01601>.

import PeatTensor

/// Pictures cut into patches; in each block one feed-forward layer over the tokens of a sequence, channel by channel, and one over the channels of each
/// token, both behind a layer norm. With a head of classes on the mean of all tokens, or none.
///
/// config.json is timm's: `architecture`, whose name stands for sizes, `num_classes`, `label_names`, and `model_args`, which hold what differs. Sizes without a
/// name have `"model_type": "mlp-mixer"` in the place of `architecture`, and in `model_args` the arguments of timm's `MlpMixer`: `img_size`, `patch_size`,
/// `in_chans`, `num_blocks`, `embed_dim` and `mlp_ratio`.
public enum MLPMixer: Architecture {
  public static let modelType = "mlp-mixer"
  public static let className = "MlpMixer"
  public static let seesBothWays = true
  public static let classificationSuffix = ""
  public static let blockCountKey = "num_blocks"
  public static let section: String? = "model_args"

  /// The sizes that timm's names stand for: patch, blocks, width.
  private static let named: [String: (patch: Int, blocks: Int, width: Int)] = [
    "mixer_s32_224": (32, 8, 512), "mixer_s16_224": (16, 8, 512),
    "mixer_b32_224": (32, 12, 768), "mixer_b16_224": (16, 12, 768),
    "mixer_l32_224": (32, 24, 1024), "mixer_l16_224": (16, 24, 1024),
  ]

  /// What `model_args` may hold beside sizes: of use to training in timm alone, or said elsewhere too.
  private static let ignored: Set<String> = [
    "num_classes", "global_pool", "drop_rate", "proj_drop_rate", "drop_path_rate", "nlhb",
  ]

  public static func isMeant(by json: JSONValue) -> Bool {
    guard let type = json["model_type"]?.string else {
      return json["architecture"]?.string.map { named[$0] != nil } ?? false
    }
    return type == modelType
  }

  public static func spelledOut(_ table: [String: JSONValue]) -> [String: JSONValue] {
    guard let sizes = table["architecture"]?.string.flatMap({ named[$0] }) else { return table }
    var table = table
    let usual: [String: JSONValue] = [
      "img_size": .integer(224), "patch_size": .integer(sizes.patch),
      "num_blocks": .integer(sizes.blocks), "embed_dim": .integer(sizes.width),
    ]
    let stated = (table["model_args"]?.object ?? [:]).filter { !$0.value.isNull }
    table["model_args"] = .object(usual.merging(stated) { $1 })
    table["architecture"] = nil
    table["model_type"] = .string(modelType)
    return table
  }

  public static func classifying(
    _ table: [String: JSONValue], _ names: [String]
  ) -> [String: JSONValue] {
    var table = table
    let count = JSONValue.integer(names.count)
    table["num_classes"] = count
    table["label_names"] = .array(names.map { .string($0) })
    for section in ["model_args", "pretrained_cfg"] {
      guard case .object(var values)? = table[section], values["num_classes"] != nil else {
        continue
      }
      values["num_classes"] = count
      table[section] = .object(values)
    }
    return table
  }

  public static func configuration(
    from file: ConfigurationFile
  ) throws -> TransformerConfiguration {
    let whole = ConfigurationFile(
      name: file.name, json: .object(spelledOut(file.json.object ?? [:])))
    guard let arguments = try whole.optionalTable("model_args") else {
      throw file.missing("model_args")
    }
    let known = ignored.union([
      "img_size", "patch_size", "in_chans", "num_blocks", "embed_dim", "mlp_ratio",
    ])
    for (key, value) in (arguments.json.object ?? [:]).sorted(by: { $0.key < $1.key })
    where !known.contains(key) && value != .bool(false) && !value.isNull {
      throw arguments.unsupported(key, value)
    }
    let image = try arguments.image(ownTokens: 0, sizeKey: "img_size", channelsKey: "in_chans")
    let width = try arguments.size("embed_dim")
    let (tokens, channels) = try innerSizes(arguments, width: width)
    var model = TransformerConfiguration(
      modelType: modelType,
      vocabularySize: image.patchSize,
      hiddenSize: width,
      blockCount: try arguments.size(blockCountKey),
      heads: 1,
      keyValueHeads: 1,
      headWidth: 1,
      feedForwardSize: channels,
      contextLength: image.patches,
      norm: .layer(epsilon: 1e-6),
      positions: .none,
      feedForward: .plain(.gelu),
      biases: .all,
      keys: keys)
    model.attention = .bidirectional
    model.tokenMixing = tokens
    model.image = image
    model.head = try head(whole, arguments)
    return model
  }

  /// How wide the two layers of a block are inside: `mlp_ratio` times the width, cut to whole numbers.
  private static func innerSizes(
    _ arguments: ConfigurationFile, width: Int
  ) throws -> (tokens: Int, channels: Int) {
    guard let stated = arguments.json["mlp_ratio"], !stated.isNull else {
      return (max(width / 2, 1), 4 * width)
    }
    let ratios = stated.array?.map(\.number) ?? [stated.number, stated.number]
    let sizes = ratios.map { ($0 ?? .nan) * Double(width) }
    guard sizes.count == 2, sizes.allSatisfy({ $0 >= 1 && $0 < 0x1p31 }) else {
      throw arguments.wrong(
        "mlp_ratio", "one number or two that make inner layers of at least 1", stated)
    }
    return (Int(sizes[0]), Int(sizes[1]))
  }

  private static func head(
    _ file: ConfigurationFile, _ arguments: ConfigurationFile
  ) throws -> HeadLayout? {
    let stated = try file.optionalCount("num_classes") ?? arguments.optionalCount("num_classes")
    let count = stated ?? 1000
    if count == 0 { return nil }
    guard count > 1, count < 1 << 20 else {
      throw file.wrong("num_classes", "0, or from 2 to 1048575", .integer(count))
    }
    try file.require("global_pool", [.string("avg")])
    try arguments.require("global_pool", [.string("avg")])
    let labels = file.json["label_names"]
    let names = labels?.array?.compactMap(\.string)
    if let labels, !labels.isNull, names?.count != count {
      throw file.wrong("label_names", "a list of \(count) texts, as num_classes says", labels)
    }
    return HeadLayout(
      place: .mean, weight: "head.weight", bias: "head.bias",
      labels: names ?? (0..<count).map { "LABEL_\($0)" })
  }

  public static let keys = TransformerKeys(
    embedding: "stem.proj.weight",
    positions: nil,
    blocks: "blocks",
    attentionNorm: "norm1",
    projections: .tokens("mlp_tokens.fc1"),
    attentionOutput: "mlp_tokens.fc2",
    feedForwardNorm: "norm2",
    gate: nil,
    up: "mlp_channels.fc1",
    down: "mlp_channels.fc2",
    finalNorm: "norm",
    image: ImageKeys(bias: "stem.proj.bias", ownTokens: []))
}
