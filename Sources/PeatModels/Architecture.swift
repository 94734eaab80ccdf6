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

  /// Throws where a key is missing, wrong, or asks for something this program does not compute.
  static func configuration(from file: ConfigurationFile) throws -> TransformerConfiguration
}

/// The architectures this program knows. A new one is one file in Architectures/ and one line here.
public enum Architectures {
  public static let all: [any Architecture.Type] = [Llama.self, GPT2.self]

  /// The architecture that names its blocks as these tensors are named, with or without PEFT's prefix; `nil` if none.
  public static func architecture(ofTensors names: some Sequence<String>) -> (
    any Architecture.Type
  )? {
    let names = Array(names)
    return all.first { architecture in
      let prefix = architecture.keys.blocks + "."
      return !names.isEmpty
        && names.allSatisfy { $0.hasPrefix(prefix) || $0.hasPrefix("base_model.model." + prefix) }
    }
  }

  /// config.json for a model of fewer blocks of the same kind.
  public static func configuration(_ json: JSONValue, withBlocks numbers: [Int]) -> JSONValue {
    guard case .object(var table) = json,
      let architecture = all.first(where: { $0.modelType == json["model_type"]?.string })
    else { return json }
    if let count = table[architecture.blockCountKey]?.integer {
      // The list with one entry per block keeps the entries of the blocks that stay.
      if let types = table["layer_types"]?.array, types.count == count {
        table["layer_types"] = .array(numbers.filter { $0 < count }.map { types[$0] })
      }
    }
    table[architecture.blockCountKey] = .integer(numbers.count)
    return .object(table)
  }

  /// The description of the model in a config.json.
  public static func configuration(from file: ConfigurationFile) throws -> TransformerConfiguration
  {
    let type = try file.string("model_type")
    guard let architecture = all.first(where: { $0.modelType == type }) else {
      let known = all.map { $0.modelType }.sorted().joined(separator: ", ")
      throw PeatError.badData(
        "'\(file.name)' is for the architecture '\(type)', which is not supported. Supported: \(known)."
      )
    }
    let configuration = try architecture.configuration(from: file)
    try configuration.validate(file.name)
    return configuration
  }
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

  public func number(_ key: String, default standard: Double) throws -> Double {
    guard let value = value(key) else { return standard }
    guard let number = value.number, number.isFinite else { throw wrong(key, "a number", value) }
    return number
  }

  public func flag(_ key: String, default standard: Bool) throws -> Bool {
    guard let value = value(key) else { return standard }
    guard let flag = value.bool else { throw wrong(key, "true or false", value) }
    return flag
  }

  /// Throws unless `key` is absent or has one of the values this program computes.
  public func require(_ key: String, _ allowed: [JSONValue]) throws {
    guard let value = value(key), !allowed.contains(value) else { return }
    throw unsupported(key, value)
  }

  public func unsupported(_ key: String, _ value: JSONValue) -> PeatError {
    .badData("'\(name)' asks for \(key) = \(shown(value)), which this program does not compute.")
  }

  private func missing(_ key: String) -> PeatError {
    .badData("'\(name)' has no '\(key)', which a model of its type needs.")
  }

  private func wrong(_ key: String, _ expected: String, _ value: JSONValue) -> PeatError {
    .badData("'\(name)' has \(key) = \(shown(value)); expected \(expected).")
  }

  private func shown(_ value: JSONValue) -> String {
    let text = (try? JSONFile.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? "?"
    return String(text.split(separator: "\n").joined(separator: " ").prefix(80))
  }
}

extension TransformerConfiguration {
  /// Throws where sizes contradict each other.
  func validate(_ name: String) throws {
    func check(_ holds: Bool, _ message: String) throws {
      if !holds { throw PeatError.badData("'\(name)': \(message).") }
    }
    switch norm {
    case .rms(let epsilon), .layer(let epsilon):
      try check(epsilon >= 0, "the norm's epsilon \(epsilon) can't be negative")
    }
    try check(
      heads % keyValueHeads == 0,
      "\(heads) attention heads can't share \(keyValueHeads) key/value heads evenly")
    if case .rotary(let theta) = positions {
      try check(
        headWidth % 2 == 0, "a rotary embedding needs an even head width, found \(headWidth)")
      try check(theta > 1, "rope_theta \(theta) must be above 1")
    }
    // Products of two sizes are computed in Int; sizes themselves are below 2³¹.
    try check(
      heads < 1 << 16 && headWidth < 1 << 16, "\(heads) heads of width \(headWidth) are too many")
    try check(blockCount < 1 << 16, "\(blockCount) blocks are too many")
    // So that whoever counts weights, bytes or an adapter's values can do so in Int.
    let perBlock = linearSizes.reduce(0.0) { $0 + Double($1.inputs) * Double($1.outputs) }
    let tables = 2 * Double(vocabularySize) + (positions == .learned ? Double(contextLength) : 0)
    try check(
      Double(blockCount) * perBlock + tables * Double(hiddenSize) < 0x1p44,
      "its sizes make a model of more than 17 trillion weights, which is too many")
  }
}
