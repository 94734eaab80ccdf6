/// The classes of scalars that the parts of a tokenizer ask for.
///
/// tokenizers takes them from libraries that know different versions of Unicode; Swift's tables are newer than all of them. A
/// scalar that a library's version does not know is in none of its classes. Where a later version put a scalar into another
/// class, it is named here.
extension UTF8Text {
  /// Whether a scalar had been assigned by a version of Unicode.
  static func isAssigned(_ value: UInt32, by version: Int) -> Bool {
    guard let age = Unicode.Scalar(value)?.properties.age else { return false }
    return age.major <= version
  }

  private static func category(_ value: UInt32, by version: Int) -> Unicode.GeneralCategory? {
    isAssigned(value, by: version) ? Unicode.Scalar(value)?.properties.generalCategory : nil
  }

  /// Whether a scalar has the property White_Space.
  static func isWhitespace(_ value: UInt32) -> Bool {
    if value < 0x80 { return value == 0x20 || (0x09...0x0D).contains(value) }
    switch value {
    case 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: return true
    default: return false
    }
  }

  /// `\p{L}`, `\p{N}` and `\s` of Oniguruma, for the scalars below U+3000: a table, as they are asked for of every scalar of a text.
  private static let lowKinds: [WordKind] = (0..<0x3000).map(lookUpKind)

  /// What words are made of, after Oniguruma (Unicode 16).
  enum WordKind: UInt8, Sendable { case letter, number, space, other }

  static func wordKind(_ value: UInt32) -> WordKind {
    value < 0x3000 ? lowKinds[Int(value)] : lookUpKind(value)
  }

  private static func lookUpKind(_ value: UInt32) -> WordKind {
    if isWhitespace(value) { return .space }
    // Ideographs and Hangul are many, and all of them letters.
    if (0x4E00...0x9FFF).contains(value) || (0xAC00...0xD7A3).contains(value) { return .letter }
    switch category(value, by: 16) {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      return .letter
    case .decimalNumber, .letterNumber, .otherNumber: return .number
    default: return .other
    }
  }

  /// Whether a scalar is of category N, after Rust (Unicode 17).
  static func isNumber(_ value: UInt32) -> Bool {
    if value < 0x80 { return (0x30...0x39).contains(value) }
    switch Unicode.Scalar(value)?.properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: return true
    default: return false
    }
  }

  /// Whether a scalar is of category M, after the crate unicode-normalization-alignments (Unicode 9).
  static func isMark(_ value: UInt32) -> Bool {
    if value < 0x300 { return false }
    if value == 0x111C9 { return false }  // A Sharada sign, a mark since Unicode 11.
    switch category(value, by: 9) {
    case .nonspacingMark, .spacingMark, .enclosingMark: return true
    default: return value == 0x1CF2 || value == 0x1CF3  // Vedic signs, letters since Unicode 12.
    }
  }

  /// Whether a scalar is of category Mn, after the crate unicode_categories (Unicode 8).
  static func isNonspacingMark(_ value: UInt32) -> Bool {
    if value < 0x300 { return false }
    switch value {
    case 0x1734, 0x1171E: return true  // Hanunoo and Ahom signs, spacing marks since.
    case 0x1885, 0x1886, 0xA9BD, 0x111C9: return false  // Of other categories then.
    default: return category(value, by: 8) == .nonspacingMark
    }
  }

  /// Whether a scalar is of category P, after unicode_categories (Unicode 8), or one of ASCII's signs such as `$` and `+`.
  static func isPunctuation(_ value: UInt32) -> Bool {
    if value < 0x80 {
      return value > 0x20 && value < 0x7F && !isASCIIWord(value) || value == 0x5F
    }
    switch category(value, by: 8) {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation:
      return true
    default: return value == 0x166D || value == 0x111C9  // Signs that were punctuation then.
    }
  }

  /// Whether a scalar is of category Cc, Cf or Co, after unicode_categories (Unicode 8).
  static func isControl(_ value: UInt32) -> Bool {
    if value < 0x80 { return value < 0x20 || value == 0x7F }
    switch category(value, by: 8) {
    case .control, .format, .privateUse: return true
    default: return false
    }
  }

  private static func isASCIIWord(_ value: UInt32) -> Bool {
    (0x61...0x7A).contains(value | 0x20) || (0x30...0x39).contains(value) || value == 0x5F
  }

  /// Whether a scalar belongs to a word: `\w` of Unicode's Technical Standard 18, after the crate regex (Unicode 16).
  static func isWord(_ value: UInt32) -> Bool {
    if value < 0x80 { return isASCIIWord(value) }
    guard isAssigned(value, by: 16), let properties = Unicode.Scalar(value)?.properties else {
      return false
    }
    if properties.isAlphabetic || properties.isJoinControl { return true }
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation:
      return true
    default: return false
    }
  }
}
