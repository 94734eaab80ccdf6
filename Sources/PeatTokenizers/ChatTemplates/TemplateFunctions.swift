/// Functions that stand free in a template.
enum TemplateFunctions {
  static let names: Set<String> = ["range", "namespace", "dict", "raise_exception", "strftime_now"]
  private static let rangeLimit = 100_000

  static func call(
    _ name: String, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    switch name {
    case "raise_exception":
      throw interpreter.failure(
        "the template refuses the conversation: \(call.values.first?.printed ?? "")")
    case "strftime_now":
      guard case .string(let format) = call.values.first else {
        throw interpreter.failure("'strftime_now' takes a format")
      }
      guard let formattedTime = interpreter.surroundings.formattedTime else {
        throw interpreter.failure("the template asks for the time; give one ('now')")
      }
      return try interpreter.made(formattedTime(format))
    case "dict": return try interpreter.checked(.dictionary(try entries(call, interpreter)))
    default: return try range(call, &interpreter)
    }
  }

  /// The entries that `dict` or `namespace` is given.
  static func entries(_ call: TemplateCall, _ interpreter: TemplateInterpreter) throws
    -> [(key: String, value: TemplateValue)]
  {
    var result: [(key: String, value: TemplateValue)] = []
    if let first = call.values.first {
      guard case .dictionary(let entries) = first, call.values.count == 1 else {
        throw interpreter.failure("entries are made of a dictionary, not of \(first.kind)")
      }
      result = entries
    }
    for (name, value) in call.named {
      result.removeAll { $0.key == name }
      result.append((name, value))
    }
    return result
  }

  private static func range(_ call: TemplateCall, _ interpreter: inout TemplateInterpreter) throws
    -> TemplateValue
  {
    let numbers = try call.values.map { value in
      guard case .integer(let number) = value, abs(Double(number)) < 1e15 else {
        throw interpreter.failure("'range' takes whole numbers, not \(value.kind)")
      }
      return number
    }
    guard (1...3).contains(numbers.count), numbers.count < 3 || numbers[2] != 0 else {
      throw interpreter.failure("'range' takes one to three numbers, and steps other than 0")
    }
    let (start, end) = numbers.count == 1 ? (0, numbers[0]) : (numbers[0], numbers[1])
    let step = numbers.count > 2 ? numbers[2] : 1
    guard (end - start) / step <= rangeLimit else {
      throw interpreter.failure("a range has more than \(rangeLimit) numbers")
    }
    let values = stride(from: start, to: end, by: step).map { TemplateValue.integer($0) }
    try interpreter.step(values.count)
    return .list(values)
  }
}
