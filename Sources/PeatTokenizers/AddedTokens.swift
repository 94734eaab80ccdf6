import PeatTensor

/// A token that is cut out of the text before anything else happens to it, such as `<s>`.
struct AddedToken: Sendable {
  let number: Int32
  let content: [UInt8]
  let isSpecial: Bool
  /// Takes the white space before it along.
  let stripsLeft: Bool
  /// Takes the white space after it along.
  let stripsRight: Bool
  /// Found only where no word character stands directly beside it.
  let isSingleWord: Bool
  /// Looked for in the normalised text rather than in the text as it came.
  let isNormalized: Bool
}

/// What a text is cut into at the added tokens.
enum Section: Sendable {
  case text(Range<Int>)
  case token(Int32)
}

/// Finds added tokens in a text: the leftmost, and of those that begin at one place the longest.
///
/// Mirrors tokenizers 0.23 `tokenizer/added_vocabulary.rs`.
struct AddedTokenFinder: Sendable {
  private struct Entry: Sendable {
    let content: [UInt8]
    let token: AddedToken
  }
  /// Entries by their first byte, the longest first.
  private var entries: [[Entry]] = Array(repeating: [], count: 256)
  private var isEmpty = true

  /// - Parameter tokens: what to look for, and the tokens that it stands for; empty contents are left out.
  init(_ tokens: [(content: [UInt8], token: AddedToken)]) {
    for (content, token) in tokens {
      guard let first = content.first else { continue }
      entries[Int(first)].append(Entry(content: content, token: token))
      isEmpty = false
    }
    for byte in entries.indices where entries[byte].count > 1 {
      // Of equal contents the first holds.
      entries[byte] = entries[byte].enumerated().sorted {
        ($1.element.content.count, $0.offset) < ($0.element.content.count, $1.offset)
      }.map(\.element)
    }
  }

  /// The text as sections from left to right; those of no length are left out.
  func sections(of text: [UInt8]) -> [Section] {
    if text.isEmpty { return [] }
    if isEmpty { return [.text(0..<text.count)] }
    var sections: [Section] = []
    var end = 0
    var index = 0
    while index < text.count {
      guard let entry = entry(in: text, at: index) else {
        index += 1
        continue
      }
      var start = index
      var stop = index + entry.content.count
      index = stop
      let token = entry.token
      if token.isSingleWord, touchesWord(text, start..<stop) { continue }
      if token.stripsLeft {
        // What an earlier token took along is no longer there.
        start = max(start, end)
        while start > end {
          let before = UTF8Text.scalarStart(text, before: start)
          guard before >= end, UTF8Text.isWhitespace(UTF8Text.scalar(text, at: before).value) else {
            break
          }
          start = before
        }
      }
      if token.stripsRight {
        while stop < text.count {
          let scalar = UTF8Text.scalar(text, at: stop)
          guard UTF8Text.isWhitespace(scalar.value) else { break }
          stop += scalar.length
        }
      }
      // An earlier token took it all along.
      if start >= stop { continue }
      if start > end { sections.append(.text(end..<start)) }
      sections.append(.token(token.number))
      end = stop
    }
    if end < text.count { sections.append(.text(end..<text.count)) }
    return sections
  }

  private func entry(in text: [UInt8], at index: Int) -> Entry? {
    for entry in entries[Int(text[index])] where index + entry.content.count <= text.count {
      if text[index..<index + entry.content.count].elementsEqual(entry.content) { return entry }
    }
    return nil
  }

  private func touchesWord(_ text: [UInt8], _ range: Range<Int>) -> Bool {
    if range.lowerBound > 0 {
      let before = UTF8Text.scalarStart(text, before: range.lowerBound)
      if UTF8Text.isWord(UTF8Text.scalar(text, at: before).value) { return true }
    }
    return range.upperBound < text.count
      && UTF8Text.isWord(UTF8Text.scalar(text, at: range.upperBound).value)
  }
}

extension AddedToken {
  /// Reads one element of "added_tokens".
  init(_ part: TokenizerPart) throws {
    content = try part.string("content").bytes
    number = Int32(try part.required("id").integer(in: 0...Vocabulary.numberLimit - 1))
    isSpecial = try part.bool("special", default: false)
    stripsLeft = try part.bool("lstrip", default: false)
    stripsRight = try part.bool("rstrip", default: false)
    isSingleWord = try part.bool("single_word", default: false)
    isNormalized = try part.bool("normalized", default: !isSpecial)
  }
}
