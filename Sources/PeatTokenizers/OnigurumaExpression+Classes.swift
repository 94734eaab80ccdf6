import PeatTensor

/// Classes in brackets, by names and by properties.
///
/// What stands between two `&&` is one class, and a `[` in brackets begins another; `]` is a character where it comes first. Of the classes in double brackets `[:punct:]` has
/// symbols, too, `[:xdigit:]` ASCII's digits alone, and `[:word:]` no joiners.
extension OnigurumaExpression {
  private static let classNames: [String: String] = [
    "alnum": "[:alnum:]", "alpha": "[:alpha:]", "ascii": "[:ascii:]", "blank": "[:blank:]",
    "cntrl": "[:cntrl:]", "digit": "[:digit:]", "graph": "[:graph:]", "lower": "[:lower:]",
    "print": "[:print:]", "punct": #"[\p{P}\p{S}]"#, "space": "[:space:]", "upper": "[:upper:]",
    "word": "[\(word)]", "xdigit": "[0-9A-Fa-f]",
  ]

  /// A class; the reader stands behind the opening bracket.
  ///
  /// - Parameter start: where the bracket stands.
  mutating func bracketed(from start: Int, ignoresCase: Bool) throws -> String {
    ranges = []
    let isNegated = next == "^"
    let text = try bracketed(from: start, depth: 1)
    if ignoresCase, !isNegated { try checkUnfolded(at: start) }
    return text
  }

  /// Characters that without case are the same as several others, such as ß, and the first of these.
  private static let unfolded: [(scalar: Unicode.Scalar, first: Unicode.Scalar)] =
    (UInt32(0x80)..<0x10000).compactMap { value in
      guard let scalar = Unicode.Scalar(value) else { return nil }
      if scalar == "İ" { return (scalar, "i") }
      if scalar == "ẞ" { return (scalar, "s") }
      let upper = scalar.properties.uppercaseMapping.unicodeScalars
      guard upper.count > 1,
        let first = upper.first?.properties.lowercaseMapping.unicodeScalars.first
      else { return nil }
      return (scalar, first)
    }

  /// Oniguruma takes `ss` for `[ß]` where there is no case, ICU does not; with an `s` in the class it makes no difference.
  private func checkUnfolded(at start: Int) throws {
    for (scalar, first) in Self.unfolded
    where ranges.contains(where: { $0.contains(scalar) })
      && !ranges.contains(where: { $0.contains(first) })
      && !ranges.contains(where: { $0.contains(first.uppercased) })
    {
      throw unsupported(
        "'\(scalar)' in a class without case", at: start,
        "Write it without (?i), or '\(first)' beside it.")
    }
  }

  private mutating func bracketed(from start: Int, depth: Int) throws -> String {
    guard depth <= Self.mostNested else {
      throw malformed("has classes within each other more than \(Self.mostNested) deep")
    }
    let isNegated = skip("^")
    var operands = [""]
    var previous = Previous.nothing
    var isFirst = true
    while let scalar = next {
      if scalar == "]", !isFirst { break }
      isFirst = false
      if skip("&&") {
        operands.append("")
        previous = .nothing
      } else {
        operands[operands.count - 1] += try member(after: &previous, depth: depth)
      }
    }
    guard skip("]") else { throw malformed("has a '[' without ']' at character \(start + 1)") }
    if operands.contains("") {
      throw unsupported("'&&' beside nothing", at: start, "Write a class on both of its sides.")
    }
    let inner =
      operands.count == 1 ? operands[0] : operands.map { "[\($0)]" }.joined(separator: "&&")
    return !isNegated
      ? "[\(inner)]" : operands.count == 1 ? "[^\(inner)]" : "[^[\(inner)]]"
  }

  /// What stands before in a class: a `-` means a range only behind a character, and nothing behind a class.
  private enum Previous { case nothing, range, set, dash }

