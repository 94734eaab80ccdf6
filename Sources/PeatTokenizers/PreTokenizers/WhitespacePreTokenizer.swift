/// Keeps words and runs of signs, leaves white space out: the matches of `\w+|[^\w\s]+`.
struct WhitespacePreTokenizer: PreTokenizer {
  func split(_ piece: Piece, into pieces: inout [Piece]) {
    var matches: [Range<Int>] = []
    var start = 0
    var index = 0
    var previous = 0
    func kind(_ value: UInt32) -> Int {
      UTF8Text.isWhitespace(value) ? 0 : UTF8Text.isWord(value) ? 1 : 2
    }
    while index < piece.bytes.count {
      let scalar = UTF8Text.scalar(piece.bytes, at: index)
      let current = kind(scalar.value)
      if current != previous {
        if previous != 0 { matches.append(start..<index) }
        start = index
        previous = current
      }
      index += scalar.length
    }
    if previous != 0 { matches.append(start..<index) }
    SplitBehavior.removed.split(piece, at: matches, invert: true, into: &pieces)
  }
}
