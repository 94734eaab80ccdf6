import Foundation

/// Unicode's normalisation forms (Unicode Standard Annex 15), as Foundation makes them.
///
/// Known difference: where another combining mark meets one of the Tibetan vowel signs U+0F73, U+0F75 and U+0F81, Foundation on
/// Linux can put the marks in another order than the standard does.
enum UnicodeForm: Normalizer {
  case nfc, nfd, nfkc, nfkd

  func normalized(_ text: [UInt8]) -> [UInt8] {
    if text.allSatisfy({ $0 < 0x80 }) { return text }
    switch self {
    case .nfd:
      return Array(String(decoding: text, as: UTF8.self).decomposedStringWithCanonicalMapping.utf8)
    case .nfkd:
      return Array(
        String(decoding: text, as: UTF8.self).decomposedStringWithCompatibilityMapping.utf8)
    case .nfc: return Self.composed(text) { $0.precomposedStringWithCanonicalMapping }
    case .nfkc: return Self.composed(text) { $0.precomposedStringWithCompatibilityMapping }
    }
  }

  /// Composes each stretch up to a change from a scalar above U+FFFF to one below.
  ///
  /// No such two scalars ever compose, but Foundation on Linux looks at the lower 16 bits and makes "ǵ" of U+100067 and
  /// U+0301. So it is given the two apart.
  private static func composed(_ text: [UInt8], _ compose: (String) -> String) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var start = 0
    for index in text.indices.dropFirst(4) where text[index] & 0xC0 != 0x80 {
      // A scalar begins here; the one before it has four bytes if its first byte says so.
      if text[index] < 0xF0, text[index - 4] >= 0xF0 {
        result += compose(String(decoding: text[start..<index], as: UTF8.self)).utf8
        start = index
      }
    }
    return result + compose(String(decoding: text[start...], as: UTF8.self)).utf8
  }
}
