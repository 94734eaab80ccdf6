import PeatTensor

/// What stands behind a backslash.
///
/// Oniguruma's `\s` has the vertical tab and U+0085, ICU's has not; ICU's `\w` has the two joiners, Oniguruma's has not, but outside of brackets has Latin-1's raised digits and
/// fractions, and so have `\b` and `\B`, which ICU puts elsewhere beside marks. `\v` is the vertical tab, `\h` a hexadecimal digit; a letter that says nothing is itself, such as
/// `\Q`. Bytes above 127 are refused, as they are only parts of characters.
extension OnigurumaExpression {
  static let word = #"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"#
  static let anything = #"[\x{0}-\x{10FFFF}]"#
  private static let space = #"\t-\r\x{85}\p{Z}"#
  private static let hexDigits = "0-9A-Fa-f"
  private static let wordOutside = word + "²³¹¼-¾"
  private static let wordEdge =
    "(?:(?<=[\(wordOutside)])(?![\(wordOutside)])|(?<![\(wordOutside)])(?=[\(wordOutside)]))"
  private static let noWordEdge =
    "(?:(?<=[\(wordOutside)])(?=[\(wordOutside)])|(?<![\(wordOutside)])(?![\(wordOutside)]))"

  enum Escape {
    case scalar(Unicode.Scalar)
    /// A class, as it may stand in brackets.
    case set(String)
    /// Takes characters, and can't stand in brackets.
    case thing(String)
    /// Takes no characters.
    case place(String)
  }

