import PeatTensor

/// Carries out a template's statements. Its steps, the text that it makes and the depth of its calls are bounded: a template
/// comes with a model and is not trusted.
struct TemplateInterpreter {
  private static let stepLimit = 2_000_000
  private static let byteLimit = 1 << 24
  private static let depthLimit = 160

  /// Where things outside of the template come from.
  let surroundings: TemplateSurroundings
  private var scopes: [[String: TemplateValue]]
  private var namespaces: [[(key: String, value: TemplateValue)]] = []
  private var macros: [Macro] = []
  private var output = ""
  private var steps = 0
  private var byteCount = 0
  private var depth = 0
  var line = 1

  private struct Macro {
    var name: String
    var parameters: [(name: String, standard: TemplateExpression?)]
    var body: [TemplateStatement]
  }
  /// How a run of statements ended.
  private enum Ending { case normal, brokenOff, next }

  init(_ variables: [String: TemplateValue], surroundings: TemplateSurroundings) {
    scopes = [variables]
    self.surroundings = surroundings
  }

  mutating func run(_ statements: [TemplateStatement]) throws -> String {
    _ = try execute(statements)
    return output
  }

  func failure(_ what: String) -> PeatError { .badData("chat template, line \(line): \(what).") }

  /// Counts work, so that no template runs for ever.
  mutating func step(_ count: Int = 1) throws {
    steps += count
    guard steps <= Self.stepLimit else {
      throw failure("the template takes more than \(Self.stepLimit) steps")
    }
  }

  /// Counts text that is made, so that no template fills the memory. `count` may be more than fits.
  mutating func made(bytes count: Int) throws {
    guard count <= Self.byteLimit, byteCount + count <= Self.byteLimit else {
      throw failure("the template makes more than \(Self.byteLimit) bytes of text")
    }
    byteCount += count
  }

  mutating func made(_ text: String) throws -> TemplateValue {
    try made(bytes: text.utf8.count)
    return .string(text)
  }

  /// Counts the parts of a value that was put together, so that none grows or nests without bound.
  mutating func checked(_ value: TemplateValue) throws -> TemplateValue {
    var parts = 0
    var size = 0
    guard value.isBounded(size: &size, parts: &parts, limit: Self.byteLimit, depth: Self.depthLimit)
    else { throw failure("a value is larger than \(Self.byteLimit) or nested too deep") }
    try step(parts / 8)
    return value
  }

  private mutating func goingDown<Result>(_ body: (inout Self) throws -> Result) throws -> Result {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else {
      throw failure("the template goes more than \(Self.depthLimit) levels deep")
    }
    return try body(&self)
  }

  // MARK: Statements

  private mutating func execute(_ statements: [TemplateStatement]) throws -> Ending {
    for statement in statements {
      try step()
      let ending = try goingDown { try $0.execute(statement) }
      if ending != .normal { return ending }
    }
    return .normal
  }

  private mutating func execute(_ statement: TemplateStatement) throws -> Ending {
    switch statement {
    case .text(let text):
      try made(bytes: text.utf8.count)
      output += text
    case .print(let expression):
      let text = try evaluate(expression).printed
      try made(bytes: text.utf8.count)
      output += text
    case .choice(let branches, let otherwise):
      for branch in branches where try evaluate(branch.condition).isTrue {
        return try execute(branch.body)
      }
      return try execute(otherwise)
    case .loop(let targets, let values, let condition, let body, let otherwise):
      try loop(targets, values, condition, body, otherwise)
    case .assign(let names, let expression):
      try bind(names, to: try evaluate(expression))
    case .assignAttribute(let name, let attribute, let expression):
      guard case .namespace(let number) = lookUp(name) else {
        throw failure("'\(name)' is no namespace, so '\(attribute)' can't be set in it")
      }
      let value = try evaluate(expression)
      if let place = namespaces[number].firstIndex(where: {
        TemplateText.areEqual($0.key, attribute)
      }) {
        namespaces[number][place].value = value
      } else {
        namespaces[number].append((attribute, value))
      }
    case .capture(let name, let body):
      scopes[scopes.count - 1][name] = .string(try captured { _ = try $0.execute(body) })
    case .macro(let name, let parameters, let body):
      macros.append(Macro(name: name, parameters: parameters, body: body))
      scopes[scopes.count - 1][name] = .macro(macros.count - 1)
    case .group(let body): return try execute(body)
    case .breakLoop: return .brokenOff
    case .continueLoop: return .next
    }
    return .normal
  }

