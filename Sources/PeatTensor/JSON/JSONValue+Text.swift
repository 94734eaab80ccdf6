import Foundation

/// JSON values keep whether a number is written as a whole one: 3.0 stays 3.0, since transformers tells `float` from `int` in config.json.
extension JSONValue {
  /// The value that bytes hold.
  init(parsing data: Data) throws(JSONFault) {
    self.init(try JSONParser.parse(data))
  }

  init(_ value: ByteJSON) {
    switch value {
    case .null: self = .null
    case .bool(let flag): self = .bool(flag)
    case .number(let text): self = Int(text).map { .integer($0) } ?? .number(Double(text) ?? .nan)
    case .string(let text): self = .string(text.text)
    case .array(let values): self = .array(values.map { JSONValue($0) })
    case .object(let members):
      self = .object(
        Dictionary(members.map { ($0.key.text, JSONValue($0.value)) }, uniquingKeysWith: { $1 }))
    }
  }

  /// The text of it, keys sorted, each on a line of its own; as `JSONEncoder` writes it but for numbers.
  ///
  /// - Throws: where a number is none.
  func text(indentedBy depth: Int = 0) throws -> String {
    let pad = String(repeating: "  ", count: depth + 1)
    let end = "\n" + String(repeating: "  ", count: depth)
    switch self {
    case .null: return "null"
    case .bool(let flag): return flag ? "true" : "false"
    case .integer(let number): return String(number)
    case .number(let number):
      guard number.isFinite else {
        throw PeatError.badData("A number to be written as JSON is \(number).")
      }
      return number.description
    case .string(let text): return try Self.quoted(text)
    case .array(let values):
      if values.isEmpty { return "[]" }
      let lines = try values.map { pad + (try $0.text(indentedBy: depth + 1)) }
      return "[\n" + lines.joined(separator: ",\n") + end + "]"
    case .object(let table):
      if table.isEmpty { return "{}" }
      let lines = try table.sorted { $0.key < $1.key }.map { key, value in
        "\(pad)\(try Self.quoted(key)) : \(try value.text(indentedBy: depth + 1))"
      }
      return "{\n" + lines.joined(separator: ",\n") + end + "}"
    }
  }

  private static func quoted(_ text: String) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return String(decoding: try encoder.encode(text), as: UTF8.self)
  }
}

extension JSONParser {
  /// The one value that the bytes of a file hold.
  static func parse(_ data: Data) throws(JSONFault) -> ByteJSON {
    guard String(validating: data, as: UTF8.self) != nil else {
      throw JSONFault(line: 1, reason: "the text is not UTF-8", isAtEnd: false)
    }
    var parser = JSONParser(Array(data)[...])
    return try parser.parseWhole()
  }
}
