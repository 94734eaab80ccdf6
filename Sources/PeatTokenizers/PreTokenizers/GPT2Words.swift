/// GPT-2's cut of a text into words, written out by hand.
///
/// Equal to the matches of
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// which between them cover every text. Source: Radford et al. 2019, `encoder.py` of the released code.
enum GPT2Words {

  /// Calls `body` with the range of each word, from left to right.
  ///
  /// - Throws: what `body` throws.
  static func forEach(in text: [UInt8], _ body: (Range<Int>) throws -> Void) rethrows {
    var index = 0
    while index < text.count {
      let end = wordEnd(in: text, from: index)
      try body(index..<end)
      index = end
    }
  }

  private static func wordEnd(in text: [UInt8], from start: Int) -> Int {
    if text[start] == UInt8(ascii: "'"), let end = contractionEnd(in: text, from: start) {
      return end
    }
    let first = UTF8Text.scalar(text, at: start)
    var end = start + first.length
    var kind = UTF8Text.wordKind(first.value)
    if kind == .space {
      if first.value == 0x20, end < text.count {
        let next = UTF8Text.scalar(text, at: end)
        kind = UTF8Text.wordKind(next.value)
        if kind == .space { return spaceEnd(in: text, from: start) }
        end += next.length
      } else {
        return spaceEnd(in: text, from: start)
      }
    }
    while end < text.count {
      let next = UTF8Text.scalar(text, at: end)
      guard UTF8Text.wordKind(next.value) == kind else { break }
      end += next.length
    }
    return end
  }

  /// A run of white space gives its last scalar to the word that follows, unless it has only one.
  private static func spaceEnd(in text: [UInt8], from start: Int) -> Int {
    var end = start
    var last = start
    while end < text.count {
      let next = UTF8Text.scalar(text, at: end)
      guard UTF8Text.isWhitespace(next.value) else { return last > start ? last : end }
      last = end
      end += next.length
    }
    return end
  }

  private static func contractionEnd(in text: [UInt8], from start: Int) -> Int? {
    guard start + 1 < text.count else { return nil }
    let first = text[start + 1]
    let second = start + 2 < text.count ? text[start + 2] : 0
    switch (first, second) {
    case (UInt8(ascii: "s"), _), (UInt8(ascii: "t"), _), (UInt8(ascii: "m"), _),
      (UInt8(ascii: "d"), _):
      return start + 2
    case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
      (UInt8(ascii: "l"), UInt8(ascii: "l")):
      return start + 3
    default:
      return nil
    }
  }
}
