import PeatTensor

/// A family of checkpoints: reads its config.json into the description the model is built from.
public protocol Architecture: Sendable {
  /// `model_type` in config.json.
  static var modelType: String { get }

  /// The names of its tensors, and how its linear layers' weights lie in memory.
  static var keys: TransformerKeys { get }
  static var layout: WeightLayout { get }

  /// The key in config.json that says how many blocks there are.
  static var blockCountKey: String { get }

  /// The key for the blocks of a decoder behind them; `nil`: there is none.
  static var decoderBlockCountKey: String? { get }
  /// The table in config.json in which that key and the other sizes stand; `nil`: the file itself.
  static var section: String? { get }

  /// Other names that config.json may have for keys of the family, which transformers reads as well (`attribute_map`): by them the family's own.
  static var aliases: [String: String] { get }

  /// Whether a config.json is for this family: by its `model_type`.
  static func isMeant(by json: JSONValue) -> Bool

  /// config.json with all sizes said that a name stands for.
  static func spelledOut(_ table: [String: JSONValue]) -> [String: JSONValue]

  /// config.json of the same model with a head of these classes.
  static func classifying(
    _ table: [String: JSONValue], _ names: [String]
  ) -> [String: JSONValue]

  /// Throws where a key is missing, wrong, or asks for something this program does not compute.
  static func configuration(from file: ConfigurationFile) throws -> TransformerConfiguration

  /// What transformers calls the family, with a head behind it: `BertForSequenceClassification`.
  static var className: String { get }

  /// What transformers calls it with a head of classes, behind that.
  static var classificationSuffix: String { get }

  /// Whether queries see both ways, so that no such model predicts each next token.
  static var seesBothWays: Bool { get }
}

extension Architecture {
  public static var layout: WeightLayout { .outputsByInputs }

  public static var classificationSuffix: String { "ForSequenceClassification" }

  public static var seesBothWays: Bool { false }

  public static var blockCountKey: String { "num_hidden_layers" }

  public static var decoderBlockCountKey: String? { nil }
  public static var section: String? { nil }
  public static var aliases: [String: String] { [:] }

  public static func isMeant(by json: JSONValue) -> Bool {
    json["model_type"]?.string == modelType
  }

  public static func spelledOut(_ table: [String: JSONValue]) -> [String: JSONValue] {
    underOwnNames(table)
  }

  /// config.json with the family's own names in the place of others for the same.
  static func underOwnNames(_ table: [String: JSONValue]) -> [String: JSONValue] {
    var table = table
    for (other, own) in aliases {
      guard let value = table.removeValue(forKey: other), !value.isNull else { continue }
      if table[own]?.isNull ?? true { table[own] = value }
    }
    return table
  }

  /// The same of a file.
  ///
  /// - Throws: `badData` where both names stand there and say different things.
  static func underOwnNames(_ file: ConfigurationFile) throws -> ConfigurationFile {
    guard let table = file.json.object else { return file }
    for (other, own) in aliases.sorted(by: { $0.key < $1.key }) {
      if let first = table[own], let second = table[other], !first.isNull, !second.isNull,
        first != second
      {
        throw PeatError.badData(
          "'\(file.name)' has \(own) and \(other), which mean the same and differ. Leave one of them out."
        )
      }
    }
    return ConfigurationFile(name: file.name, json: .object(underOwnNames(table)))
  }

  public static func classifying(
    _ table: [String: JSONValue], _ names: [String]
  ) -> [String: JSONValue] {
    var table = table
    table["architectures"] = .array([.string(className + classificationSuffix)])
    table["problem_type"] = .string("single_label_classification")
    table["num_labels"] = nil
    table["id2label"] = .object(
      Dictionary(uniqueKeysWithValues: names.enumerated().map { (String($0), .string($1)) }))
    table["label2id"] = .object(
      Dictionary(names.enumerated().map { ($1, .integer($0)) }, uniquingKeysWith: { $1 }))
    return table
  }
}

