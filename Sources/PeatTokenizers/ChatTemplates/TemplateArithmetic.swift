/// Operators on values, as Python has them.
enum TemplateArithmetic {
  static func unary(
    _ operation: String, _ value: TemplateValue, _ interpreter: TemplateInterpreter
  ) throws -> TemplateValue {
    switch (operation, value) {
    case ("not", _): return .bool(!value.isTrue)
    case ("-", .integer(let number)) where number != .min: return .integer(-number)
    case ("-", .double(let number)): return .double(-number)
    case ("+", .integer), ("+", .double): return value
    default: throw interpreter.failure("'\(operation)' can't be applied to \(value.kind)")
    }
  }

  static func binary(
    _ operation: String, _ left: TemplateValue, _ right: TemplateValue,
    _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    switch (operation, left, right) {
    case ("+", .string(let a), .string(let b)): return try interpreter.made(a + b)
    case ("+", .list(let a), .list(let b)):
      try interpreter.step(a.count + b.count)
      return try interpreter.checked(.list(a + b))
    case ("*", .string(let text), .integer(let count)),
      ("*", .integer(let count), .string(let text)):
      let (size, isTooLarge) = text.utf8.count.multipliedReportingOverflow(by: max(0, count))
      try interpreter.made(bytes: isTooLarge ? .max : size)
      return .string(size > 0 ? String(repeating: text, count: count) : "")
    case (_, .integer(let a), .integer(let b)):
      if let result = try whole(operation, a, b, interpreter) { return result }
    default: break
    }
    if let a = left.number, let b = right.number, let result = double(operation, a, b) {
      return .double(result)
    }
    throw interpreter.failure("'\(operation)' can't be applied to \(left.kind) and \(right.kind)")
  }

  private static func whole(
    _ operation: String, _ a: Int, _ b: Int, _ interpreter: TemplateInterpreter
  ) throws -> TemplateValue? {
    if b == 0, ["/", "//", "%"].contains(operation) {
      throw interpreter.failure("\(a) is divided by 0")
    }
    let result: (partialValue: Int, overflow: Bool)
    switch operation {
    case "+": result = a.addingReportingOverflow(b)
    case "-": result = a.subtractingReportingOverflow(b)
    case "*": result = a.multipliedReportingOverflow(by: b)
    case "//":
      let (quotient, overflow) = a.dividedReportingOverflow(by: b)
      result = (
        overflow ? 0 : quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient, overflow
      )
    case "%":
      let rest = b == -1 ? 0 : a % b
      result = (rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest, false)
    case "**" where (0...64).contains(b):
      result = (0..<b).reduce((1, false)) { power, _ in
        let next = power.0.multipliedReportingOverflow(by: a)
        return (next.partialValue, power.1 || next.overflow)
      }
    default: return nil
    }
    if result.overflow { throw interpreter.failure("the result of '\(operation)' is too large") }
    return .integer(result.partialValue)
  }

  private static func double(_ operation: String, _ a: Double, _ b: Double) -> Double? {
    switch operation {
    case "+": a + b
    case "-": a - b
    case "*": a * b
    case "/" where b != 0: a / b
    case "//" where b != 0: (a / b).rounded(.down)
    case "%" where b != 0: a - (a / b).rounded(.down) * b
    default: nil
    }
  }

  static func compare(
    _ operation: String, _ left: TemplateValue, _ right: TemplateValue,
    _ interpreter: TemplateInterpreter
  ) throws -> Bool {
    switch operation {
    case "==": return TemplateValue.areEqual(left, right)
    case "!=": return !TemplateValue.areEqual(left, right)
    case "in": return try contains(right, left, interpreter)
    case "not in": return try !contains(right, left, interpreter)
    default: break
    }
    let order: Int
    if case .string(let a) = left, case .string(let b) = right {
      // The order of UTF-8 bytes is that of the scalars.
      order =
        TemplateText.areEqual(a, b) ? 0 : a.utf8.lexicographicallyPrecedes(b.utf8) ? -1 : 1
    } else if let a = left.number, let b = right.number {
      order = a < b ? -1 : a > b ? 1 : 0
    } else {
      throw interpreter.failure(
        "'\(operation)' can't compare \(left.kind) with \(right.kind)")
    }
    switch operation {
    case "<": return order < 0
    case "<=": return order <= 0
    case ">": return order > 0
    default: return order >= 0
    }
  }

  private static func contains(
    _ whole: TemplateValue, _ part: TemplateValue, _ interpreter: TemplateInterpreter
  ) throws -> Bool {
    switch (whole, part) {
    case (.string(let text), .string(let wanted)):
      return wanted.isEmpty || !TemplateText.occurrences(of: wanted, in: text).isEmpty
    case (.list(let elements), _): return elements.contains { TemplateValue.areEqual($0, part) }
    case (.dictionary, .string(let key)): return whole.entry(key) != nil
    case (.undefined, _): return false
    default:
      throw interpreter.failure("'in' can't look for \(part.kind) in \(whole.kind)")
    }
  }
}
