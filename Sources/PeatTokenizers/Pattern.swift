import Foundation
import PeatTensor

/// What `Replace` and `Split` look for: a string, or a regular expression.
///
/// `{"String": " "}` or `{"Regex": "\\s+"}`. Regular expressions are read in Oniguruma's dialect, as Hugging Face
/// writes them, and run by `NSRegularExpression`; the classes in which the two differ are rewritten first.
///
/// A regular expression that needs exponential time needs it here too: read tokenizers from sources you trust.
struct Pattern: Sendable {
  private enum Kind: Sendable {
    case string([UInt8])
    case expression(NSRegularExpression)
  }
  private let kind: Kind

  init(_ part: TokenizerPart) throws {
    if let string = try part.optional("String") {
      let bytes = try string.string().bytes
      if bytes.isEmpty { throw string.failure("is empty; expected a string to look for.") }
      kind = .string(bytes)
    } else if let expression = try part.optional("Regex") {
      let source = try expression.string().text
      do {
        kind = .expression(
          try NSRegularExpression(pattern: try Self.translated(source, expression)))
      } catch let error as PeatError {
        throw error
      } catch {
        throw expression.failure("is not a regular expression that can be read here: '\(source)'.")
      }
    } else {
      throw part.failure("is no pattern; expected {\"String\": …} or {\"Regex\": …}.")
    }
  }

  init(string: [UInt8]) {
    precondition(!string.isEmpty, "a pattern needs a string to look for")
    kind = .string(string)
  }

  /// The matches, from left to right, without overlap, as ranges of bytes.
  func matches(in text: [UInt8]) -> [Range<Int>] {
    switch kind {
    case .string(let wanted): Self.occurrences(of: wanted, in: text)
    case .expression(let expression): Self.matches(of: expression, in: text)
    }
  }

  /// The text with every match replaced.
  func replacing(in text: [UInt8], with content: [UInt8]) -> [UInt8] {
    let matches = matches(in: text)
    if matches.isEmpty { return text }
    var result: [UInt8] = []
    result.reserveCapacity(text.count + matches.count * max(0, content.count - matches[0].count))
    var end = 0
    for match in matches {
      result.append(contentsOf: text[end..<match.lowerBound])
      result.append(contentsOf: content)
      end = match.upperBound
    }
    result.append(contentsOf: text[end...])
    return result
  }

  private static func occurrences(of wanted: [UInt8], in text: [UInt8]) -> [Range<Int>] {
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

  private static func matches(of expression: NSRegularExpression, in text: [UInt8]) -> [Range<Int>]
  {
    let string = String(decoding: text, as: UTF8.self)
    let found = expression.matches(
      in: string, range: NSRange(location: 0, length: string.utf16.count))
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
    for match in found {
      let start = byteOffset(match.range.location)
      result.append(start..<byteOffset(match.range.location + match.range.length))
    }
    return result
  }

  /// Oniguruma's `\s` has the vertical tab and U+0085, ICU's has not; ICU's `\w` has the two joiners, Oniguruma's has not.
  private static func translated(_ source: String, _ part: TokenizerPart) throws -> String {
    var result = ""
    var isEscaped = false
    for scalar in source.unicodeScalars {
      if !isEscaped {
        if scalar == "\\" { isEscaped = true } else { result.unicodeScalars.append(scalar) }
        continue
      }
      isEscaped = false
      switch scalar {
      case "s": result += "[\\t-\\r\\x{85}\\p{Z}]"
      case "S": result += "[^\\t-\\r\\x{85}\\p{Z}]"
      case "w": result += "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]"
      case "W": result += "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]"
      case "h", "H", "R", "X", "K", "g", "k", "G":
        throw part.failure(
          "uses '\\\(scalar)', which is not supported in the regular expression '\(source)'.")
      default:
        result += "\\"
        result.unicodeScalars.append(scalar)
      }
    }
    return result + (isEscaped ? "\\" : "")
  }
}
