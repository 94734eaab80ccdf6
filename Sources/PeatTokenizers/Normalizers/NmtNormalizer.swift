/// Takes control characters out and writes other white space as a space, as sentencepiece does for machine translation.
///
/// Mirrors tokenizers 0.23 `normalizers/unicode.rs`, `do_nmt`.
struct NmtNormalizer: Normalizer {
  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    try normalized(text, keepsStart: &keepsStart, leavingOut: Self.isControl)
  }

  private static func isControl(_ value: UInt32) -> Bool {
    switch value {
    case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: true
    default: false
    }
  }

  func normalized(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var index = 0
    while index < text.count {
      let scalar = UTF8Text.scalar(text, at: index)
      switch scalar.value {
      case let value where Self.isControl(value): break
      case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD:
        result.append(0x20)
      default: result += text[index..<index + scalar.length]
      }
      index += scalar.length
    }
    return result
  }
}
