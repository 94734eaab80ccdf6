import Foundation

/// Any JSON value: for files whose other keys must survive when one is changed, such as config.json.
public enum JSONValue: Sendable, Hashable, Codable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .integer(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .integer(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  public subscript(key: String) -> JSONValue? {
    if case .object(let table) = self { return table[key] }
    return nil
  }

  public var isNull: Bool { self == .null }
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var integer: Int? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int(exactly: value)
    default: nil
    }
  }
  public var number: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  public var object: [String: JSONValue]? {
    if case .object(let value) = self { value } else { nil }
  }
}

/// JSON files, read with errors that name the file and written whole, with sorted keys.
public enum JSONFile {
  /// Reads and decodes a file.
  public static func read<Value: Decodable>(_ type: Value.Type, from url: URL) throws -> Value {
    try decode(type, from: bytes(of: url), name: url.path)
  }

  /// The bytes of a file; throws `inputOutput` where it is missing or can't be read.
  public static func bytes(of url: URL) throws -> Data {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("There is no file '\(url.path)'.")
    }
    guard !isFolder.boolValue else {
      throw PeatError.inputOutput("'\(url.path)' is a folder; a file was expected.")
    }
    // A pipe would be waited for, and a device can be without end.
    let kind =
      try? FileManager.default.attributesOfItem(atPath: url.resolvingSymlinksInPath().path)[.type]
      as? FileAttributeType
    guard kind == nil || kind == .typeRegular else {
      throw PeatError.inputOutput(
        "'\(url.path)' is a pipe, a socket or a device; a file was expected.")
    }
    do { return try Data(contentsOf: url) } catch {
      throw PeatError.inputOutput(
        "Can't read '\(url.path)': \(error.localizedDescription)", cause: error)
    }
  }

  /// Decodes bytes that came from `name`.
  public static func decode<Value: Decodable>(
    _ type: Value.Type, from data: Data, name: String
  ) throws -> Value {
    let parsed: ByteJSON
    do { parsed = try JSONParser.parse(data) } catch {
      throw PeatError.badData(
        "'\(name)' can't be understood: it is not valid JSON, line \(error.line): \(error.reason).")
    }
    if type == JSONValue.self, let value = JSONValue(parsed) as? Value { return value }
    do { return try JSONReader.read(type, from: parsed) } catch {
      throw PeatError.badData("'\(name)' can't be understood: \(describe(error)).", cause: error)
    }
  }

  public static func encode(
    _ value: some Encodable, dates: JSONEncoder.DateEncodingStrategy = .deferredToDate
  ) throws -> Data {
    if let json = value as? JSONValue { return Data("\(try json.text())\n".utf8) }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = dates
    return try encoder.encode(value) + Data("\n".utf8)
  }

  public static func write(_ value: some Encodable, to url: URL) throws {
    try AtomicOutput.write(encode(value), to: url)
  }
}

extension Double {
  /// The number, where JSON has it: it knows no NaN and no infinity.
  package var finite: Double? { isFinite ? self : nil }
}
