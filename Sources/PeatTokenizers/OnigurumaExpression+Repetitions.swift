import PeatTensor

/// Repetitions.
///
/// Oniguruma repeats what is repeated (`x{1,3}+` is `(?:x{1,3})+`, `x{2}?` is `(?:x{2})?`), where ICU reads a sign behind braces as a manner of
/// repeating or not at all; `{,3}` begins at 0.
extension OnigurumaExpression {
  /// Makes one thing of the last one and its repetition.
  private mutating func enclose(as kind: String = "(?:") throws {
    result.insert(contentsOf: kind.unicodeScalars, at: atom)
    result.append(")")
    enclosures += 1
    guard enclosures > Self.mostEnclosures else { return }
    throw part.failure(
      "repeats what is repeated more than \(Self.mostEnclosures) times in the regular expression \(excerpt)."
    )
  }

  private func checkRepeats(at start: Int) throws {
    switch last {
    case .nothing: throw malformed("repeats nothing at character \(start + 1)")
    case .place:
      throw malformed("repeats at character \(start + 1) a place, which takes no characters")
    case .thing, .sign, .range, .whole: break
    }
  }

  mutating func appendSign(_ sign: Unicode.Scalar, at start: Int) throws {
    try checkRepeats(at: start)
    switch (last, sign) {
    case (.thing, _): last = .sign
    // ICU would repeat for ever what may take nothing and gives nothing back.
    case (.sign, "+") where result[atom] == "(":
      try enclose(as: "(?>")
      last = .whole
      return
    case (.sign, "?"), (.sign, "+"), (.range, "?"): last = .whole
    default:
      try enclose()
      last = .sign
    }
    result.append(sign)
  }

  mutating func append(_ range: (text: String, isExact: Bool), at start: Int) throws {
    try checkRepeats(at: start)
    if last != .thing { try enclose() }
    result.append(contentsOf: range.text.unicodeScalars)
    last = range.isExact ? .whole : .range
  }

  /// `{3}`, `{1,3}`, `{1,}` or `{,3}`; `nil` where an opening brace is only that.
  mutating func readRange() throws -> (text: String, isExact: Bool)? {
    let start = place
    let low = skipDigits()
    let isExact = !skip(",")
    let high = isExact ? low : skipDigits()
    guard skip("}"), !(low.isEmpty && high.isEmpty) else {
      place = start
      return nil
    }
    let values = try [low.isEmpty ? "0" : low, high].map { digits -> Int in
      guard let value = digits.isEmpty ? .max : Int(digits),
        digits.isEmpty || value <= Self.mostRepetitions
      else {
        throw part.failure(
          "repeats something \(digits.prefix(40)) times, at most \(Self.mostRepetitions) are possible: \(excerpt)."
        )
      }
      return value
    }
    if values[0] > values[1] {
      throw malformed("repeats something \(values[0]) to \(values[1]) times")
    }
    let bounds = isExact ? "\(values[0])" : "\(values[0]),\(high.isEmpty ? "" : "\(values[1])")"
    return ("{\(bounds)}", isExact)
  }

  private mutating func skipDigits() -> String {
    let digits = scalars[place...].prefix { ("0"..."9").contains($0) }
    place = digits.endIndex
    return String(String.UnicodeScalarView(digits))
  }
}
