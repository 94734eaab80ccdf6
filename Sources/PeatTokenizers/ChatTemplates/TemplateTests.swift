/// What `value is …` can ask.
enum TemplateTests {
  static let names = [
    "defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number",
    "integer", "float", "boolean", "true", "false", "callable", "odd", "even", "divisibleby",
    "equalto", "eq", "ne", "lt", "le", "gt", "ge", "in", "sameas", "lower", "upper",
  ]

  static func holds(
    _ name: String, _ value: TemplateValue, _ arguments: [TemplateValue],
    _ interpreter: TemplateInterpreter
  ) throws -> Bool {
    func argument() throws -> TemplateValue {
      guard let first = arguments.first else {
        throw interpreter.failure("the test '\(name)' takes a value")
      }
      return first
    }
    func number() throws -> Int {
      guard case .integer(let number) = value else {
        throw interpreter.failure("the test '\(name)' is for whole numbers, not \(value.kind)")
      }
      return number
    }
    switch (name, value) {
    case ("defined", .undefined): return false
    case ("defined", _): return true
    case ("undefined", .undefined): return true
    case ("none", .none), ("string", .string), ("mapping", .dictionary), ("boolean", .bool),
      ("integer", .integer), ("float", .double):
      return true
    case ("number", _): return value.number != nil
    case ("iterable", .string), ("iterable", .list), ("iterable", .dictionary),
      ("iterable", .undefined), ("sequence", .string), ("sequence", .list),
      ("sequence", .dictionary), ("sequence", .undefined):
      return true
    case ("true", .bool(let truth)): return truth
    case ("false", .bool(let truth)): return !truth
    case ("callable", .macro), ("callable", .function), ("callable", .method): return true
    case ("odd", _): return try number() % 2 != 0
    case ("even", _): return try number() % 2 == 0
    case ("divisibleby", _):
      guard case .integer(let divisor) = try argument(), divisor != 0 else {
        throw interpreter.failure("the test 'divisibleby' takes a whole number other than 0")
      }
      return divisor == -1 ? true : try number() % divisor == 0
    case ("equalto", _), ("eq", _), ("sameas", _):
      return TemplateValue.areEqual(value, try argument())
    case ("ne", _): return !TemplateValue.areEqual(value, try argument())
    case ("lt", _): return try TemplateArithmetic.compare("<", value, argument(), interpreter)
    case ("le", _): return try TemplateArithmetic.compare("<=", value, argument(), interpreter)
    case ("gt", _): return try TemplateArithmetic.compare(">", value, argument(), interpreter)
    case ("ge", _): return try TemplateArithmetic.compare(">=", value, argument(), interpreter)
    case ("in", _): return try TemplateArithmetic.compare("in", value, argument(), interpreter)
    case ("lower", _):
      let text = value.printed
      return text != text.uppercased() && text == TemplateFilters.lowercased(text)
    case ("upper", _):
      let text = value.printed
      return text != TemplateFilters.lowercased(text) && text == text.uppercased()
    default:
      guard names.contains(name) else {
        throw interpreter.failure(
          "there is no test '\(name)'. Supported: \(names.joined(separator: ", "))")
      }
      return false
    }
  }
}
