import PeatTensor

/// A value in a chat template, with Python's rules for truth, equality and printing.
indirect enum TemplateValue: Sendable {
  /// What has no value, with the name under which it was looked for.
  case undefined(String)
  case none
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case string(String)
  case list([TemplateValue])
  case dictionary([(key: String, value: TemplateValue)])
  /// The one kind of value that a template can change, by its number.
  case namespace(Int)
  case macro(Int)
  /// A function of the surroundings, or a method and the value that it belongs to.
  case function(String)
  case method(String, of: TemplateValue)

  init(_ json: ByteJSON) {
    switch json {
    case .null: self = .none
    case .bool(let value): self = .bool(value)
    case .number(let text):
      self = Int(text).map { .integer($0) } ?? .double(Double(text) ?? .nan)
    case .string(let text): self = .string(text.text)
    case .array(let elements): self = .list(elements.map { TemplateValue($0) })
    case .object(let entries):
      self = .dictionary(entries.map { ($0.key.text, TemplateValue($0.value)) })
    }
  }

  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value): value
    case .integer(let value): value != 0
    case .double(let value): value != 0
    case .string(let text): !text.isEmpty
    case .list(let elements): !elements.isEmpty
    case .dictionary(let entries): !entries.isEmpty
    case .namespace, .macro, .function, .method: true
    }
  }

  /// How much work it is to go through it once, in steps.
  var weight: Int {
    switch self {
    case .string(let text): text.utf8.count / 64
    case .list(let elements): elements.count
    case .dictionary(let entries): entries.count
    default: 0
    }
  }

  /// Whether it nests no deeper and is no larger than allowed, a part counting one and a string its bytes too.
  func isBounded(size: inout Int, parts: inout Int, limit: Int, depth: Int) -> Bool {
    size += 1
    parts += 1
    guard depth > 0, size <= limit else { return false }
    switch self {
    case .string(let text):
      size += text.utf8.count
      return size <= limit
    case .list(let elements):
      for element in elements
      where !element.isBounded(size: &size, parts: &parts, limit: limit, depth: depth - 1) {
        return false
      }
    case .dictionary(let entries):
      for entry in entries {
        size += entry.key.utf8.count
        guard entry.value.isBounded(size: &size, parts: &parts, limit: limit, depth: depth - 1)
        else { return false }
      }
    case .method(_, let value):
      return value.isBounded(size: &size, parts: &parts, limit: limit, depth: depth - 1)
    default: break
    }
    return true
  }

  /// As Python names the type, for errors.
  var kind: String {
    switch self {
    case .undefined(let name): "undefined ('\(name)')"
    case .none: "None"
    case .bool: "a truth value"
    case .integer, .double: "a number"
    case .string: "a string"
    case .list: "a list"
    case .dictionary: "a dictionary"
    case .namespace: "a namespace"
    case .macro, .function, .method: "a function"
    }
  }

  /// The number, where it is one; truth values count as 0 and 1.
  var number: Double? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .integer(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }

  /// The value of a dictionary's key.
  func entry(_ key: String) -> TemplateValue? {
    guard case .dictionary(let entries) = self else { return nil }
    return entries.first { TemplateText.areEqual($0.key, key) }?.value
  }

  /// Python's `==`.
  static func areEqual(_ left: TemplateValue, _ right: TemplateValue) -> Bool {
    switch (left, right) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.string(let a), .string(let b)): return TemplateText.areEqual(a, b)
    case (.integer(let a), .integer(let b)): return a == b
    case (.list(let a), .list(let b)):
      return a.count == b.count && zip(a, b).allSatisfy { areEqual($0, $1) }
    case (.dictionary(let a), .dictionary(let b)):
      return a.count == b.count
        && a.allSatisfy { entry in right.entry(entry.key).map { areEqual(entry.value, $0) } ?? false
        }
    case (.namespace(let a), .namespace(let b)), (.macro(let a), .macro(let b)): return a == b
    default:
      guard let a = left.number, let b = right.number else { return false }
      return a == b
    }
  }

  /// What `{{ value }}` prints: Python's `str`.
  var printed: String {
    switch self {
    case .undefined: ""
    case .string(let text): text
    default: represented
    }
  }

  /// Python's `repr`.
  var represented: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "None"
    case .bool(let value): value ? "True" : "False"
    case .integer(let value): String(value)
    case .double(let value): value.isNaN ? "nan" : value.description
    case .string(let text): TemplateText.quoted(text)
    case .list(let elements): "[" + elements.map(\.represented).joined(separator: ", ") + "]"
    case .dictionary(let entries):
      "{"
        + entries.map { TemplateText.quoted($0.key) + ": " + $0.value.represented }
        .joined(separator: ", ") + "}"
    case .namespace: "<Namespace>"
    case .macro, .function, .method: "<function>"
    }
  }
}

/// Strings as Python sees them: scalars, equal only if all of them are.
enum TemplateText {
  static func areEqual(_ left: String, _ right: String) -> Bool {
    left.utf8.elementsEqual(right.utf8)
  }

  static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    UTF8Text.isWhitespace(scalar.value) || (0x1C...0x1F).contains(scalar.value)
  }

  static func quoted(_ text: String) -> String {
    let quote: Unicode.Scalar = text.utf8.contains(0x27) && !text.utf8.contains(0x22) ? "\"" : "'"
    var result = String.UnicodeScalarView([quote])
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case "\\", quote: result.append(contentsOf: ["\\", scalar])
      case "\0"..<" ", "\u{7F}"..<"\u{A0}":
        let digits = String(scalar.value, radix: 16)
        result.append(contentsOf: ("\\x" + (digits.count < 2 ? "0" : "") + digits).unicodeScalars)
      default: result.append(scalar)
      }
    }
    result.append(quote)
    return String(result)
  }

  static func trimmed(
    _ text: String, left: Bool = true, right: Bool = true,
    of isCut: (Unicode.Scalar) -> Bool = isSpace
  ) -> String {
    var scalars = text.unicodeScalars[...]
    while left, let first = scalars.first, isCut(first) { scalars.removeFirst() }
    while right, let last = scalars.last, isCut(last) { scalars.removeLast() }
    return String(scalars)
  }

  /// The places of `wanted`, which is not empty, from left to right without overlap.
  static func occurrences(of wanted: String, in text: String) -> [Range<Int>] {
    Pattern.occurrences(of: Array(wanted.utf8), in: Array(text.utf8))
  }

  static func parts(_ text: String, between cuts: [Range<Int>]) -> [String] {
    let bytes = Array(text.utf8)
    var result: [String] = []
    var start = 0
    for cut in cuts {
      result.append(String(decoding: bytes[start..<cut.lowerBound], as: UTF8.self))
      start = cut.upperBound
    }
    result.append(String(decoding: bytes[start...], as: UTF8.self))
    return result
  }
}