  private mutating func member(after previous: inout Previous, depth: Int) throws -> String {
    let start = place
    if next == "-", previous != .nothing, !isAtEndOfOperand(place + 1) {
      guard previous == .range else {
        throw malformed("has a '-' that is of no range at character \(start + 1); write '\\-'")
      }
      previous = .dash
      place += 1
      return Self.written("-")
    }
    guard case .scalar(let low) = try single(depth: depth) else {
      place = start
      previous = .set
      if case .set(let text) = try single(depth: depth) { return text }
      return ""
    }
    guard next == "-", !isAtEndOfOperand(place + 1) else {
      previous = .nothing
      ranges.append(low...low)
      return Self.written(low)
    }
    place += 1
    guard case .scalar(let high) = try single(depth: depth), high >= low else {
      throw malformed("has no range at character \(start + 1)")
    }
    previous = .range
    ranges.append(low...high)
    return "\(Self.written(low))-\(Self.written(high))"
  }

  private func isAtEndOfOperand(_ place: Int) -> Bool {
    scalars[place...].starts(with: "]".unicodeScalars)
      || scalars[place...].starts(with: "&&".unicodeScalars)
  }

  private enum Single {
    case scalar(Unicode.Scalar)
    case set(String)
  }

  private mutating func single(depth: Int) throws -> Single {
    guard let scalar = next else { throw malformed("has a '[' without ']'") }
    let start = place
    place += 1
    switch scalar {
    case "\\":
      switch try escape(from: start, isInBrackets: true) {
      case .scalar(let scalar): return .scalar(scalar)
      case .set(let text), .thing(let text), .place(let text): return .set(text)
      }
    case "[":
      if let text = try namedClass() { return .set(text) }
      return .set(try bracketed(from: start, depth: depth + 1))
    default: return .scalar(scalar)
    }
  }

  private static func written(_ scalar: Unicode.Scalar) -> String {
    scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
      ? String(scalar) : "\\x{\(String(scalar.value, radix: 16))}"
  }

  /// `[:punct:]` or `[:^punct:]`; `nil` where another class begins. The reader stands behind the bracket.
  private mutating func namedClass() throws -> String? {
    let start = place
    guard skip(":") else { return nil }
    let isNegated = skip("^")
    let name = scalars[place...].prefix(20).prefix { $0 != ":" && $0 != "]" }
    guard scalars[name.endIndex...].starts(with: ":]".unicodeScalars) else {
      place = start
      return nil
    }
    place = name.endIndex + 2
    let text = String(String.UnicodeScalarView(name))
    guard let content = Self.classNames[text] else {
      throw malformed(
        "names a class '\(text)', which is none of \(Self.classNames.keys.sorted().joined(separator: ", "))"
      )
    }
    return isNegated ? "[^\(content)]" : content
  }

  /// `\p{L}`, `\p{^L}` or `\P{L}`; the reader stands behind the opening brace.
  ///
  /// - Parameter word: what `\w` is made of there.
  mutating func property(isNegated: Bool, word: String, at start: Int) throws -> String {
    guard let text = skip(through: "}") else {
      throw malformed("has '\\p{' without '}' at character \(start + 1)")
    }
    let isNot = text.hasPrefix("^")
    let name = isNot ? String(text.dropFirst()) : text
    guard
      name.unicodeScalars.allSatisfy({
        $0.isASCII && $0.properties.isAlphabetic || ("0"..."9").contains($0)
          || "_- ".unicodeScalars.contains($0)
      })
    else { throw unsupported("'\\p{\(text)}'", at: start) }
    let plain = String(name.lowercased().filter { !"_- ".contains($0) })
    // Names that ICU has from Java.
    if plain.hasPrefix("is") || plain.hasPrefix("java") && !["java", "javanese"].contains(plain) {
      throw unsupported("'\\p{\(text)}'", at: start)
    }
    if let content = ["word": word, "xdigit": "0-9A-Fa-f"][plain] {
      return isNegated != isNot ? "[^\(content)]" : "[\(content)]"
    }
    return "\\\(isNegated != isNot ? "P" : "p"){\(name)}"
  }
}

extension Unicode.Scalar {
  fileprivate var uppercased: Unicode.Scalar {
    properties.uppercaseMapping.unicodeScalars.first ?? self
  }
}
