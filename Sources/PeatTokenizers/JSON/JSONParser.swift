import Foundation
import PeatTensor

/// Reads JSON text (RFC 8259) into a `ByteJSON`.
///
/// Strict: no comments, no trailing commas, no lone surrogates, no key twice in an object, at most 128 levels deep.
package struct JSONParser {
  private let bytes: [UInt8]
  private let name: String
  private var index = 0
  private static let maximumDepth = 128

  /// The value that a file holds.
  ///
  /// - Parameter name: the file's name, for error messages.
  /// - Throws: `PeatError.badData` that names the file, the line and what was expected.
  package static func parse(_ data: Data, name: String) throws -> ByteJSON {
    var parser = JSONParser(bytes: Array(data), name: name)
    if parser.bytes.isEmpty {
      throw PeatError.badData("\(name): the file is empty; expected JSON.")
    }
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    if parser.index < parser.bytes.count { throw parser.failure("the end of the file") }
    return value
  }

  private init(bytes: [UInt8], name: String) {
    self.bytes = bytes
    self.name = name
  }

  private func failure(_ expected: String) -> PeatError {
    let line = bytes.prefix(index).reduce(1) { $0 + ($1 == 0x0A ? 1 : 0) }
    let found =
      index < bytes.count
      ? "byte 0x\(String(bytes[index], radix: 16)) at offset \(index)"
      : "the end of the file: it may be truncated"
    return .badData(
      "\(name): line \(line) is not valid JSON: expected \(expected), found \(found).")
  }

  private mutating func skipSpace() {
    while index < bytes.count {
      switch bytes[index] {
      case 0x20, 0x09, 0x0A, 0x0D: index += 1
      default: return
      }
    }
  }

  private mutating func take(_ byte: UInt8, _ expected: String) throws {
    guard index < bytes.count, bytes[index] == byte else { throw failure(expected) }
    index += 1
  }

  private mutating func value(depth: Int) throws -> ByteJSON {
    if depth > Self.maximumDepth { throw failure("at most \(Self.maximumDepth) levels of nesting") }
    skipSpace()
    guard index < bytes.count else { throw failure("a value") }
    switch bytes[index] {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  private mutating func word(_ text: StaticString, _ value: ByteJSON) throws -> ByteJSON {
    for byte in "\(text)".utf8 { try take(byte, "'\(text)'") }
    return value
  }

  private mutating func object(depth: Int) throws -> ByteJSON {
    index += 1
    var entries: [(key: ByteString, value: ByteJSON)] = []
    var keys: Set<ByteString> = []
    skipSpace()
    if index < bytes.count, bytes[index] == UInt8(ascii: "}") {
      index += 1
      return .object([])
    }
    while true {
      skipSpace()
      let key = try string()
      if !keys.insert(key).inserted {
        throw PeatError.badData(
          "\(name): the key '\(key.text)' appears twice in one object (second time before offset \(index))."
        )
      }
      skipSpace()
      try take(UInt8(ascii: ":"), "':'")
      entries.append((key, try value(depth: depth + 1)))
      skipSpace()
      if index < bytes.count, bytes[index] == UInt8(ascii: ",") {
        index += 1
        continue
      }
      try take(UInt8(ascii: "}"), "',' or '}'")
      return .object(entries)
    }
  }

  private mutating func array(depth: Int) throws -> ByteJSON {
    index += 1
    var elements: [ByteJSON] = []
    skipSpace()
    if index < bytes.count, bytes[index] == UInt8(ascii: "]") {
      index += 1
      return .array([])
    }
    while true {
      elements.append(try value(depth: depth + 1))
      skipSpace()
      if index < bytes.count, bytes[index] == UInt8(ascii: ",") {
        index += 1
        continue
      }
      try take(UInt8(ascii: "]"), "',' or ']'")
      return .array(elements)
    }
  }

  private mutating func string() throws -> ByteString {
    try take(UInt8(ascii: "\""), "a string")
    var result: [UInt8] = []
    var plainStart = index
    while index < bytes.count {
      let byte = bytes[index]
      switch byte {
      case UInt8(ascii: "\""):
        result.append(contentsOf: bytes[plainStart..<index])
        guard String(validating: result, as: UTF8.self) != nil else {
          throw failure("UTF-8 in the string before")
        }
        index += 1
        return ByteString(result)
      case UInt8(ascii: "\\"):
        result.append(contentsOf: bytes[plainStart..<index])
        index += 1
        UTF8Text.append(try escape(), to: &result)
        plainStart = index
      case 0..<0x20:
        throw failure("an escape in place of a control character")
      default:
        index += 1
      }
    }
    throw failure("the closing quote of a string")
  }

  private mutating func escape() throws -> UInt32 {
    guard index < bytes.count else { throw failure("an escape") }
    let byte = bytes[index]
    index += 1
    switch byte {
    case UInt8(ascii: "n"): return 0x0A
    case UInt8(ascii: "t"): return 0x09
    case UInt8(ascii: "r"): return 0x0D
    case UInt8(ascii: "b"): return 0x08
    case UInt8(ascii: "f"): return 0x0C
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return UInt32(byte)
    case UInt8(ascii: "u"):
      let unit = try hexadecimal()
      if (0xDC00...0xDFFF).contains(unit) { throw failure("no lone surrogate before this place") }
      guard (0xD800...0xDBFF).contains(unit) else { return unit }
      try take(UInt8(ascii: "\\"), "the second half of a surrogate pair")
      try take(UInt8(ascii: "u"), "the second half of a surrogate pair")
      let low = try hexadecimal()
      guard (0xDC00...0xDFFF).contains(low) else {
        throw failure("the second half of a surrogate pair before")
      }
      return 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
    default:
      index -= 1
      throw failure("a known escape")
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard index < bytes.count, let digit = Character(Unicode.Scalar(bytes[index])).hexDigitValue
      else {
        throw failure("four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      index += 1
    }
    return value
  }

  private mutating func number() throws -> ByteJSON {
    let start = index
    var isInteger = true
    func isDigit(_ index: Int) -> Bool {
      index < bytes.count && (0x30...0x39).contains(bytes[index])
    }
    if bytes[index] == UInt8(ascii: "-") { index += 1 }
    guard isDigit(index) else { throw failure("a value") }
    if bytes[index] == 0x30, isDigit(index + 1) { throw failure("no number that begins with 0") }
    while isDigit(index) { index += 1 }
    if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
      isInteger = false
      index += 1
      guard isDigit(index) else { throw failure("a digit") }
      while isDigit(index) { index += 1 }
    }
    if index < bytes.count, bytes[index] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      index += 1
      if index < bytes.count, bytes[index] == UInt8(ascii: "+") || bytes[index] == UInt8(ascii: "-")
      {
        index += 1
      }
      guard isDigit(index) else { throw failure("a digit") }
      while isDigit(index) { index += 1 }
    }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if isInteger, let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text) else { throw failure("a number") }
    return .number(number)
  }
}
