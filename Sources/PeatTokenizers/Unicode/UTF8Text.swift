/// Reading UTF-8 bytes scalar by scalar.
enum UTF8Text {
  /// The scalar that begins at `index`, and how many bytes it takes.
  ///
  /// The bytes come from a Swift `String` or from checked JSON and are valid UTF-8; a byte that is not would read as
  /// U+FFFD of length one.
  static func scalar(_ bytes: [UInt8], at index: Int) -> (value: UInt32, length: Int) {
    let first = bytes[index]
    if first < 0x80 { return (UInt32(first), 1) }
    let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
    guard first >= 0xC2, index + length <= bytes.count else { return (0xFFFD, 1) }
    var value = UInt32(first) & (0xFF >> UInt32(length + 1))
    for offset in 1..<length { value = value << 6 | UInt32(bytes[index + offset] & 0x3F) }
    return (value, length)
  }

  /// Where the scalar before `index` begins; `index` is above zero.
  static func scalarStart(_ bytes: [UInt8], before index: Int) -> Int {
    var start = index - 1
    while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }

  /// Appends a scalar in UTF-8.
  static func append(_ value: UInt32, to bytes: inout [UInt8]) {
    switch value {
    case ..<0x80:
      bytes.append(UInt8(value))
    case ..<0x800:
      bytes.append(UInt8(0xC0 | value >> 6))
      bytes.append(UInt8(0x80 | value & 0x3F))
    case ..<0x10000:
      bytes.append(UInt8(0xE0 | value >> 12))
      bytes.append(UInt8(0x80 | value >> 6 & 0x3F))
      bytes.append(UInt8(0x80 | value & 0x3F))
    default:
      bytes.append(UInt8(0xF0 | value >> 18))
      bytes.append(UInt8(0x80 | value >> 12 & 0x3F))
      bytes.append(UInt8(0x80 | value >> 6 & 0x3F))
      bytes.append(UInt8(0x80 | value & 0x3F))
    }
  }

  /// A text without scalars of some class.
  static func leavingOut(_ text: [UInt8], _ isLeftOut: (UInt32) -> Bool) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var index = 0
    while index < text.count {
      let scalar = scalar(text, at: index)
      if !isLeftOut(scalar.value) { result += text[index..<index + scalar.length] }
      index += scalar.length
    }
    return result
  }

  /// How many bytes at the end begin a scalar that is not complete yet and still may become one: 0 to 3.
  static func incompleteTail(_ bytes: [UInt8]) -> Int {
    for tail in 1...3 where tail <= bytes.count {
      let first = bytes[bytes.count - tail]
      if first & 0xC0 == 0x80 { continue }
      let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
      guard first >= 0xC2, first <= 0xF4, tail < length else { return 0 }
      if tail >= 2 {
        // The first continuation byte has a narrower range after these four (Unicode, table 3-7).
        let second = bytes[bytes.count - tail + 1]
        switch first {
        case 0xE0 where second < 0xA0, 0xED where second > 0x9F: return 0
        case 0xF0 where second < 0x90, 0xF4 where second > 0x8F: return 0
        default: break
        }
      }
      return tail
    }
    return 0
  }
}
