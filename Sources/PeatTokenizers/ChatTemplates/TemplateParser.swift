import PeatTensor

/// Makes statements of a template's pieces. The grammar is the part of Jinja that chat templates use.
struct TemplateParser {
  private static let depthLimit = 100
  private static let nestingLimit = 32

  private var pieces: ArraySlice<TemplatePiece>
  private var signs: ArraySlice<TemplatePiece.Sign> = []
  private var line = 1
  private var nesting = 0

  static func parse(_ source: String) throws -> [TemplateStatement] {
    var lexer = TemplateLexer(source)
    var parser = TemplateParser(pieces: try lexer.pieces()[...])
    let (statements, end) = try parser.statements(until: [])
    if let end { throw parser.failure("'\(end)' ends nothing") }
    return statements
  }

  private init(pieces: ArraySlice<TemplatePiece>) { self.pieces = pieces }

  private func failure(_ what: String) -> PeatError {
    .badData("chat template, line \(line): \(what).")
  }

  // MARK: Statements

  /// The statements up to one of these words (all of them gone past), and the word.
  private mutating func statements(until ends: [String]) throws -> ([TemplateStatement], String?) {
    nesting += 1
    defer { nesting -= 1 }
    guard nesting <= Self.nestingLimit else {
      throw failure("statements are nested more than \(Self.nestingLimit) levels deep")
    }
    var result: [TemplateStatement] = []
    while let piece = pieces.popFirst() {
      line = piece.line
      signs = piece.signs[...]
      switch piece.kind {
      case .text(let text): result.append(.text(text))
      case .print:
        result.append(.print(try expressionOrTuple()))
        try finish()
      case .block:
        let word = try name()
        if ends.contains(word) { return (result, word) }
        result.append(try statement(word))
      }
    }
    if let first = ends.last { throw failure("the template ends before '\(first)'") }
    return (result, nil)
  }

  private mutating func statement(_ word: String) throws -> TemplateStatement {
    switch word {
    case "if": return try choice()
    case "for": return try loop()
    case "set": return try assignment()
    case "macro": return try macro()
    case "generation":
      try finish()
      return .group(try body(to: "endgeneration"))
    case "break":
      try finish()
      return .breakLoop
    case "continue":
      try finish()
      return .continueLoop
    default:
      throw failure(
        "'\(word)' is not supported. Supported: if, for, set, macro, generation, break, continue, raw"
      )
    }
  }

  private mutating func body(to end: String) throws -> [TemplateStatement] {
    let result = try statements(until: [end]).0
    try finish()
    return result
  }

  private mutating func choice() throws -> TemplateStatement {
    var branches: [(condition: TemplateExpression, body: [TemplateStatement])] = []
    var otherwise: [TemplateStatement] = []
    var word: String? = "if"
    while word == "if" || word == "elif" {
      let condition = try expressionOrTuple()
      try finish()
      let (body, end) = try statements(until: ["elif", "else", "endif"])
      branches.append((condition, body))
      word = end
    }
    if word == "else" {
      try finish()
      otherwise = try statements(until: ["endif"]).0
    }
    try finish()
    return .choice(branches, otherwise: otherwise)
  }

  private mutating func loop() throws -> TemplateStatement {
    let targets = try targetNames()
    guard take(.name("in")) else { throw failure("'for' has no 'in'") }
    let values = try tupleOrValue { try $0.alternative() }
    let condition = take(.name("if")) ? try expression() : nil
    if take(.name("recursive")) { throw failure("'recursive' loops are not supported") }
    try finish()
    var (body, end) = try statements(until: ["else", "endfor"])
    var otherwise: [TemplateStatement] = []
    if end == "else" {
      try finish()
      (otherwise, end) = try statements(until: ["endfor"])
    }
    try finish()
    return .loop(
      targets: targets, over: values, condition: condition, body: body, otherwise: otherwise)
  }

  /// `a`, `a, b` or `(a, b)`.
  private mutating func targetNames() throws -> [String] {
    let isOpen = take(.symbol("("))
    var names = [try name()]
    while take(.symbol(",")) { names.append(try name()) }
    if isOpen { try expect(")") }
    return names
  }

  private mutating func assignment() throws -> TemplateStatement {
    let names = try targetNames()
    if names.count == 1, take(.symbol(".")) {
      let attribute = try name()
      try expect("=")
      let value = try expressionOrTuple()
      try finish()
      return .assignAttribute(names[0], attribute, value)
    }
    if names.count == 1, signs.isEmpty { return .capture(names[0], try body(to: "endset")) }
    try expect("=")
    let value = try expressionOrTuple()
    try finish()
    return .assign(names, value)
  }