/// The architectures this program knows. A new one is one file in Architectures/ and one line here.
public enum Architectures {
  public static let all: [any Architecture.Type] = [
    Llama.self, GPT2.self, GPTNeoX.self, OPT.self, Mistral.self, Qwen2.self, Qwen3.self, Gemma.self,
    Gemma2.self, BERT.self, RoBERTa.self, XLMRoBERTa.self, DistilBERT.self, ViT.self,
    DeiT.self, T5.self, MT5.self, CLIP.self, CLIPVision.self, MLPMixer.self,
  ]

  /// Their types, for messages.
  public static var supported: String { all.map { $0.modelType }.sorted().joined(separator: ", ") }

  /// The architecture with this `model_type`; `nil` if none.
  public static func architecture(ofType type: String?) -> (any Architecture.Type)? {
    all.first { $0.modelType == type }
  }

  /// The architecture that a config.json is for; `nil` if none.
  static func architecture(of json: JSONValue) -> (any Architecture.Type)? {
    all.first { $0.isMeant(by: json) }
  }

  /// The architecture that names its blocks as these tensors are named, with or without PEFT's prefix; of several the one that knows the most of
  /// their layers. `nil` if none.
  public static func architecture(ofTensors names: some Sequence<String>) -> (
    any Architecture.Type
  )? {
    let names = names.map(LowRankNames.inModel)
    var best: (architecture: any Architecture.Type, known: Int)?
    for architecture in all {
      let prefixes = architecture.keys.stacks.map { $0 + "." }
      // A head's tensors stand beside those of blocks.
      guard names.contains(where: { prefixes.contains(where: $0.hasPrefix) }) else { continue }
      let paths = architecture.keys.allLinearPaths.map { ".\($0)." }
      let known = names.count { name in paths.contains { name.contains($0) } }
      if known > best?.known ?? -1 { best = (architecture, known) }
    }
    return best?.architecture
  }

  /// config.json for a model of fewer blocks of the same kind.
  public static func configuration(_ json: JSONValue, withBlocks numbers: [Int]) -> JSONValue {
    guard case .object(let whole) = json, let architecture = architecture(of: json)
    else { return json }
    var file = architecture.spelledOut(whole)
    var table = architecture.section.map { file[$0]?.object ?? [:] } ?? file
    if let count = table[architecture.blockCountKey]?.integer {
      // What a file leaves to a block's number has to be said where numbers change.
      let stated = ConfigurationFile(name: "config.json", json: .object(file))
      if table["layer_types"] == nil,
        let types = (try? architecture.configuration(from: stated))?.windows?.layerTypes
      {
        table["layer_types"] = .array(types.map { .string($0) })
      }
      // The list with one entry per block keeps the entries of the blocks that stay.
      if let types = table["layer_types"]?.array, types.count == count {
        table["layer_types"] = .array(numbers.filter { $0 < count }.map { types[$0] })
      }
    }
    table[architecture.blockCountKey] = .integer(numbers.count)
    if let key = architecture.decoderBlockCountKey,
      let encoder = file[architecture.blockCountKey]?.integer
    {
      let count = numbers.count { $0 < encoder }
      table[architecture.blockCountKey] = .integer(count)
      table[key] = .integer(numbers.count - count)
    }
    guard let section = architecture.section else { return .object(table) }
    file[section] = .object(table)
    return .object(file)
  }

  /// config.json of the same model with a head of classes.
  package static func classifying(_ json: JSONValue, _ names: [String]) throws -> JSONValue {
    guard case .object(let table) = json, let architecture = architecture(of: json)
    else { return json }
    return .object(architecture.classifying(table, names))
  }

  /// The description of the model in a config.json.
  public static func configuration(from file: ConfigurationFile) throws -> TransformerConfiguration
  {
    guard let architecture = architecture(of: file.json) else {
      // timm's files have an `architecture` in its place.
      let key = !file.has("model_type") && file.has("architecture") ? "architecture" : "model_type"
      let type = try file.string(key)
      throw PeatError.badData(
        "'\(file.name)' is for the architecture '\(type)', which is not supported. Supported: \(supported)."
      )
    }
    try file.checkNothingElseIsAsked(of: architecture)
    let configuration = try architecture.configuration(from: architecture.underOwnNames(file))
    try configuration.validate(file.name)
    return configuration
  }
}

