import PeatTensor

/// Cuts at the matches of a string or regular expression.
struct SplitPreTokenizer: PreTokenizer {
  let pattern: Pattern
  let behavior: SplitBehavior
  let invert: Bool

  init(_ part: TokenizerPart) throws {
    pattern = try Pattern(part.required("pattern"))
    behavior = try SplitBehavior(part.required("behavior"))
    invert = try part.bool("invert", default: false)
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) throws {
    behavior.split(piece, at: try pattern.matches(in: piece.bytes), invert: invert, into: &pieces)
  }
}
