extension ByteJSON: Equatable {
  /// Whether both say the same in the same order; numbers as they are written.
  package static func == (left: ByteJSON, right: ByteJSON) -> Bool {
    switch (left, right) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.number(let a), .number(let b)): a == b
    case (.string(let a), .string(let b)): a == b
    case (.array(let a), .array(let b)): a == b
    case (.object(let a), .object(let b)):
      a.count == b.count && zip(a, b).allSatisfy { $0.key == $1.key && $0.value == $1.value }
    default: false
    }
  }
}

extension ByteJSON {
  /// As one line, as Python's `json.dumps(value, ensure_ascii=False)` writes it; numbers as they were written.
  package var text: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .number(let text): text
    case .string(let string): Self.quoted(string.text)
    case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
    case .object(let entries):
      "{"
        + entries.map { Self.quoted($0.key.text) + ": " + $0.value.text }.joined(separator: ", ")
        + "}"
    }
  }

  /// A string in quotes, with the escapes that JSON asks for and no more.
  package static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  package static func quoted(_ text: ByteString) -> String { quoted(text.text) }

  /// The value of an object's key, the last of several; `nil` where there is none, or it is no object.
  package func value(_ key: String) -> ByteJSON? {
    guard case .object(let entries) = self else { return nil }
    return entries.last { $0.key.bytes.elementsEqual(key.utf8) }?.value
  }
}
