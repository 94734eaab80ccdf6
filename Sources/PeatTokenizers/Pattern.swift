import Foundation
import PeatTensor

/// What `Replace` and `Split` look for: a string, or a regular expression.
///
/// `{"String": " "}` or `{"Regex": "\\s+"}`. Regular expressions are read in Oniguruma's dialect, as Hugging Face
/// writes them, and run by `NSRegularExpression`; `OnigurumaExpression` writes them anew for it.
///
/// One that needs more steps for a text than `BoundedExpression` allows, or more memory than the matcher has, is an error that names it.
struct Pattern: Sendable {
  private enum Kind: Sendable {
    case string([UInt8])
    case expression(BoundedExpression)
    /// Two spaces or more, which many files of sentencepiece models name as a regular expression.
    case spaceRun
    /// White space in front of a line's end, as DeepSeek's files look for it: a matcher would try each blank of a run anew.
    case spaceAtLineEnd
  }
  private let kind: Kind
  private let place: TokenizerPart

  /// The most bytes a match may be replaced by, and the most a text may come to by it.
  private static let contentLimit = 4096
  private static let textLimit = 1 << 30
  /// What a text may always become by it, and how often its own length.
  private static let freeSize = 16 << 20
  private static let growthLimit = 16

  init(_ part: TokenizerPart) throws {
    place = part
    if let string = try part.optional("String") {
      let bytes = try string.string().bytes
      if bytes.isEmpty { throw string.failure("is empty; expected a string to look for.") }
      kind = .string(bytes)
    } else if let expression = try part.optional("Regex") {
      let source = try expression.string().text
      if source == " {2,}" {
        kind = .spaceRun
        return
      }
      if source == #"\s+$"# {
        kind = .spaceAtLineEnd
        return
      }
      let translated = try OnigurumaExpression.inICU(source, expression)
      guard let bounded = BoundedExpression(source, as: translated) else {
        throw expression.failure(
          "is not a regular expression that can be read here: '\(source.prefix(200))'.")
      }
      kind = .expression(bounded)
    } else {
      throw part.failure("is no pattern; expected {\"String\": …} or {\"Regex\": …}.")
    }
  }

  /// Reads what matches are replaced by.
  static func content(_ part: TokenizerPart) throws -> [UInt8] {
    let bytes = try part.string().bytes
    guard bytes.count <= contentLimit else {
      throw part.failure("takes \(bytes.count) bytes, expected at most \(contentLimit).")
    }
    return bytes
  }

  /// The matches, from left to right, without overlap, as ranges of bytes; none in the empty text, as in tokenizers.
  ///
  /// - Throws: `badData` where the regular expression can't be matched against the text within its bounds.
  func matches(in text: [UInt8]) throws -> [Range<Int>] {
    if text.isEmpty { return [] }
    switch kind {
    case .string(let wanted): return Self.occurrences(of: wanted, in: text)
    case .spaceRun: return Self.spaceRuns(in: text)
    case .spaceAtLineEnd: return Self.spaceAtLineEnds(in: text)
    case .expression(let expression): return try matches(of: expression, in: text)
    }
  }

  /// The text with every match replaced.
  ///
  /// - Throws: `badData` as `matches(in:)`, and where the text would become absurdly long.
  func replacing(in text: [UInt8], with content: [UInt8]) throws -> [UInt8] {
    try replacing(matches(in: text), in: text, with: content)
  }

  func replacing(_ matches: [Range<Int>], in text: [UInt8], with content: [UInt8]) throws
    -> [UInt8]
  {
    let size = text.count + matches.count * content.count - matches.reduce(0) { $0 + $1.count }
    let limit = max(
      text.count,
      min(Self.textLimit, max(Self.freeSize, Self.growthLimit * text.count)))
    guard size <= limit else {
      throw place.failure(
        "is replaced \(matches.count) times, which makes \(size) bytes of a text of \(text.count); "
          + "at most \(limit) can be handled.")
    }
    return text.replacing(matches, with: content)
  }

  private static func spaceRuns(in text: [UInt8]) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var index = 0
    while index < text.count {
      let start = index
      while index < text.count, text[index] == 0x20 { index += 1 }
      if index > start + 1 { result.append(start..<index) }
      index = max(index, start + 1)
    }
    return result
  }

  static func occurrences(of wanted: [UInt8], in text: [UInt8]) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var index = 0
    let first = wanted[0]
    while index + wanted.count <= text.count {
      var length = 0
      if text[index] == first {
        length = 1
        while length < wanted.count, text[index + length] == wanted[length] { length += 1 }
      }
      if length == wanted.count {
        result.append(index..<index + length)
        index += length
      } else {
        index += 1
      }
    }
    return result
  }

  /// What `\s+$` finds: of each run of white space all up to the last end of a line in it, which is a line feed or the end of the text.
  static func spaceAtLineEnds(in text: [UInt8]) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var index = 0
    while index < text.count {
      let start = index
      var lineEnd = start
      while index < text.count {
        let scalar = UTF8Text.scalar(text, at: index)
        guard UTF8Text.isWhitespace(scalar.value) else { break }
        if scalar.value == 0x0A { lineEnd = index }
        index += scalar.length
      }
      if index == text.count { lineEnd = index }
      if lineEnd > start { result.append(start..<lineEnd) }
      if index < text.count { index += UTF8Text.scalar(text, at: index).length }
    }
    return result
  }

  private func matches(
    of expression: BoundedExpression, in text: [UInt8]
  ) throws -> [Range<Int>] {
    let string = String(decoding: text, as: UTF8.self)
    let length = string.utf16.count
    let outcome = expression.search(string, length: length)
    let found = outcome.matches
    if outcome.wasStopped {
      let steps = outcome.reports * BoundedExpression.stepsPerReport
      throw place.failure(
        "is a regular expression that goes over a text of \(length) characters again and again, and was stopped after \(steps) steps: "
          + "'\(expression.source.prefix(200))'. Repetitions inside of repetitions do so, and what looks ahead behind a repetition; write it without them, or try shorter documents."
      )
    }
    if outcome.ranOutOfMemory {
      throw place.failure(
        "is a regular expression that can't be matched against a text of \(length) characters, because it needs too "
          + "much memory: '\(expression.source.prefix(200))'. Try shorter documents.")
    }
    var result: [Range<Int>] = []
    result.reserveCapacity(found.count)
    // UTF-16 offsets to byte offsets: both only grow.
    var unit = 0
    var byte = 0
    func byteOffset(_ wanted: Int) -> Int {
      while unit < wanted, byte < text.count {
        let length = UTF8Text.scalar(text, at: byte).length
        unit += length == 4 ? 2 : 1
        byte += length
      }
      return byte
    }
    var end = -1
    for match in found {
      // Nothing right behind a match is no match for tokenizers.
      if match.length == 0, match.location == end { continue }
      end = match.location + match.length
      let start = byteOffset(match.location)
      result.append(start..<byteOffset(match.location + match.length))
    }
    return result
  }
}

extension [UInt8] {
  /// The text with the ranges, which are in order and without overlap, replaced.
  func replacing(_ matches: [Range<Int>], with content: [UInt8]) -> [UInt8] {
    if matches.isEmpty { return self }
    var result: [UInt8] = []
    result.reserveCapacity(count + matches.count * Swift.max(0, content.count - matches[0].count))
    var end = 0
    for match in matches {
      result.append(contentsOf: self[end..<match.lowerBound])
      result.append(contentsOf: content)
      end = match.upperBound
    }
    result.append(contentsOf: self[end...])
    return result
  }
}
