import PeatTensor

/// Cuts off white space at the beginning, the end or both.
struct StripNormalizer: Normalizer {
  let left: Bool
  let right: Bool

  init(_ part: TokenizerPart) throws {
    left = try part.bool("strip_left", default: true)
    right = try part.bool("strip_right", default: true)
  }

  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    try normalized(
      text, keepsStart: &keepsStart, leavingOut: { left && UTF8Text.isWhitespace($0) })
  }

  func normalized(_ text: [UInt8]) -> [UInt8] {
    var start = 0
    var end = text.count
    while left, start < end {
      let scalar = UTF8Text.scalar(text, at: start)
      guard UTF8Text.isWhitespace(scalar.value) else { break }
      start += scalar.length
    }
    while right, end > start {
      let before = UTF8Text.scalarStart(text, before: end)
      guard UTF8Text.isWhitespace(UTF8Text.scalar(text, at: before).value) else { break }
      end = before
    }
    return Array(text[start..<end])
  }
}
