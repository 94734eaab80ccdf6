import PeatTensor

/// A regular expression of Oniguruma's dialect on its way to ICU's.
///
/// It is read sign by sign and written anew, so that nothing in it means anything else to ICU: what is only a letter there is written as one, what ICU has not is
/// written with what it has, and the rest is refused.
///
/// Source: ONIG_SYNTAX_ONIGURUMA, <https://github.com/kkos/oniguruma/blob/master/doc/RE>.
struct OnigurumaExpression {
  private let source: String
  let part: TokenizerPart
  let scalars: [Unicode.Scalar]
  /// Where the reader stands.
  var place = 0
  var result: [Unicode.Scalar] = []
  var options = Options()
  /// Those that are open.
  var groups: [Group] = []

  /// Where the last thing that can be repeated begins, counted in scalars of the result.
  var atom = 0
  var last = Last.nothing
  /// How often repetitions are repeated.
  var enclosures = 0

  /// Whether groups without a name have no number.
  let numbersNamesAlone: Bool
  var captureCount = 0
  var names: [String: Int] = [:]
  var largestReference = 0
  /// The characters that the class which is read names one by one or as ranges.
  var ranges: [ClosedRange<Unicode.Scalar>] = []

  /// The most characters that are read, and that they may become: ICU takes a time that grows with the square of them.
  private static let mostScalars = 16_384
  private static let mostInResult = 65_536
  static let mostNested = 200
  static let mostEnclosures = 100
  /// How often a repetition in braces may say, as in Oniguruma.
  static let mostRepetitions = 100_000

  /// What means nothing in the extended form.
  private static let blanks: Set<Unicode.Scalar> = [" ", "\t", "\n", "\u{C}", "\r"]

  struct Options {
    var ignoresCase = false
    var dotTakesLineFeeds = false
    /// White space and what stands behind `#` mean nothing.
    var isExtended = false
  }

  struct Group {
    /// Where it begins, counted in scalars of the result.
    var start: Int
    /// Those behind it.
    var options: Options
    /// Whether it is of options that stand alone, and ends with the group around it.
    var isImplicit = false
    /// Whether it looks ahead or behind.
    var looks = false
    /// Of one that can be referred to.
    var number: Int?
  }

  /// What stands before: signs of repetition may follow or not, and say how or how often.
  enum Last {
    case nothing
    /// A place: it can't be repeated.
    case place
    case thing
    /// Repeated by `*`, `+`, `?`: a `?` or `+` behind it says how.
    case sign
    /// Repeated by `{1,3}`: a `?` says how.
    case range
    /// Repeated by `{3}`, or a manner is said: whatever follows repeats it all.
    case whole
  }

  /// - Throws: `badData` for what ICU has not, and for what is none of Oniguruma's expressions.
  static func inICU(_ source: String, _ part: TokenizerPart) throws -> String {
    var expression = OnigurumaExpression(source, part, numbersNamesAlone: false)
    try expression.read()
    if !expression.names.isEmpty {
      expression = OnigurumaExpression(source, part, numbersNamesAlone: true)
      try expression.read()
    }
    return String(String.UnicodeScalarView(expression.result))
  }

  private init(_ source: String, _ part: TokenizerPart, numbersNamesAlone: Bool) {
    self.source = source
    self.part = part
    self.numbersNamesAlone = numbersNamesAlone
    scalars = Array(source.unicodeScalars)
  }

  // MARK: Reading

  var next: Unicode.Scalar? { place < scalars.count ? scalars[place] : nil }

  mutating func skip(_ text: String) -> Bool {
    guard scalars[place...].starts(with: text.unicodeScalars) else { return false }
    place += text.unicodeScalars.count
    return true
  }

  /// What stands before a sign, which is skipped; `nil` where it is not found within so many characters.
  mutating func skip(through end: Unicode.Scalar, within count: Int = 100) -> String? {
    guard let found = scalars[place...].prefix(count).firstIndex(of: end) else { return nil }
    defer { place = found + 1 }
    return String(String.UnicodeScalarView(scalars[place..<found]))
  }

  var excerpt: String { "'\(source.prefix(200))'" }

  /// - Parameter start: where what is not known begins.
  func unsupported(_ what: String, at start: Int, _ advice: String = "") -> PeatError {
    part.failure(
      "uses \(what) at character \(start + 1), which is not supported in the regular expression \(excerpt)."
        + (advice.isEmpty ? " Write it without." : " \(advice)"))
  }

  func malformed(_ why: String) -> PeatError {
    part.failure("is not a regular expression that can be read here: \(excerpt) \(why).")
  }

  private mutating func read() throws {
    guard scalars.count <= Self.mostScalars else {
      throw tooLong("at most \(Self.mostScalars) can be read")
    }
    while let scalar = next {
      let start = place
      place += 1
      switch scalar {
      case "\\": try appendEscape(at: start)
      case "[":
        append(try bracketed(from: start, ignoresCase: options.ignoresCase), .thing)
      case "(": try openGroup(at: start)
      case ")": try closeGroup(at: start)
      case "|": append("|", .nothing)
      case "*", "+", "?": try appendSign(scalar, at: start)
      case "{":
        if let range = try readRange() {
          try append(range, at: start)
        } else {
          append(literal: "{")
        }
      // ICU's own stands behind the last line feed of a text, too.
      case "^": append(#"(?:^(?!\z))"#, .place)
      case "$": append("$", .place)
      // ICU's own would take a carriage return and a line feed as one.
      case "." where options.dotTakesLineFeeds: append(Self.anything, .thing)
      case ".": append(".", .thing)
      case _ where options.isExtended && Self.blanks.contains(scalar): separate()
      case "#" where options.isExtended:
        while let other = next, other != "\n" { place += 1 }
        separate()
      default: append(literal: scalar)
      }
      guard result.count <= Self.mostInResult else {
        throw tooLong("its classes and repetitions make it too long to be read")
      }
    }
    while groups.last?.isImplicit == true { close() }
    if !groups.isEmpty { throw malformed("has a '(' without ')'") }
    if result.isEmpty { append("(?:)", .thing) }
    if largestReference > captureCount {
      throw malformed("refers to group \(largestReference) and has \(captureCount)")
    }
  }

  private func tooLong(_ why: String) -> PeatError {
    part.failure("is a regular expression of \(scalars.count) characters, \(why): \(excerpt).")
  }

  /// Signs behind white space or a comment do not say how, but repeat.
  mutating func separate() {
    if last == .sign || last == .range { last = .whole }
  }

  // MARK: Writing

  mutating func append(_ text: String, _ kind: Last) {
    atom = result.count
    last = kind
    result.append(contentsOf: text.unicodeScalars)
  }

  mutating func append(literal scalar: Unicode.Scalar) {
    append(
      scalar.isASCII && scalar.properties.generalCategory.isSign
        ? "\\\(scalar)" : String(scalar), .thing)
  }

  private mutating func appendEscape(at start: Int) throws {
    switch try escape(from: start, isInBrackets: false) {
    case .scalar(let scalar): append(literal: scalar)
    // As Oniguruma has it, classes without brackets take no other case.
    case .set(let text): append(options.ignoresCase ? "(?-i:\(text))" : text, .thing)
    case .thing(let text): append(text, .thing)
    case .place(let text): append(text, .place)
    }
  }
}

extension Unicode.GeneralCategory {
  /// Whether it is one of punctuation or symbols.
  fileprivate var isSign: Bool {
    switch self {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation, .mathSymbol, .currencySymbol,
      .modifierSymbol, .otherSymbol:
      return true
    default: return false
    }
  }
}
