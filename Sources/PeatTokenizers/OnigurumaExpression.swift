/// A regular expression of Oniguruma's dialect on its way to ICU's.
///
/// Classes: Oniguruma's `\s` has the vertical tab and U+0085, ICU's has not; ICU's `\w` has the two joiners, Oniguruma's has not, but outside of brackets
/// has Latin-1's raised digits and fractions. Of the classes in double brackets `[:punct:]` has symbols, too, `[:xdigit:]` ASCII's digits alone, and `[:word:]` no joiners.
///
/// Repetitions: Oniguruma repeats what is repeated (`x{1,3}+` is `(?:x{1,3})+`, `x{2}?` is `(?:x{2})?`), where ICU reads a sign behind braces as a manner of
/// repeating or not at all; `{,3}` begins at 0.
struct OnigurumaExpression {
  private var result: [Unicode.Scalar] = []
  /// Where the last thing that can be repeated begins, counted in scalars of the result.
  private var atom = 0
  /// Where the groups begin that are open.
  private var groups: [Int] = []
  private var repetition = Repetition.none
  /// How often repetitions are repeated.
  private var enclosures = 0
  private static let mostEnclosures = 100

  /// What the last thing is repeated by, and so what signs may follow that say how.
  private enum Repetition {
    case none
    /// `*`, `+`, `?`: a `?` or `+` behind it says how.
    case sign
    /// `{1,3}`: a `?` says how.
    case range
    /// `{3}`, or a manner is said: whatever follows repeats it all.
    case whole
  }

  /// - Throws: `badData` for what ICU has not.
  static func inICU(_ source: String, _ part: TokenizerPart) throws -> String {
    var expression = OnigurumaExpression()
    try expression.read(Array(source.unicodeScalars), source, part)
    return String(String.UnicodeScalarView(expression.result))
  }

  private mutating func read(
    _ scalars: [Unicode.Scalar], _ source: String, _ part: TokenizerPart
  ) throws {
    var place = 0
    var depth = 0
    var bracket = 0
    while place < scalars.count {
      let scalar = scalars[place]
      if scalar == "\\" {
        if depth == 0 { begin() }
        place = try readEscaped(scalars, place, isInBrackets: depth > 0, source, part)
        continue
      }
      if depth > 0, let named = NamedClass(scalars, place) {
        result.append(contentsOf: named.text.unicodeScalars)
        place = named.end
        continue
      }
      place += 1
      if depth > 0 || scalar == "[" {
        if scalar == "[" {
          if depth == 0 { bracket = result.count }
          depth += 1
        } else if scalar == "]" {
          depth -= 1
        }
        result.append(scalar)
        if depth == 0 { (atom, repetition) = (bracket, .none) }
        continue
      }
      switch scalar {
      case "(":
        groups.append(result.count)
        result.append(scalar)
        repetition = .none
        // No sign of repetition, but of the group's kind.
        if place < scalars.count, scalars[place] == "?" {
          result.append("?")
          place += 1
        }
      case ")":
        atom = groups.popLast() ?? result.count
        repetition = .none
        result.append(scalar)
      case "*", "+", "?":
        readSign(scalar)
        try check(source, part)
      case "{":
        guard let range = RepetitionRange(scalars, place) else { fallthrough }
        place = range.end
        readRange(range)
        try check(source, part)
      default:
        begin()
        result.append(scalar)
      }
    }
  }

  /// Something begins that can be repeated.
  private mutating func begin() {
    atom = result.count
    repetition = .none
  }

  /// Makes one thing of the last one and its repetition.
  private mutating func enclose() {
    result.insert(contentsOf: "(?:".unicodeScalars, at: atom)
    result.append(")")
    repetition = .none
    enclosures += 1
  }

  private func check(_ source: String, _ part: TokenizerPart) throws {
    guard enclosures > Self.mostEnclosures else { return }
    throw part.failure(
      "repeats what is repeated more than \(Self.mostEnclosures) times in the regular expression '\(source.prefix(200))'."
    )
  }

