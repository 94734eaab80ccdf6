/// Leaves out combining marks (category M); useful after `NFD` or `NFKD`.
struct StripAccentsNormalizer: Normalizer {
  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    try normalized(text, keepsStart: &keepsStart, leavingOut: UTF8Text.isMark)
  }

  func normalized(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var index = 0
    while index < text.count {
      let scalar = UTF8Text.scalar(text, at: index)
      if !UTF8Text.isMark(scalar.value) {
        result.append(contentsOf: text[index..<index + scalar.length])
      }
      index += scalar.length
    }
    return result
  }
}
