import Foundation

/// A regular expression of a tokenizer's file, which ends whatever it says: one that goes over the same text again and again is stopped after so many steps.
///
/// `NSRegularExpression` saves a state where it may have to come back, and reports after each 10 000 of these steps. The bounds are those of Oniguruma, which tokenizers runs:
/// ten million steps for what is found at one place; and, as that would still be days for a long text, a billion in all, seconds, and more by its length. What begins each match anew and ends an alternative
/// with its only repetition, such as `\s+` or ` ?[^\s\p{L}]+`, needs no bound, and is run without one.
///
/// Source: `retry-limit-in-match`, <https://github.com/kkos/oniguruma/blob/master/doc/API>.
package struct BoundedExpression: Sendable {
  let source: String
  private let compiled: NSRegularExpression
  /// The group that has the character at which nothing was found; `nil` where the expression is run without a bound. With it each search ends where it begins, so that steps
  /// alone are reported and not how far it has come.
  private let missGroup: Int?

  /// Steps between two reports.
  static let stepsPerReport = 10_000
  /// Reports at one place.
  package static let reportsPerPlace = 1000

  /// Reports for a whole text of so many UTF-16 units: a billion steps, and a thousand of them for each unit. A look-ahead that fails behind a run of n characters takes n² / 2.
  package static func reports(forLength length: Int) -> Int { 100_000 + length / 10 }

  /// - Parameters:
  ///   - source: as the file has it.
  ///   - pattern: the same in ICU's dialect.
  /// - Returns: `nil` where it is no regular expression.
  package init?(_ source: String, as pattern: String) {
    // Lines end with a line feed alone, and `^` and `$` stand at each, as in Oniguruma.
    let options: NSRegularExpression.Options = [.anchorsMatchLines, .useUnixLineSeparators]
    guard let plain = try? NSRegularExpression(pattern: pattern, options: options) else {
      return nil
    }
    self.source = source
    if Self.isLinear(pattern) {
      (compiled, missGroup) = (plain, nil)
    } else {
      // Not '.', which takes a carriage return and a line feed as one.
      guard
        let bounded = try? NSRegularExpression(
          pattern: "(?:\(pattern))|([\\x{0}-\\x{10FFFF}])", options: options)
      else { return nil }
      (compiled, missGroup) = (bounded, plain.numberOfCaptureGroups + 1)
    }
  }

  /// How a search ended.
  package struct Outcome {
    /// In UTF-16 units.
    package var matches: [NSRange] = []
    /// How often the matcher reported, and how often at the place where it did most.
    package var reports = 0
    package var mostAtOnePlace = 0
    package var ranOutOfMemory = false
    package var wasStopped = false
  }

  /// The matches from left to right.
  package func search(_ text: String, length: Int) -> Outcome {
    var outcome = Outcome()
    var atThisPlace = 0
    let most = Self.reports(forLength: length)
    // The last call tells how it ended: where the matcher gives up, there are no further matches.
    compiled.enumerateMatches(
      in: text,
      options: missGroup == nil ? .reportCompletion : [.reportCompletion, .reportProgress],
      range: NSRange(location: 0, length: length)
    ) { match, flags, stop in
      if let match {
        atThisPlace = 0
        if missGroup.map({ match.range(at: $0).location == NSNotFound }) ?? true {
          outcome.matches.append(match.range)
        }
      }
      if flags.contains(.progress) {
        outcome.reports += 1
        atThisPlace += 1
        outcome.mostAtOnePlace = max(outcome.mostAtOnePlace, atThisPlace)
        if atThisPlace > Self.reportsPerPlace || outcome.reports > most {
          outcome.wasStopped = true
          stop.pointee = true
        }
      }
      if flags.contains(.internalError) { outcome.ranOutOfMemory = true }
    }
    return outcome
  }

  /// Whether each alternative is a row of single characters and classes, a few of them optional, and repeats at most its last one, greedily: what was found is then never given
  /// back, and what was not found took no longer than the row.
  package static func isLinear(_ source: String) -> Bool {
    var reader = ExpressionReader(source)
    var optional = 0
    while !reader.isAtEnd {
      if reader.skip("|") {
        optional = 0
        continue
      }
      guard reader.skipSingle() else { return false }
      if reader.skip("?") {
        optional += 1
        guard optional <= 3, !reader.isAt("?"), !reader.isAt("+") else { return false }
      } else if reader.skip("+") || reader.skip("*") {
        guard reader.isAtEnd || reader.isAt("|") else { return false }
      } else if reader.isAt("{") {
        return false
      }
    }
    return true
  }
}

/// Goes through a regular expression, one character or class at a time.
private struct ExpressionReader {
  private let scalars: [Unicode.Scalar]
  private var place = 0

  init(_ source: String) { scalars = Array(source.unicodeScalars) }

  var isAtEnd: Bool { place == scalars.count }

  func isAt(_ scalar: Unicode.Scalar) -> Bool { !isAtEnd && scalars[place] == scalar }

  mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
    guard isAt(scalar) else { return false }
    place += 1
    return true
  }

  /// A character, an escaped one, or a class; false where something else begins, and nothing is skipped.
  mutating func skipSingle() -> Bool {
    guard !isAtEnd else { return false }
    switch scalars[place] {
    case "[": return skipClass()
    case "\\": return skipEscape()
    case "(", ")", "^", "$", "|", "?", "*", "+", "{", "}", "]": return false
    default:
      place += 1
      return true
    }
  }

  private mutating func skipEscape() -> Bool {
    guard place + 1 < scalars.count else { return false }
    let next = scalars[place + 1]
    switch next {
    case "s", "S", "d", "D", "w", "W", "n", "r", "t": break
    case "p", "P":
      guard place + 2 < scalars.count, scalars[place + 2] == "{",
        let end = scalars[place...].firstIndex(of: "}")
      else { return false }
      place = end + 1
      return true
    case _ where next.properties.isAlphabetic || next.properties.numericType != nil: return false
    default: break
    }
    place += 2
    return true
  }

  private mutating func skipClass() -> Bool {
    var (depth, at) = (0, place)
    while at < scalars.count {
      switch scalars[at] {
      case "\\": at += 1
      case "[": depth += 1
      case "]":
        depth -= 1
        if depth == 0 {
          place = at + 1
          return true
        }
      default: break
      }
      at += 1
    }
    return false
  }
}
