import PeatTensor

/// Cuts at punctuation (category P and ASCII's signs).
struct PunctuationPreTokenizer: PreTokenizer {
  let behavior: SplitBehavior

  init(_ part: TokenizerPart) throws {
    behavior = try part.optional("behavior").map { try SplitBehavior($0) } ?? .isolated
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) {
    behavior.split(piece, atScalars: UTF8Text.isPunctuation, into: &pieces)
  }
}
