/// Leaves out combining marks (category M); useful after `NFD` or `NFKD`.
struct StripAccentsNormalizer: Normalizer {
  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    try normalized(text, keepsStart: &keepsStart, leavingOut: UTF8Text.isMark)
  }

  func normalized(_ text: [UInt8]) -> [UInt8] {
    UTF8Text.leavingOut(text, UTF8Text.isMark)
  }
}
