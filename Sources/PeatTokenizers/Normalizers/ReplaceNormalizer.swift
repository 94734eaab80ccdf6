import PeatTensor

/// Replaces every match of a pattern by a fixed text.
struct ReplaceNormalizer: Normalizer {
  let pattern: Pattern
  let content: [UInt8]

  init(_ part: TokenizerPart) throws {
    pattern = try Pattern(part.required("pattern"))
    content = try Pattern.content(part.required("content"))
  }

  func normalized(_ text: [UInt8]) throws -> [UInt8] {
    try pattern.replacing(in: text, with: content)
  }

  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    let matches = try pattern.matches(in: text)
    if let first = matches.first, first.lowerBound == 0, !first.isEmpty {
      // What replaces several characters stands where the last of them stood.
      let length = UTF8Text.scalar(text, at: 0).length
      if content.isEmpty || first.upperBound > length { keepsStart = false }
    }
    return try pattern.replacing(matches, in: text, with: content)
  }
}
