/// Cuts at white space, which is left out, and around each punctuation mark.
///
/// Mirrors tokenizers 0.23 `pre_tokenizers/bert.rs`.
struct BertPreTokenizer: PreTokenizer {
  func split(_ piece: Piece, into pieces: inout [Piece]) {
    let bytes = piece.bytes
    var start = 0
    var index = 0
    func cut(to end: Int) {
      guard end > start else { return }
      pieces.append(
        Piece(bytes: Array(bytes[start..<end]), beginsText: piece.beginsText && start == 0))
    }
    while index < bytes.count {
      let scalar = UTF8Text.scalar(bytes, at: index)
      let end = index + scalar.length
      if UTF8Text.isWhitespace(scalar.value) {
        cut(to: index)
        start = end
      } else if UTF8Text.isPunctuation(scalar.value) {
        cut(to: index)
        start = index
        cut(to: end)
        start = end
      }
      index = end
    }
    cut(to: index)
  }
}