  /// - Parameter start: where the backslash stands, behind which the reader does.
  mutating func escape(from start: Int, isInBrackets: Bool) throws -> Escape {
    guard let scalar = next else { throw malformed("ends with a backslash") }
    place += 1
    let word = isInBrackets ? Self.word : Self.wordOutside
    switch scalar {
    case "t": return .scalar("\t")
    case "n": return .scalar("\n")
    case "v": return .scalar("\u{B}")
    case "f": return .scalar("\u{C}")
    case "r": return .scalar("\r")
    case "a": return .scalar("\u{7}")
    case "e": return .scalar("\u{1B}")
    case "d", "D": return .set("\\\(scalar)")
    case "s": return .set("[\(Self.space)]")
    case "S": return .set("[^\(Self.space)]")
    case "h": return .set("[\(Self.hexDigits)]")
    case "H": return .set("[^\(Self.hexDigits)]")
    case "w": return .set("[\(word)]")
    case "W": return .set("[^\(word)]")
    case "p", "P":
      if skip("{") {
        return .set(try property(isNegated: scalar == "P", word: word, at: start))
      }
    case "x", "u", "o": return .scalar(try codePoint(scalar, at: start))
    case "c", "C", "M": return .scalar(try control(scalar, at: start))
    case "0"..."7" where isInBrackets || scalar == "0":
      place -= 1
      return .scalar(try octal(at: start))
    case "b" where isInBrackets: return .scalar("\u{8}")
    case _ where isInBrackets: break
    case "0"..."9": return try reference(at: start)
    case "b": return .place(Self.wordEdge)
    case "B": return .place(Self.noWordEdge)
    case "A", "z": return .place("\\\(scalar)")
    // ICU's own stands in front of any line's end.
    case "Z": return .place(#"(?=\n?\z)"#)
    case "R": return .thing(#"(?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}])"#)
    case "N": return .thing(#"[^\n]"#)
    case "O": return .thing(Self.anything)
    case "k": return try namedReference(at: start)
    case "G", "K", "X", "g", "y", "Y": throw unsupported("'\\\(scalar)'", at: start)
    default: break
    }
    return .scalar(scalar)
  }

  // MARK: Characters

  /// Behind `\x` two digits or braces, behind `\u` four digits, behind `\o` braces.
  private mutating func codePoint(_ kind: Unicode.Scalar, at start: Int) throws -> Unicode.Scalar {
    let isBraced = kind != "u" && skip("{")
    let text: String
    if isBraced {
      guard let inner = skip(through: "}", within: 16) else {
        throw malformed("has '\\\(kind){' without '}' at character \(start + 1)")
      }
      text = inner
    } else {
      let digits = scalars[place...].prefix(kind == "u" ? 4 : kind == "x" ? 2 : 0)
        .prefix { $0.properties.isASCIIHexDigit }
      place = digits.endIndex
      text = String(String.UnicodeScalarView(digits))
    }
    // Not the sign that numbers may begin with.
    guard text.unicodeScalars.allSatisfy(\.properties.isASCIIHexDigit),
      kind != "u" || text.count == 4,
      let value = UInt32(text, radix: kind == "o" ? 8 : 16),
      let scalar = Unicode.Scalar(value)
    else {
      throw malformed("has no character's number behind '\\\(kind)' at character \(start + 1)")
    }
    return isBraced || kind == "u" ? scalar : try known(byte: value, at: start)
  }

  /// Up to three digits.
  private mutating func octal(at start: Int) throws -> Unicode.Scalar {
    let digits = scalars[place...].prefix(3).prefix { ("0"..."7").contains($0) }
    place = digits.endIndex
    return try known(byte: digits.reduce(0) { $0 * 8 + $1.value - 0x30 }, at: start)
  }

  private func known(byte: UInt32, at start: Int) throws -> Unicode.Scalar {
    guard byte < 0x80, let scalar = Unicode.Scalar(byte) else {
      throw unsupported(
        "a byte above 127", at: start, "Write the character itself, or its number as \\x{…}.")
    }
    return scalar
  }

  /// `\cA` or `\C-A`.
  private mutating func control(_ kind: Unicode.Scalar, at start: Int) throws -> Unicode.Scalar {
    guard kind == "c" || kind == "C" && skip("-"), let letter = next, letter.isASCII,
      letter.properties.isAlphabetic, let scalar = Unicode.Scalar(letter.value & 0x1F)
    else {
      throw unsupported("'\\\(kind)'", at: start, "Write the character's number as \\x{…}.")
    }
    place += 1
    return scalar
  }

  // MARK: References

  /// A group's number, or else an octal one.
  private mutating func reference(at start: Int) throws -> Escape {
    let digits = scalars[start + 1..<scalars.count].prefix(6).prefix { ("0"..."9").contains($0) }
    let number = digits.reduce(0) { $0 * 10 + Int($1.value) - 0x30 }
    if number > 9, number > captureCount {
      place = start + 1
      guard let first = next, first < "8" else {
        throw malformed("refers to group \(number) at character \(start + 1)")
      }
      return .scalar(try octal(at: start))
    }
    place = digits.endIndex
    return try reference(toNumber: number, at: start)
  }

  private mutating func reference(toNumber number: Int, at start: Int) throws -> Escape {
    if numbersNamesAlone {
      throw malformed("refers to a group by its number where groups have names")
    }
    return try reference(to: number, at: start)
  }

  private mutating func reference(to number: Int, at start: Int) throws -> Escape {
    if groups.contains(where: { $0.number == number }) {
      throw unsupported("a reference to the group in which it stands", at: start)
    }
    largestReference = max(largestReference, number)
    return .thing("(?:\\\(number))")
  }

  /// `\k<name>`, `\k'name'`, or a number in place of the name.
  private mutating func namedReference(at start: Int) throws -> Escape {
    let end: Unicode.Scalar? = skip("<") ? ">" : skip("'") ? "'" : nil
    guard let end, let name = skip(through: end) else {
      throw malformed("has '\\k' without a name in '<' and '>' at character \(start + 1)")
    }
    if let number = names[name] { return try reference(to: number, at: start) }
    guard let number = Int(name), number > 0, !name.hasPrefix("+") else {
      throw unsupported(
        "'\\k<\(name)>'", at: start, "There is no group of this name in front of it.")
    }
    return try reference(toNumber: number, at: start)
  }
}