  private mutating func captured(_ body: (inout Self) throws -> Void) throws -> String {
    let before = output
    output = ""
    defer { output = before }
    try body(&self)
    return output
  }

  private mutating func bind(_ names: [String], to value: TemplateValue) throws {
    guard names.count > 1 else {
      scopes[scopes.count - 1][names[0]] = value
      return
    }
    let values = try elements(of: value)
    guard values.count == names.count else {
      throw failure("\(values.count) values can't be given to \(names.count) names")
    }
    for (name, value) in zip(names, values) { scopes[scopes.count - 1][name] = value }
  }

  private mutating func loop(
    _ targets: [String], _ values: TemplateExpression, _ condition: TemplateExpression?,
    _ body: [TemplateStatement], _ otherwise: [TemplateStatement]
  ) throws {
    var values = try elements(of: evaluate(values))
    try step(values.count)
    scopes.append([:])
    if let condition {
      var chosen: [TemplateValue] = []
      for value in values {
        try bind(targets, to: value)
        if try evaluate(condition).isTrue { chosen.append(value) }
      }
      values = chosen
    }
    for (index, value) in values.enumerated() {
      scopes[scopes.count - 1] = ["loop": Self.loopValue(index, values)]
      try bind(targets, to: value)
      if try execute(body) == .brokenOff { break }
    }
    scopes.removeLast()
    if values.isEmpty { _ = try execute(otherwise) }
  }

  private static func loopValue(_ index: Int, _ values: [TemplateValue]) -> TemplateValue {
    let count = values.count
    return .dictionary([
      ("index", .integer(index + 1)), ("index0", .integer(index)),
      ("first", .bool(index == 0)), ("last", .bool(index == count - 1)),
      ("length", .integer(count)), ("revindex", .integer(count - index)),
      ("revindex0", .integer(count - index - 1)),
      ("previtem", index > 0 ? values[index - 1] : .undefined("loop.previtem")),
      ("nextitem", index + 1 < count ? values[index + 1] : .undefined("loop.nextitem")),
    ])
  }

  // MARK: Names

  private func lookUp(_ name: String) -> TemplateValue {
    for scope in scopes.reversed() {
      if let value = scope[name] { return value }
    }
    return TemplateFunctions.names.contains(name) ? .function(name) : .undefined(name)
  }

  /// What a value gives one after the other.
  mutating func elements(of value: TemplateValue) throws -> [TemplateValue] {
    try step(value.weight)
    switch value {
    case .list(let elements): return elements
    case .string(let text): return text.unicodeScalars.map { .string(String($0)) }
    case .dictionary(let entries): return entries.map { .string($0.key) }
    case .undefined: return []
    default: throw failure("\(value.kind) can't be gone through")
    }
  }

  /// `value.name`; what is not there is undefined, but nothing is asked of what is undefined itself.
  func attribute(_ name: String, of value: TemplateValue) throws -> TemplateValue {
    switch value {
    case .undefined: throw failure("\(value.kind) has no '\(name)'")
    case .namespace(let number):
      return namespaces[number].first { TemplateText.areEqual($0.key, name) }?.value
        ?? .undefined(name)
    default:
      if TemplateMethods.has(name, value) { return .method(name, of: value) }
      return value.entry(name) ?? .undefined(name)
    }
  }

