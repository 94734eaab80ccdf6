import PeatTensor

/// Cuts at one character and leaves it out.
struct DelimiterPreTokenizer: PreTokenizer {
  let delimiter: UInt32

  init(_ part: TokenizerPart) throws {
    _ = try part.required("delimiter")
    delimiter = try part.scalar("delimiter", default: " ").value
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) {
    SplitBehavior.removed.split(piece, atScalars: { $0 == delimiter }, into: &pieces)
  }
}