  private mutating func macro() throws -> TemplateStatement {
    let name = try name()
    try expect("(")
    var parameters: [(name: String, standard: TemplateExpression?)] = []
    while !take(.symbol(")")) {
      if !parameters.isEmpty { try expect(",") }
      let parameter = try self.name()
      parameters.append((parameter, take(.symbol("=")) ? try expression() : nil))
    }
    try finish()
    return .macro(name, parameters, try body(to: "endmacro"))
  }

  // MARK: Signs

  private mutating func take(_ sign: TemplatePiece.Sign) -> Bool {
    guard signs.first == sign else { return false }
    signs.removeFirst()
    return true
  }

  private mutating func expect(_ symbol: String) throws {
    guard take(.symbol(symbol)) else { throw failure("expected '\(symbol)', found \(found)") }
  }

  private var found: String {
    switch signs.first {
    case .name(let text), .symbol(let text): "'\(text)'"
    case .string(let text): "the string '\(text)'"
    case .integer(let value): "\(value)"
    case .double(let value): "\(value)"
    case nil: "the end of the tag"
    }
  }

  private mutating func name() throws -> String {
    guard case .name(let text) = signs.first else {
      throw failure("expected a name, found \(found)")
    }
    signs.removeFirst()
    return text
  }

  private func finish() throws {
    if !signs.isEmpty { throw failure("\(found) is one too many in its tag") }
  }

  // MARK: Expressions, from the loosest operator to the tightest

  private func made(_ kind: TemplateExpression.Kind) throws -> TemplateExpression {
    let result = TemplateExpression(kind, line: line)
    guard result.depth <= Self.depthLimit else {
      throw failure("an expression has more than \(Self.depthLimit) levels")
    }
    return result
  }

  private mutating func expressionOrTuple() throws -> TemplateExpression {
    try tupleOrValue { try $0.expression() }
  }

  private mutating func tupleOrValue(
    _ parse: (inout TemplateParser) throws -> TemplateExpression
  ) throws -> TemplateExpression {
    let first = try parse(&self)
    guard signs.first == .symbol(",") else { return first }
    var elements = [first]
    while take(.symbol(",")), !signs.isEmpty, signs.first != .symbol(")") {
      elements.append(try parse(&self))
    }
    return try made(.list(elements))
  }

  private mutating func expression() throws -> TemplateExpression {
    nesting += 1
    defer { nesting -= 1 }
    guard nesting <= 2 * Self.nestingLimit else {
      throw failure("expressions are nested too deep")
    }
    var value = try alternative()
    while take(.name("if")) {
      let condition = try alternative()
      value = try made(
        .condition(
          condition, then: value, otherwise: take(.name("else")) ? try expression() : nil))
    }
    return value
  }

  private mutating func alternative() throws -> TemplateExpression {
    var left = try conjunction()
    while take(.name("or")) { left = try made(.binary("or", left, try conjunction())) }
    return left
  }

  private mutating func conjunction() throws -> TemplateExpression {
    var left = try negation()
    while take(.name("and")) { left = try made(.binary("and", left, try negation())) }
    return left
  }

  private mutating func negation() throws -> TemplateExpression {
    var count = 0
    while take(.name("not")) { count += 1 }
    let value = try comparison()
    if count == 0 { return value }
    let once = try made(.unary("not", value))
    return count % 2 == 1 ? once : try made(.unary("not", once))
  }

  private mutating func comparison() throws -> TemplateExpression {
    let first = try sum()
    var others: [(operation: String, value: TemplateExpression)] = []
    while true {
      if case .symbol(let symbol) = signs.first,
        ["==", "!=", "<", "<=", ">", ">="].contains(symbol)
      {
        signs.removeFirst()
        others.append((symbol, try sum()))
      } else if take(.name("in")) {
        others.append(("in", try sum()))
      } else if signs.first == .name("not"), signs.dropFirst().first == .name("in") {
        signs.removeFirst(2)
        others.append(("not in", try sum()))
      } else {
        return others.isEmpty ? first : try made(.comparison(first, others))
      }
    }
  }

  private mutating func chain(
    _ symbols: [String], _ operand: (inout TemplateParser) throws -> TemplateExpression
  ) throws -> TemplateExpression {
    var left = try operand(&self)
    while case .symbol(let symbol) = signs.first, symbols.contains(symbol) {
      signs.removeFirst()
      left = try made(.binary(symbol, left, try operand(&self)))
    }
    return left
  }

  private mutating func sum() throws -> TemplateExpression {
    try chain(["+", "-"]) {
      try $0.chain(["~"]) {
        try $0.chain(["*", "/", "//", "%"]) {
          try $0.chain(["**"]) { try $0.unary(filtered: true) }
        }
      }
    }
  }

