import PeatTensor

/// Parts numbers (category N) from the rest, as a whole or digit by digit.
struct DigitsPreTokenizer: PreTokenizer {
  let individual: Bool

  init(_ part: TokenizerPart) throws {
    individual = try part.bool("individual_digits", default: false)
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) {
    let behavior: SplitBehavior = individual ? .isolated : .contiguous
    behavior.split(piece, atScalars: UTF8Text.isNumber, into: &pieces)
  }
}