  private mutating func readSign(_ sign: Unicode.Scalar) {
    switch (repetition, sign) {
    case (.none, _): repetition = .sign
    case (.sign, "?"), (.sign, "+"), (.range, "?"): repetition = .whole
    default:
      enclose()
      repetition = .sign
    }
    result.append(sign)
  }

  private mutating func readRange(_ range: RepetitionRange) {
    if repetition != .none { enclose() }
    result.append(contentsOf: range.text.unicodeScalars)
    repetition = range.isExact ? .whole : .range
  }

  /// `[:punct:]` or `[:^punct:]` within brackets, where ICU has another class by that name.
  private struct NamedClass {
    let text: String
    /// Where the text goes on.
    let end: Int

    private static let contents = [
      "punct": "\\p{P}\\p{S}", "xdigit": "0-9A-Fa-f", "word": "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}",
    ]

    init?(_ scalars: [Unicode.Scalar], _ start: Int) {
      guard scalars[start...].starts(with: "[:".unicodeScalars) else { return nil }
      var place = start + 2
      let isNegated = place < scalars.count && scalars[place] == "^"
      if isNegated { place += 1 }
      let name = String(
        String.UnicodeScalarView(scalars[place...].prefix { $0 != ":" && $0 != "]" }))
      place += name.unicodeScalars.count
      guard let content = Self.contents[name],
        scalars[place...].starts(with: ":]".unicodeScalars)
      else { return nil }
      text = isNegated ? "[^\(content)]" : "[\(content)]"
      end = place + 2
    }
  }

  /// `{3}`, `{1,3}`, `{1,}` or `{,3}`.
  private struct RepetitionRange {
    let text: String
    let isExact: Bool
    /// Where the text goes on.
    let end: Int

    /// - Parameter start: behind the opening brace.
    init?(_ scalars: [Unicode.Scalar], _ start: Int) {
      guard let close = scalars[start...].firstIndex(of: "}") else { return nil }
      let numbers = scalars[start..<close].split(
        separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
      let digits: ClosedRange<Unicode.Scalar> = "0"..."9"
      guard numbers.contains(where: { !$0.isEmpty }),
        numbers.allSatisfy({ $0.allSatisfy(digits.contains) })
      else { return nil }
      func word(_ number: some Sequence<Unicode.Scalar>) -> String {
        String(String.UnicodeScalarView(number))
      }
      let first = numbers[0].isEmpty ? "0" : word(numbers[0])
      isExact = numbers.count == 1
      text = isExact ? "{\(first)}" : "{\(first),\(word(numbers[1]))}"
      end = close + 1
    }
  }

  /// Behind `\p` and `\x` braces hold a name.
  ///
  /// - Returns: where the text goes on.
  private mutating func readEscaped(
    _ scalars: [Unicode.Scalar], _ place: Int, isInBrackets: Bool, _ source: String,
    _ part: TokenizerPart
  ) throws -> Int {
    guard place + 1 < scalars.count else {
      result.append("\\")
      return place + 1
    }
    let scalar = scalars[place + 1]
    func append(_ text: String) { result.append(contentsOf: text.unicodeScalars) }
    switch scalar {
    case "s": append("[\\t-\\r\\x{85}\\p{Z}]")
    case "S": append("[^\\t-\\r\\x{85}\\p{Z}]")
    case "w" where isInBrackets: append("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]")
    case "W" where isInBrackets: append("[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]")
    case "w": append("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}²³¹¼-¾]")
    case "W": append("[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}²³¹¼-¾]")
    case "h", "H", "R", "X", "K", "g", "k", "G":
      throw part.failure(
        "uses '\\\(scalar)', which is not supported in the regular expression '\(source)'.")
    default:
      result.append("\\")
      result.append(scalar)
      if ["p", "P", "x"].contains(scalar), place + 2 < scalars.count, scalars[place + 2] == "{",
        let close = scalars[(place + 2)...].firstIndex(of: "}")
      {
        result.append(contentsOf: scalars[(place + 2)...close])
        return close + 1
      }
    }
    return place + 2
  }
}