/// What `layer_types` calls the kinds of attention.
enum LayerType {
  static let sliding = "sliding_attention"
  static let full = "full_attention"
}

extension [Int?] {
  /// Windows as `layer_types` says them.
  var layerTypes: [String] { map { $0 == nil ? LayerType.full : LayerType.sliding } }
}

/// A config.json whose values are asked for by key, with errors that name the key.
public struct ConfigurationFile: Sendable {
  public let name: String
  public let json: JSONValue

  public init(name: String, json: JSONValue) {
    self.name = name
    self.json = json
  }

  private func value(_ key: String) -> JSONValue? {
    guard let value = json[key], !value.isNull else { return nil }
    return value
  }

  public func has(_ key: String) -> Bool { value(key) != nil }

  public func string(_ key: String) throws -> String {
    guard let text = try optionalString(key) else { throw missing(key) }
    return text
  }

  public func optionalString(_ key: String) throws -> String? {
    guard let value = value(key) else { return nil }
    guard let text = value.string else { throw wrong(key, "a text", value) }
    return text
  }

  /// A positive whole number below 2³¹.
  public func size(_ key: String) throws -> Int {
    guard let number = try optionalSize(key) else { throw missing(key) }
    return number
  }

  public func optionalSize(_ key: String) throws -> Int? {
    guard let value = value(key) else { return nil }
    guard let number = value.integer, number > 0, number < 1 << 31 else {
      throw wrong(key, "a positive whole number", value)
    }
    return number
  }

  /// The width of states, how many heads there are, and how wide each is: as stated, or the states' width divided among them.
  ///
  /// - Parameters:
  ///   - hidden, heads: the keys.
  ///   - headWidth: as stated.
  func attentionSizes(
    hiddenSize hidden: String = "hidden_size", heads: String = "num_attention_heads",
    headWidth: Int? = nil
  ) throws -> (hidden: Int, heads: Int, headWidth: Int) {
    let (size, count) = (try size(hidden), try size(heads))
    guard headWidth != nil || size % count == 0 else {
      throw PeatError.badData(
        "'\(name)': \(hidden) \(size) is not a multiple of \(heads) \(count).")
    }
    return (size, count, headWidth ?? size / count)
  }

  /// A whole number from 0 on, below 2³¹.
  public func optionalCount(_ key: String) throws -> Int? {
    guard let value = value(key) else { return nil }
    guard let number = value.integer, number >= 0, number < 1 << 31 else {
      throw wrong(key, "a whole number from 0 on", value)
    }
    return number
  }

  public func number(_ key: String, default standard: Double) throws -> Double {
    try optionalNumber(key) ?? standard
  }

  public func optionalNumber(_ key: String) throws -> Double? {
    guard let value = value(key) else { return nil }
    guard let number = value.number, number.isFinite else { throw wrong(key, "a number", value) }
    return number
  }

  /// A number above 0.
  func optionalPositive(_ key: String) throws -> Double? {
    guard let number = try optionalNumber(key) else { return nil }
    guard number > 0 else {
      throw PeatError.badData("'\(name)' has \(key) = \(number); expected a number above 0.")
    }
    return number
  }

  public func flag(_ key: String, default standard: Bool) throws -> Bool {
    guard let value = value(key) else { return standard }
    guard let flag = value.bool else { throw wrong(key, "true or false", value) }
    return flag
  }

  /// A table inside this file.
  public func optionalTable(_ key: String) throws -> ConfigurationFile? {
    guard let value = value(key) else { return nil }
    guard value.object != nil else { throw wrong(key, "a table", value) }
    return ConfigurationFile(name: "\(name): \(key)", json: value)
  }

