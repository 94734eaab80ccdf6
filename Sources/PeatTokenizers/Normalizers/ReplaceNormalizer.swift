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
}
