import Foundation

/// Unicode's normalisation forms (Unicode Standard Annex 15).
enum UnicodeForm: Normalizer {
  case nfc, nfd, nfkc, nfkd

  func normalized(_ text: [UInt8]) -> [UInt8] {
    if text.allSatisfy({ $0 < 0x80 }) { return text }
    let string = String(decoding: text, as: UTF8.self)
    switch self {
    case .nfc: return Array(string.precomposedStringWithCanonicalMapping.utf8)
    case .nfd: return Array(string.decomposedStringWithCanonicalMapping.utf8)
    case .nfkc: return Array(string.precomposedStringWithCompatibilityMapping.utf8)
    case .nfkd: return Array(string.decomposedStringWithCompatibilityMapping.utf8)
    }
  }
}