  private mutating func item(_ index: TemplateValue, of value: TemplateValue) throws
    -> TemplateValue
  {
    if case .string = value { try step(value.weight) }
    switch (value, index) {
    case (.undefined, _): throw failure("\(value.kind) has no elements")
    case (.dictionary, .string(let key)):
      return try value.entry(key) ?? attribute(key, of: value)
    case (.namespace, .string(let key)): return try attribute(key, of: value)
    case (.list(let elements), .integer(let place)):
      let place = place < 0 ? place + elements.count : place
      return elements.indices.contains(place) ? elements[place] : .undefined("\(place)")
    case (.string(let text), .integer(let place)):
      let scalars = Array(text.unicodeScalars)
      let index = place < 0 ? place + scalars.count : place
      return scalars.indices.contains(index)
        ? .string(String(scalars[index])) : .undefined("\(place)")
    case (_, .string(let key)): return try attribute(key, of: value)
    default: return .undefined(index.printed)
    }
  }

  // MARK: Expressions

  mutating func evaluate(_ expression: TemplateExpression) throws -> TemplateValue {
    try step()
    line = expression.line
    return try goingDown { try $0.evaluate(expression.kind) }
  }

  private mutating func evaluate(_ kind: TemplateExpression.Kind) throws -> TemplateValue {
    switch kind {
    case .constant(let value): return value
    case .name(let name): return lookUp(name)
    case .list(let elements):
      return try checked(.list(try elements.map { try evaluate($0) }))
    case .dictionary(let entries): return try dictionary(entries)
    case .unary(let operation, let operand):
      return try TemplateArithmetic.unary(operation, try evaluate(operand), self)
    case .binary(let operation, let left, let right): return try binary(operation, left, right)
    case .comparison(let first, let others): return try comparison(first, others)
    case .condition(let condition, let then, let otherwise):
      if try evaluate(condition).isTrue { return try evaluate(then) }
      return try otherwise.map { try evaluate($0) } ?? .undefined("else")
    case .attribute(let value, let name): return try attribute(name, of: try evaluate(value))
    case .item(let value, let index):
      return try item(try evaluate(index), of: try evaluate(value))
    case .slice(let value, let bounds): return try slice(value, bounds)
    case .call(let function, let arguments): return try call(function, arguments)
    case .filter(let value, let name, let arguments):
      guard let filter = TemplateFilters.known[name] else {
        throw failure(
          "there is no filter '\(name)'. Supported: \(TemplateFilters.known.keys.sorted().joined(separator: ", "))"
        )
      }
      let input = try evaluate(value)
      let (values, named) = try evaluate(arguments)
      return try checked(filter(input, TemplateCall(values: values, named: named), &self))
    case .test(let value, let name, let arguments):
      let input = try evaluate(value)
      try step(input.weight)
      let (values, _) = try evaluate(arguments)
      return .bool(try TemplateTests.holds(name, input, values, self))
    }
  }

  private mutating func dictionary(
    _ entries: [(key: TemplateExpression, value: TemplateExpression)]
  )
    throws -> TemplateValue
  {
    var result: [(key: String, value: TemplateValue)] = []
    for entry in entries {
      guard case .string(let key) = try evaluate(entry.key) else {
        throw failure("a dictionary's key is no string")
      }
      try step(result.count / 8)
      result.removeAll { TemplateText.areEqual($0.key, key) }
      result.append((key, try evaluate(entry.value)))
    }
    return try checked(.dictionary(result))
  }

  private mutating func binary(
    _ operation: String, _ left: TemplateExpression, _ right: TemplateExpression
  ) throws -> TemplateValue {
    let first = try evaluate(left)
    if operation == "and" { return first.isTrue ? try evaluate(right) : first }
    if operation == "or" { return first.isTrue ? first : try evaluate(right) }
    let second = try evaluate(right)
    if operation == "~" { return try made(first.printed + second.printed) }
    return try TemplateArithmetic.binary(operation, first, second, &self)
  }

  private mutating func comparison(
    _ first: TemplateExpression, _ others: [(operation: String, value: TemplateExpression)]
  ) throws -> TemplateValue {
    var left = try evaluate(first)
    for other in others {
      let right = try evaluate(other.value)
      try step(left.weight + right.weight)
      if try !TemplateArithmetic.compare(other.operation, left, right, self) {
        return .bool(false)
      }
      left = right
    }
    return .bool(true)
  }

