import PeatTensor

/// Cuts a text into GPT-2's words and writes their bytes in GPT-2's alphabet.
struct ByteLevelPreTokenizer: PreTokenizer {
  let addsPrefixSpace: Bool
  let cuts: Bool

  init(_ part: TokenizerPart) throws {
    addsPrefixSpace = try part.bool("add_prefix_space", default: true)
    cuts = try part.bool("use_regex", default: true)
    _ = try part.bool("trim_offsets", default: true)  // Offsets into the text are not kept here.
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) throws {
    var bytes = piece.bytes
    if addsPrefixSpace, bytes.first != 0x20 { bytes.insert(0x20, at: 0) }
    if cuts {
      var look = CancellationLook()
      try GPT2Words.forEach(in: bytes) { range in
        try look.pass()
        pieces.append(
          Piece(
            bytes: ByteLevelAlphabet.written(bytes[range]),
            beginsText: piece.beginsText && range.lowerBound == 0))
      }
    } else {
      pieces.append(
        Piece(bytes: ByteLevelAlphabet.written(bytes[...]), beginsText: piece.beginsText))
    }
  }
}