  /// An activation function, by the name that transformers has for it.
  public func activation(
    _ key: String, default standard: ActivationFunction
  ) throws -> ActivationFunction {
    guard let name = try optionalString(key) else { return standard }
    guard let function = ActivationFunction(configurationName: name) else {
      throw unsupported(key, .string(name))
    }
    return function
  }

  /// The head of a model that predicts each next token; or, where the file says so, one of classes on the last state of a sequence, or none.
  ///
  /// - Parameter padding: the token that the family fills up with where the file does not say.
  func tokenHead(_ weight: String, tied: Bool, padding: Int32? = nil) throws -> HeadLayout? {
    if try isBare { return nil }
    guard try hasClasses else {
      return .nextToken(weight, isTied: try flag("tie_word_embeddings", default: tied))
    }
    var head = HeadLayout(place: .last, weight: "score.weight", labels: try labels)
    head.padToken = try padToken(usual: padding)
    return head
  }

  /// `pad_token_id`: no token where the file says null.
  private func padToken(usual: Int32?) throws -> Int32? {
    guard let value = json["pad_token_id"] else { return usual }
    if value.isNull { return nil }
    guard let number = value.integer, let token = Int32(exactly: number) else {
      throw wrong("pad_token_id", "a whole number or null", value)
    }
    return token
  }

  /// Whether the model is one of classes, `…ForSequenceClassification` or `…ForImageClassification`.
  var hasClasses: Bool {
    get throws {
      try kind.map {
        $0.hasSuffix("ForSequenceClassification") || $0.hasSuffix("ForImageClassification")
      } ?? false
    }
  }

  /// How pictures are cut: `image_size`, `patch_size` and `num_channels`, as one number or a list of height and width.
  ///
  /// - Parameters:
  ///   - standard: the sides of pictures and patches where the file says none.
  ///   - sizeKey, channelsKey: other names of the keys.
  func image(
    ownTokens: Int, standard: (picture: Int, patch: Int)? = nil, sizeKey: String = "image_size",
    channelsKey: String = "num_channels"
  ) throws -> ImageInput {
    func sides(_ key: String, _ standard: Int?) throws -> (Int, Int) {
      guard let list = value(key)?.array else {
        guard let side = try optionalSize(key) ?? standard else { throw missing(key) }
        return (side, side)
      }
      guard list.count == 2, let height = list[0].integer, let width = list[1].integer,
        (1...8192).contains(height), (1...8192).contains(width)
      else { throw wrong(key, "one size or two, from 1 to 8192", .array(list)) }
      return (height, width)
    }
    let (height, width) = try sides(sizeKey, standard?.picture)
    let (patch, other) = try sides("patch_size", standard?.patch)
    let channels = try optionalSize(channelsKey) ?? 3
    guard patch == other, patch <= min(height, width), height <= 8192, width <= 8192,
      channels <= 64
    else {
      throw PeatError.badData(
        "'\(name)': pictures of \(height) × \(width) with \(channels) \(channels == 1 ? "channel" : "channels") can't be cut into patches of \(patch) × \(other). Patches must be square and no larger than the picture."
      )
    }
    return ImageInput(
      height: height, width: width, patch: patch, channels: channels, ownTokens: ownTokens)
  }

  /// The first of `architectures`.
  var kind: String? {
    get throws {
      guard let names = value("architectures") else { return nil }
      guard let first = names.array?.first?.string else {
        throw wrong("architectures", "a list of texts", names)
      }
      return first
    }
  }

  /// The names of the classes, by `id2label`; without it as many as `num_labels` says, or two.
  var classNames: [String] {
    get throws {
      guard let labels = value("id2label") else {
        let count = try optionalSize("num_labels") ?? 2
        guard count < 1 << 20 else {
          throw PeatError.badData(
            "'\(name)' has num_labels = \(count), which are too many classes.")
        }
        return (0..<count).map { "LABEL_\($0)" }
      }
      guard let table = labels.object, !table.isEmpty, table.count < 1 << 20 else {
        throw wrong("id2label", "a table of class names by number", labels)
      }
      return try (0..<table.count).map { number in
        guard let name = table[String(number)]?.string else {
          throw wrong("id2label", "a name for each number from 0 to \(table.count - 1)", labels)
        }
        return name
      }
    }
  }

