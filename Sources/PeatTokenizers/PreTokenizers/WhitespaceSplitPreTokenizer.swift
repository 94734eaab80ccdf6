/// Cuts at white space and leaves it out.
struct WhitespaceSplitPreTokenizer: PreTokenizer {
  func split(_ piece: Piece, into pieces: inout [Piece]) {
    SplitBehavior.removed.split(piece, atScalars: UTF8Text.isWhitespace, into: &pieces)
  }
}