  private mutating func slice(_ value: TemplateExpression, _ bounds: [TemplateExpression?]) throws
    -> TemplateValue
  {
    let value = try evaluate(value)
    let numbers: [Int?] = try bounds.map { bound in
      guard let bound else { return nil }
      switch try evaluate(bound) {
      case .integer(let number): return number
      case .none: return nil
      default: throw failure("a bound of a slice is no whole number")
      }
    }
    let isText = if case .string = value { true } else { false }
    if case .undefined = value { throw failure("\(value.kind) has no elements") }
    if case .dictionary = value { throw failure("a dictionary has no slices") }
    let elements = try elements(of: value)
    try step(elements.count)
    let step = numbers.count > 2 ? numbers[2] ?? 1 : 1
    if step == 0 { throw failure("a slice has steps of 0") }
    let count = elements.count
    let limits = step > 0 ? 0...count : -1...max(-1, count - 1)
    func place(_ number: Int?, _ standard: Int) -> Int {
      guard let number else { return standard }
      let fromStart = number < 0 ? max(number, -count - 1) + count : number
      return min(max(fromStart, limits.lowerBound), limits.upperBound)
    }
    let start = place(numbers[0], step > 0 ? 0 : count - 1)
    let end = place(numbers[1], step > 0 ? count : -1)
    let chosen = stride(from: start, to: end, by: max(-count - 1, min(count + 1, step))).map {
      elements[$0]
    }
    return isText ? .string(chosen.map(\.printed).joined()) : .list(chosen)
  }

  // MARK: Calls

  mutating func evaluate(_ arguments: TemplateArguments) throws -> (
    [TemplateValue], [(name: String, value: TemplateValue)]
  ) {
    (
      try arguments.values.map { try evaluate($0) },
      try arguments.named.map { ($0.name, try evaluate($0.value)) }
    )
  }

  private mutating func call(_ function: TemplateExpression, _ arguments: TemplateArguments) throws
    -> TemplateValue
  {
    let function = try evaluate(function)
    let (values, named) = try evaluate(arguments)
    let call = TemplateCall(values: values, named: named)
    switch function {
    case .macro(let number): return try callMacro(macros[number], call)
    case .function("namespace"):
      namespaces.append(try TemplateFunctions.entries(call, self))
      return .namespace(namespaces.count - 1)
    case .function(let name): return try TemplateFunctions.call(name, call, &self)
    case .method(let name, let value): return try TemplateMethods.call(name, value, call, &self)
    default: throw failure("\(function.kind) can't be called")
    }
  }

  /// A macro sees its arguments and what stands at the top of the template.
  private mutating func callMacro(_ macro: Macro, _ call: TemplateCall) throws -> TemplateValue {
    guard call.values.count <= macro.parameters.count else {
      throw failure("the macro '\(macro.name)' takes \(macro.parameters.count) values")
    }
    let outer = scopes
    scopes = [outer[0], [:]]
    defer { scopes = outer }
    for (index, parameter) in macro.parameters.enumerated() {
      let given = call.argument(index, parameter.name)
      let value = try given ?? parameter.standard.map { try evaluate($0) }
      scopes[1][parameter.name] = value ?? TemplateValue.undefined(parameter.name)
    }
    return .string(try captured { _ = try $0.execute(macro.body) })
  }
}

/// The values given to a function, a method or a filter.
struct TemplateCall {
  var values: [TemplateValue]
  var named: [(name: String, value: TemplateValue)] = []

  func named(_ name: String) -> TemplateValue? { named.first { $0.name == name }?.value }

  /// The argument at a place or of a name.
  func argument(_ place: Int, _ name: String) -> TemplateValue? {
    place < values.count ? values[place] : named(name)
  }
}

/// What a template may ask of the world.
struct TemplateSurroundings: Sendable {
  /// Writes the current time after a format such as "%d %b %Y"; `nil` where no time was given.
  var formattedTime: (@Sendable (String) -> String)?
}