  /// The same, of a head that this program computes.
  var labels: [String] {
    get throws {
      try require("problem_type", [.string("single_label_classification")])
      let names = try classNames
      guard names.count > 1 else {
        throw PeatError.badData(
          "'\(name)' has one class, which makes a regression; this program does not compute it.")
      }
      return names
    }
  }

  /// For each block how many keys its queries see at most: by `layer_types` or, in older files, by a rule, as many as `sliding_window` says.
  ///
  /// - Parameter standard: where `sliding_window` is not there.
  func windows(
    blocks: Int, standard: Int, _ isSliding: (Int) -> Bool
  ) throws -> [Int?] {
    // Before a list as long is made.
    guard blocks < TransformerConfiguration.blockLimit else {
      throw PeatError.badData("'\(name)': \(blocks) blocks are too many.")
    }
    let window = try optionalSize("sliding_window") ?? standard
    guard let types = json["layer_types"], !types.isNull else {
      return (0..<blocks).map { isSliding($0) ? window : nil }
    }
    guard let names = types.array?.map(\.string), names.count == blocks else {
      throw wrong("layer_types", "a list with one text per block, \(blocks) of them", types)
    }
    return try names.map { name in
      switch name {
      case LayerType.sliding: window
      case LayerType.full: nil
      default: throw unsupported("layer_types", types)
      }
    }
  }

  /// Throws unless `key` is absent or has one of the values this program computes.
  public func require(_ key: String, _ allowed: [JSONValue]) throws {
    guard let value = value(key), !allowed.contains(value) else { return }
    throw unsupported(key, value)
  }

  public func unsupported(_ key: String, _ value: JSONValue) -> PeatError {
    .badData("'\(name)' asks for \(key) = \(shown(value)), which this program does not compute.")
  }

  func missing(_ key: String) -> PeatError {
    .badData("'\(name)' has no '\(key)', which a model of its type needs.")
  }

  func wrong(_ key: String, _ expected: String, _ value: JSONValue) -> PeatError {
    .badData("'\(name)' has \(key) = \(shown(value)); expected \(expected).")
  }

  private func shown(_ value: JSONValue) -> String {
    let text = (try? JSONFile.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? "?"
    return String(text.split(separator: "\n").joined(separator: " ").prefix(80))
  }
}

extension TransformerConfiguration {
  static let blockLimit = 1 << 16

  /// Throws where sizes contradict each other.
  func validate(_ name: String) throws {
    func check(_ holds: Bool, _ message: String) throws {
      if !holds { throw PeatError.badData("'\(name)': \(message).") }
    }
    switch norm {
    case .rms(let epsilon, _), .layer(let epsilon):
      try check(epsilon >= 0, "the norm's epsilon \(epsilon) can't be negative")
    }
    try check(
      heads % keyValueHeads == 0,
      "\(heads) attention heads can't share \(keyValueHeads) key/value heads evenly")
    // Products of two sizes are computed in Int; sizes themselves are below 2³¹.
    try check(
      heads < 1 << 16 && headWidth < 1 << 16, "\(heads) heads of width \(headWidth) are too many")
    try check(blockCount < Self.blockLimit, "\(blockCount) blocks are too many")
    // So that whoever counts weights, bytes or an adapter's values can do so in Int.
    let perBlock = linearSizes.reduce(0.0) { $0 + Double($1.inputs) * Double($1.outputs) }
    let tables = 2 * Double(vocabularySize) + (positions.isLearned ? Double(contextLength) : 0)
    let width = Double(max(hiddenSize, embeddingWidth))
    try check(
      Double(blockCount) * perBlock + (tables + 2 * Double(hiddenSize)) * width < 0x1p44,
      "its sizes make a model of more than 17 trillion weights, which is too many")
  }
}
