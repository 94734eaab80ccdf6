/// GPT-2's alphabet: every byte stands as one printable scalar, so that a vocabulary of text can hold any bytes.
///
/// Printable ASCII and Latin-1 stand for themselves, the other 68 bytes for U+0100 and up, in order.
///
/// Source: Radford et al. 2019, `bytes_to_unicode` of the released code.
enum ByteLevelAlphabet {
  /// The scalar that stands for each byte.
  static let scalars: [UInt32] = {
    var next: UInt32 = 0x100
    return (0..<256).map { (byte: UInt32) -> UInt32 in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return byte
      default:
        defer { next += 1 }
        return next
      }
    }
  }()

  /// The byte that each scalar below U+0144 stands for.
  static let bytes: [UInt8?] = {
    var table = [UInt8?](repeating: nil, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { table[Int(scalar)] = UInt8(byte) }
    return table
  }()

  /// Bytes in the alphabet's scalars, as UTF-8.
  static func written(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count + 8)
    for byte in bytes { UTF8Text.append(scalars[Int(byte)], to: &result) }
    return result
  }

  /// The bytes that a token stands for; `nil` if it has a scalar outside the alphabet.
  static func read(_ token: [UInt8]) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(token.count)
    var index = 0
    while index < token.count {
      let scalar = UTF8Text.scalar(token, at: index)
      guard scalar.value < 0x144, let byte = bytes[Int(scalar.value)] else { return nil }
      result.append(byte)
      index += scalar.length
    }
    return result
  }
}
