/// What is wrong with a JSON text, and on which line (counted from 1).
package struct JSONFault: Error, Equatable {
  package let line: Int
  package let reason: String
  package let isAtEnd: Bool
}

/// Reads JSON from bytes that are known to be UTF-8, strictly after RFC 8259.
///
/// Hostile input ends in a `JSONFault`: nesting is limited to `depthLimit` levels and numbers are not converted.
package struct JSONParser {
  package static let depthLimit = 128

  /// What to do where the standard leaves room.
  package enum Leniency: Sendable {
    /// Refuses a key that stands twice in an object, and half of a surrogate pair.
    case none
    /// As Python reads: the last of equal keys counts. Half of a surrogate pair becomes U+FFFD.
    case asPython
  }

  private let bytes: ArraySlice<UInt8>
  private var position: Int
  private let firstLine: Int
  private let leniency: Leniency
  /// How far the elements of a top-level array were read.
  private enum Place { case start, elements, end }
  private var place = Place.start
  private var elementCount = 0
  /// Where the last element that was read starts, and on which line.
  private var elementStart: Int
  private var elementLine: Int

  package init(
    _ bytes: ArraySlice<UInt8>, firstLine: Int = 1, leniency: Leniency = .asPython
  ) {
    self.leniency = leniency
    self.bytes = bytes
    self.position = bytes.startIndex
    self.firstLine = firstLine
    elementStart = bytes.startIndex
    elementLine = firstLine
  }

  /// The one value that the bytes hold.
  package mutating func parseWhole() throws(JSONFault) -> ByteJSON {
    let value = try parseValue(depth: 0)
    skipSpace()
    if position < bytes.endIndex { throw fault("there is more text after the end of the value") }
    return value
  }

  /// The elements of a top-level array, each with the line it starts on; any other value counts as one element.
  package mutating func parseElements() throws(JSONFault) -> [(value: ByteJSON, line: Int)] {
    var elements: [(value: ByteJSON, line: Int)] = []
    while let element = try nextElement() { elements.append(element) }
    return elements
  }

  /// The next element of a top-level array, with the line it starts on; `nil` behind the last. Any other value counts as one element. No more than one is in memory at a
  /// time.
  package mutating func nextElement() throws(JSONFault) -> (value: ByteJSON, line: Int)? {
    switch place {
    case .start:
      skipSpace()
      guard peek == UInt8(ascii: "[") else {
        place = .end
        return (try parseWhole(), currentLine)
      }
      position += 1
      skipSpace()
      if peek == UInt8(ascii: "]") { return try endOfElements() }
    case .elements:
      skipSpace()
      if peek == UInt8(ascii: "]") { return try endOfElements() }
      guard peek == UInt8(ascii: ",") else {
        throw fault("expected ',' or ']' after element \(elementCount) of the array, \(found)")
      }
      position += 1
      skipSpace()
    case .end: return nil
    }
    place = .elements
    elementCount += 1
    elementLine += newlines(from: elementStart, to: position)
    elementStart = position
    return (try parseValue(depth: 1), elementLine)
  }

  private mutating func endOfElements() throws(JSONFault) -> (value: ByteJSON, line: Int)? {
    position += 1
    place = .end
    skipSpace()
    if position < bytes.endIndex { throw fault("there is more text after the end of the array") }
    return nil
  }

  private mutating func parseValue(depth: Int) throws(JSONFault) -> ByteJSON {
    if depth > Self.depthLimit {
      throw fault("values are nested more than \(Self.depthLimit) levels deep")
    }
    skipSpace()
    switch peek {
    case UInt8(ascii: "{"): return try parseObject(depth: depth)
    case UInt8(ascii: "["): return try parseArray(depth: depth)
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
    case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
    case UInt8(ascii: "n"): return try parseWord("null", .null)
    default: return .number(try parseNumber())
    }
  }

  private mutating func parseObject(depth: Int) throws(JSONFault) -> ByteJSON {
    var members: [(key: ByteString, value: ByteJSON)] = []
    var keys: Set<ByteString> = []
    position += 1
    skipSpace()
    if peek == UInt8(ascii: "}") {
      position += 1
      return .object(members)
    }
    while true {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else { throw fault("expected a key in quotes, \(found)") }
      let key = try parseString()
      if leniency == .none, !keys.insert(key).inserted {
        throw fault("the key \"\(key.text)\" stands twice in one object")
      }
      skipSpace()
      guard peek == UInt8(ascii: ":") else {
        throw fault("expected ':' after the key \"\(key.text)\", \(found)")
      }
      position += 1
      members.append((key, try parseValue(depth: depth + 1)))
      skipSpace()
      if peek == UInt8(ascii: ",") {
        position += 1
      } else if peek == UInt8(ascii: "}") {
        position += 1
        return .object(members)
      } else {
        throw fault("expected ',' or '}' after the value of \"\(key.text)\", \(found)")
      }
    }
  }

  private mutating func parseArray(depth: Int) throws(JSONFault) -> ByteJSON {
    var elements: [ByteJSON] = []
    position += 1
    skipSpace()
    if peek == UInt8(ascii: "]") {
      position += 1
      return .array(elements)
    }
    while true {
      elements.append(try parseValue(depth: depth + 1))
      skipSpace()
      if peek == UInt8(ascii: ",") {
        position += 1
      } else if peek == UInt8(ascii: "]") {
        position += 1
        return .array(elements)
      } else {
        throw fault("expected ',' or ']' in an array, \(found)")
      }
    }
  }

  private mutating func parseString() throws(JSONFault) -> ByteString {
    position += 1
    let start = position
    while let byte = peek, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
      position += 1
    }
    if peek == UInt8(ascii: "\"") {
      defer { position += 1 }
      return ByteString(bytes[start..<position])
    }
    var text = Array(bytes[start..<position])
    while true {
      guard let byte = peek else { throw fault("a string does not end before the text does") }
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        return ByteString(text)
      case UInt8(ascii: "\\"):
        position += 1
        text.append(contentsOf: try parseEscape())
      case 0..<0x20:
        throw fault(
          byte == 0x0A || byte == 0x0D
            ? "a string runs over the end of its line; write the line break as \\n"
            : "a control character (byte \(byte)) stands unescaped in a string")
      default:
        text.append(byte)
        position += 1
      }
    }
  }

  /// The UTF-8 bytes of one escape; the backslash is behind us.
  private mutating func parseEscape() throws(JSONFault) -> [UInt8] {
    guard let byte = peek else { throw fault("a string does not end before the text does") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var code = try parseHexadecimal()
      if (0xD800..<0xDC00).contains(code), position + 1 < bytes.endIndex,
        bytes[position] == UInt8(ascii: "\\"), bytes[position + 1] == UInt8(ascii: "u")
      {
        let after = position
        position += 2
        let low = try parseHexadecimal()
        if (0xDC00..<0xE000).contains(low) {
          code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        } else {
          position = after
        }
      }
      guard let scalar = Unicode.Scalar(code) else {
        if leniency == .none { throw fault("half of a surrogate pair stands alone in a string") }
        return Array("\u{FFFD}".utf8)
      }
      return Array(UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    default:
      throw fault("'\\\(String(decoding: [byte], as: UTF8.self))' is not an escape that JSON knows")
    }
  }

  private mutating func parseHexadecimal() throws(JSONFault) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80
      else { throw fault("'\\u' must be followed by four hexadecimal digits") }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }

  private mutating func parseNumber() throws(JSONFault) -> String {
    let start = position
    if peek == UInt8(ascii: "-") { position += 1 }
    let whole = skipDigits()
    if whole == 0 {
      position = start
      throw fault("expected a value, \(found)")
    }
    let firstDigit = bytes[position - whole]
    if whole > 1, firstDigit == UInt8(ascii: "0") { throw fault("a number begins with 0") }
    if peek == UInt8(ascii: ".") {
      position += 1
      if skipDigits() == 0 { throw fault("a number has no digits after its point") }
    }
    if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
      position += 1
      if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { position += 1 }
      if skipDigits() == 0 { throw fault("a number has no digits in its exponent") }
    }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  private mutating func skipDigits() -> Int {
    let start = position
    while let byte = peek, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
    return position - start
  }

  private mutating func parseWord(_ word: String, _ value: ByteJSON) throws(JSONFault)
    -> ByteJSON
  {
    guard bytes[position...].starts(with: word.utf8) else {
      throw fault("expected a value, \(found)")
    }
    position += word.utf8.count
    return value
  }

  private mutating func skipSpace() {
    while let byte = peek, isJSONSpace(byte) { position += 1 }
  }

  private var peek: UInt8? { position < bytes.endIndex ? bytes[position] : nil }

  private var found: String {
    guard let byte = peek else { return "but the text ends there" }
    if byte >= 0x80 { return "found a character outside ASCII" }
    return byte < 0x20 ? "found byte \(byte)" : "found '\(Character(Unicode.Scalar(byte)))'"
  }

  private var currentLine: Int { firstLine + newlines(from: bytes.startIndex, to: position) }

  private func newlines(from start: Int, to end: Int) -> Int {
    bytes[start..<end].reduce(0) { $0 + ($1 == 0x0A ? 1 : 0) }
  }

  private func fault(_ reason: String) -> JSONFault {
    JSONFault(line: currentLine, reason: reason, isAtEnd: position >= bytes.endIndex)
  }
}

/// Whether JSON counts a byte as space.
@inline(__always)
package func isJSONSpace(_ byte: UInt8) -> Bool {
  byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
}
