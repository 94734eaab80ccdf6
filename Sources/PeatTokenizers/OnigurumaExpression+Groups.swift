import PeatTensor

/// Groups and what stands in their heads.
///
/// Options are `i`, `m` (`.` takes line feeds, too) and `x`; those that stand alone hold to the end of the group, over `|` as well: `a(?i)b|c` is `a(?i:b|c)`.
/// Where a group has a name, those without one have no number.
extension OnigurumaExpression {
  mutating func openGroup(at start: Int) throws {
    if next == "*" { throw unsupported("'(*', a callout,", at: start) }
    guard skip("?") else {
      if numbersNamesAlone { return try open("(?:") }
      return try openNumbered()
    }
    for (sign, looks) in [
      (":", false), (">", false), ("=", true), ("!", true), ("<=", true), ("<!", true),
    ] where skip(sign) {
      return try open("(?" + sign, looks: looks)
    }
    if skip("#") { return try skipComment() }
    if skip("<") { return try openNamed(until: ">") }
    if skip("'") { return try openNamed(until: "'") }
    try readOptions(at: start)
  }

  private mutating func open(_ text: String, isImplicit: Bool = false, looks: Bool = false) throws {
    guard groups.count < Self.mostNested else {
      throw malformed("has groups within each other more than \(Self.mostNested) deep")
    }
    groups.append(
      Group(start: result.count, options: options, isImplicit: isImplicit, looks: looks))
    append(text, .nothing)
  }

  mutating func close() {
    guard let group = groups.popLast() else { return }
    result.append(")")
    options = group.options
    atom = group.start
    last = group.looks ? .place : .thing
  }

  mutating func closeGroup(at start: Int) throws {
    while groups.last?.isImplicit == true { close() }
    if groups.isEmpty { throw malformed("has a ')' without '(' at character \(start + 1)") }
    close()
  }

  private mutating func openNamed(until end: Unicode.Scalar) throws {
    guard let name = skip(through: end), Self.isName(name) else {
      throw malformed("has a group whose name is not of letters, digits and '_'")
    }
    try openNumbered()
    if names.updateValue(captureCount, forKey: name) != nil {
      throw malformed("names two groups '\(name)', which is not supported")
    }
  }

  private mutating func openNumbered() throws {
    try open("(")
    captureCount += 1
    groups[groups.count - 1].number = captureCount
  }

  private static func isName(_ text: String) -> Bool {
    let scalars = text.unicodeScalars
    guard let first = scalars.first, !("0"..."9").contains(first) else { return false }
    return scalars.allSatisfy { $0 == "_" || UTF8Text.isWord($0.value) }
  }

  private mutating func skipComment() throws {
    while let scalar = next {
      place += scalar == "\\" ? 2 : 1
      if scalar == ")" { return separate() }
    }
    throw malformed("has a comment without ')'")
  }

  /// `(?i)`, `(?i-m:` and the like.
  private mutating func readOptions(at start: Int) throws {
    var changed = options
    var isOn = true
    while let scalar = next {
      place += 1
      switch scalar {
      case "-": isOn = false
      case "i": changed.ignoresCase = isOn
      case "m": changed.dotTakesLineFeeds = isOn
      case "x": changed.isExtended = isOn
      case ")" where place > start + 3, ":" where place > start + 3:
        let text =
          changed.ignoresCase == options.ignoresCase
          ? "(?:" : changed.ignoresCase ? "(?i:" : "(?-i:"
        try open(text, isImplicit: scalar == ")")
        options = changed
        return
      default:
        let kind = String(String.UnicodeScalarView(scalars[start..<place].prefix(20)))
        throw unsupported(
          "'\(kind)'", at: start,
          "Groups are (…), (?:…), (?>…), (?=…), (?!…), (?<=…), (?<!…), (?<name>…), (?#…), and the options i, m and x."
        )
      }
    }
    throw malformed("has a '(' without ')'")
  }
}
