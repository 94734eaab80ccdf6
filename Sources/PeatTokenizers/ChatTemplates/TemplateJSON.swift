import PeatTensor

/// Writes a value as Python's `json.dumps(value, ensure_ascii=False)` does.
struct TemplateJSON {
  private let indent: String?
  private let itemSeparator: String
  private let keySeparator: String
  private let sortsKeys: Bool
  private let isASCII: Bool

  init(_ call: TemplateCall) {
    switch call.argument(1, "indent") {
    case .integer(let width): indent = String(repeating: " ", count: min(max(0, width), 64))
    case .string(let text): indent = String(text.prefix(64))
    default: indent = nil
    }
    if case .list(let separators) = call.argument(2, "separators"), separators.count == 2 {
      (itemSeparator, keySeparator) = (separators[0].printed, separators[1].printed)
    } else {
      (itemSeparator, keySeparator) = (indent == nil ? ", " : ",", ": ")
    }
    sortsKeys = call.argument(3, "sort_keys")?.isTrue ?? false
    isASCII = call.argument(0, "ensure_ascii")?.isTrue ?? false
  }

  func text(_ value: TemplateValue, _ interpreter: TemplateInterpreter) throws -> String {
    try text(value, 0, interpreter)
  }

  private func text(_ value: TemplateValue, _ level: Int, _ interpreter: TemplateInterpreter) throws
    -> String
  {
    switch value {
    case .none: return "null"
    case .bool(let truth): return truth ? "true" : "false"
    case .integer, .double: return value.represented
    case .string(let text): return quoted(text)
    case .list(let elements):
      return list(
        "[", try elements.map { try text($0, level + 1, interpreter) }, "]", level)
    case .dictionary(var entries):
      if sortsKeys { entries.sort { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) } }
      return list(
        "{",
        try entries.map {
          quoted($0.key) + keySeparator + (try text($0.value, level + 1, interpreter))
        }, "}", level)
    default: throw interpreter.failure("\(value.kind) can't be written as JSON")
    }
  }

  private func list(_ open: String, _ parts: [String], _ close: String, _ level: Int) -> String {
    guard let indent, !parts.isEmpty else {
      return open + parts.joined(separator: itemSeparator) + close
    }
    let inner = "\n" + String(repeating: indent, count: level + 1)
    return open + inner + parts.joined(separator: itemSeparator + inner) + "\n"
      + String(repeating: indent, count: level) + close
  }

  private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{8}": result += "\\b"
      case "\u{C}": result += "\\f"
      case _ where scalar.value < 0x20 || isASCII && scalar.value > 0x7E:
        for unit in String(scalar).utf16 {
          let digits = String(unit, radix: 16)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
