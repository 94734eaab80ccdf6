import Foundation
import PeatTensor

/// A double-array trie of texts and what they are replaced by, as sentencepiece stores it: in base64, the size of the trie in four
/// bytes, its units, then the replacements, each ended by a zero.
///
/// Source: Yata, darts-clone, <https://github.com/s-yata/darts-clone>.
struct CharacterMap: Sendable {
  private let units: [UInt32]
  private let replacements: [UInt8]

  init(_ part: TokenizerPart) throws {
    guard let data = Data(base64Encoded: Data(try part.string().bytes)) else {
      throw part.failure("is not base64.")
    }
    let bytes = [UInt8](data)
    func number(_ index: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[index + $1]) << (8 * UInt32($1)) }
    }
    let size = bytes.count >= 4 ? Int(number(0)) : -1
    guard size >= 4, size % 4 == 0, size <= bytes.count - 4 else {
      throw part.failure(
        "holds \(bytes.count) bytes, which do not hold the trie whose size the first four give (\(size))."
      )
    }
    units = (0..<size / 4).map { number(4 + 4 * $0) }
    replacements = Array(bytes[(4 + size)...])
    guard String(validating: replacements, as: UTF8.self) != nil else {
      throw part.failure("has replacements that are not UTF-8.")
    }
  }

  /// What the shortest entry at the beginning of a text is replaced by; `nil` where there is none.
  func replacement(for text: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    var node = Self.offset(units[0])
    for byte in text {
      if byte == 0 { return nil }
      node ^= Int(byte)
      guard node < units.count else { return nil }
      let unit = units[node]
      guard unit & 0x8000_00FF == UInt32(byte) else { return nil }
      node ^= Self.offset(unit)
      if (unit >> 8) & 1 == 1 {
        guard node < units.count else { return nil }
        let start = min(Int(units[node] & 0x7FFF_FFFF), replacements.count)
        let rest = replacements[start...]
        // A damaged trie may point into the middle of a scalar.
        if let first = rest.first, first & 0xC0 == 0x80 { return nil }
        return rest[..<(rest.firstIndex(of: 0) ?? rest.endIndex)]
      }
    }
    return nil
  }

  /// How far a unit's children lie from it.
  private static func offset(_ unit: UInt32) -> Int {
    Int((unit >> 10) << ((unit & 0x200) >> 6))
  }
}