  private mutating func unary(filtered: Bool) throws -> TemplateExpression {
    for symbol in ["-", "+"] where signs.first == .symbol(symbol) {
      signs.removeFirst()
      nesting += 1
      defer { nesting -= 1 }
      guard nesting <= 2 * Self.nestingLimit else { throw failure("signs are nested too deep") }
      let value = try made(.unary(symbol, try unary(filtered: false)))
      return filtered ? try filters(of: value) : value
    }
    let value = try postfix(of: primary())
    return filtered ? try filters(of: value) : value
  }

  private mutating func primary() throws -> TemplateExpression {
    guard let sign = signs.popFirst() else { throw failure("a value is missing") }
    switch sign {
    case .name(let name):
      switch name {
      case "true", "True": return try made(.constant(.bool(true)))
      case "false", "False": return try made(.constant(.bool(false)))
      case "none", "None": return try made(.constant(.none))
      default: return try made(.name(name))
      }
    case .string(var text):
      while case .string(let next) = signs.first {
        signs.removeFirst()
        text += next
      }
      return try made(.constant(.string(text)))
    case .integer(let value): return try made(.constant(.integer(value)))
    case .double(let value): return try made(.constant(.double(value)))
    case .symbol("("):
      if take(.symbol(")")) { return try made(.list([])) }
      let value = try expressionOrTuple()
      try expect(")")
      return value
    case .symbol("["):
      return try made(.list(try list(to: "]") { try $0.expression() }))
    case .symbol("{"):
      return try made(
        .dictionary(
          try list(to: "}") { parser in
            let key = try parser.expression()
            try parser.expect(":")
            return (key, try parser.expression())
          }))
    case .symbol(let symbol): throw failure("expected a value, found '\(symbol)'")
    }
  }

  private mutating func list<Element>(
    to end: String, _ element: (inout TemplateParser) throws -> Element
  ) throws -> [Element] {
    var result: [Element] = []
    while !take(.symbol(end)) {
      if !result.isEmpty {
        try expect(",")
        if take(.symbol(end)) { break }
      }
      result.append(try element(&self))
    }
    return result
  }

  private mutating func postfix(of first: TemplateExpression) throws -> TemplateExpression {
    var value = first
    while true {
      if take(.symbol(".")) {
        if case .integer(let index) = signs.first {
          signs.removeFirst()
          value = try made(.item(value, try made(.constant(.integer(index)))))
        } else {
          value = try made(.attribute(value, try name()))
        }
      } else if take(.symbol("[")) {
        value = try subscripted(value)
      } else if take(.symbol("(")) {
        value = try made(.call(value, try arguments()))
      } else {
        return value
      }
    }
  }

  private mutating func subscripted(_ value: TemplateExpression) throws -> TemplateExpression {
    var bounds: [TemplateExpression?] = []
    var isSlice = false
    while !take(.symbol("]")) {
      if take(.symbol(":")) {
        isSlice = true
        if bounds.isEmpty { bounds.append(nil) }
        bounds.append(nil)
      } else if bounds.isEmpty {
        bounds.append(try expression())
      } else if isSlice, bounds[bounds.count - 1] == nil {
        bounds[bounds.count - 1] = try expression()
      } else {
        throw failure("expected ']', found \(found)")
      }
    }
    if isSlice, bounds.count <= 3 { return try made(.slice(value, bounds)) }
    guard !isSlice, let index = bounds.first, let index else {
      throw failure("an index in brackets is missing or has too many parts")
    }
    return try made(.item(value, index))
  }

  /// The arguments after an opening parenthesis.
  private mutating func arguments() throws -> TemplateArguments {
    var result = TemplateArguments()
    _ = try list(to: ")") { parser in
      if case .name(let name) = parser.signs.first, parser.signs.dropFirst().first == .symbol("=") {
        parser.signs.removeFirst(2)
        result.named.append((name, try parser.expression()))
      } else {
        result.values.append(try parser.expression())
      }
    }
    return result
  }

  private mutating func filters(of first: TemplateExpression) throws -> TemplateExpression {
    var value = first
    while true {
      if take(.symbol("|")) {
        let name = try name()
        value = try made(
          .filter(value, name, take(.symbol("(")) ? try arguments() : TemplateArguments()))
        value = try postfix(of: value)
      } else if take(.name("is")) {
        let isNegated = take(.name("not"))
        let name = try name()
        var arguments = TemplateArguments()
        if take(.symbol("(")) {
          arguments = try self.arguments()
        } else if beginsTestArgument {
          arguments.values = [try postfix(of: primary())]
        }
        value = try made(.test(value, name, arguments))
        if isNegated { value = try made(.unary("not", value)) }
      } else {
        return value
      }
    }
  }

  /// Whether a test's one argument follows, without parentheses (`x is divisibleby 3`).
  private var beginsTestArgument: Bool {
    switch signs.first {
    case .string, .integer, .double, .symbol("["), .symbol("{"): true
    case .name(let name): !["else", "or", "and", "if", "in", "is", "not"].contains(name)
    default: false
    }
  }
}
