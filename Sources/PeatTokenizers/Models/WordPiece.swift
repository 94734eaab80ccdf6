// WordPiece. Mirrors tokenizers 0.23 `models/wordpiece/mod.rs`.

import PeatTensor

/// Takes from the left the longest token that a word begins with, then the longest for what follows it, and so on.
///
/// Tokens within a word carry a prefix ("##ing"). A word for which some part has no token, or one that is too long, is unknown
/// as a whole.
///
/// Source: Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>; the released `tokenization.py`.
struct WordPiece: TokenModel {
  let vocabulary: Vocabulary
  private let unknown: Int32
  private let scalarLimit: Int
  /// Tokens that begin a word, and those that continue one (without their prefix).
  private let first: TokenTrie
  private let following: TokenTrie

  init(_ part: TokenizerPart) throws {
    let vocabulary = try Vocabulary(part.required("vocab"))
    self.vocabulary = vocabulary
    unknown = try vocabulary.unknown(part, default: "[UNK]")
    scalarLimit =
      try part.optional("max_input_chars_per_word")?.integer(in: 0...Int(Int32.max)) ?? 100
    let prefix = try part.optional("continuing_subword_prefix")?.string().bytes ?? Array("##".utf8)
    var first = TokenTrie()
    var following = TokenTrie()
    for (number, token) in vocabulary.tokens.enumerated() {
      guard let bytes = token?.bytes, !bytes.isEmpty else { continue }
      first.insert(bytes[...], number: Int32(number))
      if bytes.count > prefix.count, bytes.starts(with: prefix) {
        following.insert(bytes[prefix.count...], number: Int32(number))
      }
    }
    self.first = first
    self.following = following
  }

  func encode(_ word: [UInt8], into numbers: inout [Int32]) {
    let scalars = word.reduce(0) { $1 & 0xC0 == 0x80 ? $0 : $0 + 1 }
    let begin = numbers.count
    var start = scalars > scalarLimit ? -1 : 0
    while start >= 0, start < word.count {
      let found = (start == 0 ? first : following).longest(in: word, from: start)
      if let found {
        numbers.append(found.number)
        start = found.end
      } else {
        start = -1
      }
    }
    if start < 0 {
      numbers.removeSubrange(begin...)
      numbers.append(unknown)
    }
  }
}
