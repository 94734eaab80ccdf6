import PeatTensor

/// The filters that a template can use; a new one is a line here.
enum TemplateFilters {
  typealias Filter =
    @Sendable (TemplateValue, TemplateCall, inout TemplateInterpreter) throws -> TemplateValue

  static let known: [String: Filter] = [
    "trim": { value, call, interpreter in
      guard case .string(let characters) = call.argument(0, "chars") else {
        return try interpreter.made(TemplateText.trimmed(value.printed))
      }
      let scalars = Set(characters.unicodeScalars)
      return try interpreter.made(TemplateText.trimmed(value.printed) { scalars.contains($0) })
    },
    "upper": { value, _, interpreter in try interpreter.made(value.printed.uppercased()) },
    "lower": { value, _, interpreter in try interpreter.made(lowercased(value.printed)) },
    "capitalize": { value, _, interpreter in try interpreter.made(capitalized(value.printed)) },
    "title": { value, _, interpreter in try interpreter.made(jinjaTitled(value.printed)) },
    "string": { value, _, interpreter in try interpreter.made(value.printed) },
    "safe": { value, _, _ in value },
    "length": { value, _, interpreter in .integer(try length(value, &interpreter)) },
    "count": { value, _, interpreter in .integer(try length(value, &interpreter)) },
    "default": { value, call, _ in standard(value, call) },
    "d": { value, call, _ in standard(value, call) },
    "first": { value, _, interpreter in
      try interpreter.elements(of: value).first ?? .undefined("first")
    },
    "last": { value, _, interpreter in
      try interpreter.elements(of: value).last ?? .undefined("last")
    },
    "list": { value, _, interpreter in .list(try counted(value, &interpreter)) },
    "reverse": { value, _, interpreter in
      let reversed = Array(try counted(value, &interpreter).reversed())
      if case .string = value { return .string(reversed.map(\.printed).joined()) }
      return .list(reversed)
    },
    "items": { value, _, interpreter in
      switch value {
      case .undefined: return .list([])
      case .dictionary(let entries):
        return .list(entries.map { .list([.string($0.key), $0.value]) })
      default: throw interpreter.failure("'items' is for dictionaries, not \(value.kind)")
      }
    },
    "join": { value, call, interpreter in
      var values = try counted(value, &interpreter)
      if case .string(let name) = call.argument(1, "attribute") {
        values = try values.map { try interpreter.attribute(name, of: $0) }
      }
      return try TemplateMethods.joined(values, call.argument(0, "d")?.printed ?? "", &interpreter)
    },
    "replace": { value, call, interpreter in
      guard let wanted = call.argument(0, "old"), let content = call.argument(1, "new") else {
        throw interpreter.failure("'replace' takes what to look for and what to put there")
      }
      return try TemplateMethods.replaced(
        value.printed, wanted.printed, content.printed, count: call.argument(2, "count"),
        &interpreter)
    },
    "tojson": { value, call, interpreter in
      try interpreter.made(TemplateJSON(call).text(value, interpreter))
    },
    "int": { value, call, _ in
      switch value {
      case .integer: return value
      case .bool(let truth): return .integer(truth ? 1 : 0)
      case .double(let number): return .integer(Int(exactly: number.rounded(.towardZero)) ?? 0)
      case .string(let text):
        let trimmed = TemplateText.trimmed(text)
        if let number = Int(trimmed) { return .integer(number) }
        if let number = Double(trimmed).flatMap({ Int(exactly: $0.rounded(.towardZero)) }) {
          return .integer(number)
        }
      default: break
      }
      return call.argument(0, "default") ?? .integer(0)
    },
    "float": { value, call, _ in
      if let number = value.number { return .double(number) }
      if case .string(let text) = value, let number = Double(TemplateText.trimmed(text)) {
        return .double(number)
      }
      return call.argument(0, "default") ?? .double(0)
    },
    "abs": { value, _, interpreter in
      switch value {
      case .integer(let number) where number != .min: return .integer(abs(number))
      case .double(let number): return .double(abs(number))
      default: throw interpreter.failure("'abs' is for numbers, not \(value.kind)")
      }
    },
    "sum": { value, _, interpreter in
      try counted(value, &interpreter).reduce(.integer(0)) {
        try TemplateArithmetic.binary("+", $0, $1, &interpreter)
      }
    },
    "unique": { value, _, interpreter in
      var result: [TemplateValue] = []
      for element in try counted(value, &interpreter) {
        try interpreter.step(result.count)
        let key = folded(element)
        if !result.contains(where: { TemplateValue.areEqual(folded($0), key) }) {
          result.append(element)
        }
      }
      return .list(result)
    },
    "sort": { value, call, interpreter in try sorted(value, call, &interpreter) },
    "dictsort": { value, _, interpreter in
      guard case .dictionary(let entries) = value else {
        throw interpreter.failure("'dictsort' is for dictionaries, not \(value.kind)")
      }
      let pairs = entries.sorted {
        lowercased($0.key).utf8.lexicographicallyPrecedes(lowercased($1.key).utf8)
      }
      return .list(pairs.map { .list([.string($0.key), $0.value]) })
    },
    "map": { value, call, interpreter in
      let values = try counted(value, &interpreter)
      if case .string(let name) = call.named("attribute") {
        return .list(
          try values.map {
            let found = try interpreter.attribute(name, of: $0)
            if case .undefined = found { return call.named("default") ?? found }
            return found
          })
      }
      guard case .string(let name) = call.values.first, let filter = known[name] else {
        throw interpreter.failure("'map' takes a filter's name or an attribute")
      }
      let rest = TemplateCall(values: Array(call.values.dropFirst()), named: call.named)
      return .list(try values.map { try filter($0, rest, &interpreter) })
    },
    "select": { try chosen($0, $1, &$2, byAttribute: false, ifHolds: true) },
    "reject": { try chosen($0, $1, &$2, byAttribute: false, ifHolds: false) },
    "selectattr": { try chosen($0, $1, &$2, byAttribute: true, ifHolds: true) },
    "rejectattr": { try chosen($0, $1, &$2, byAttribute: true, ifHolds: false) },
    "indent": { value, call, interpreter in try indented(value, call, &interpreter) },
  ]

  // MARK: Their parts

  private static func counted(_ value: TemplateValue, _ interpreter: inout TemplateInterpreter)
    throws -> [TemplateValue]
  {
    let elements = try interpreter.elements(of: value)
    try interpreter.step(elements.reduce(0) { $0 + 1 + $1.weight })
    return elements
  }

  private static func length(_ value: TemplateValue, _ interpreter: inout TemplateInterpreter)
    throws -> Int
  {
    try interpreter.step(value.weight)
    if case .string(let text) = value { return text.unicodeScalars.count }
    return try interpreter.elements(of: value).count
  }

  private static func standard(_ value: TemplateValue, _ call: TemplateCall) -> TemplateValue {
    let countsFalse = call.argument(1, "boolean")?.isTrue ?? false
    let isMissing = if case .undefined = value { true } else { countsFalse && !value.isTrue }
    return isMissing ? call.argument(0, "default_value") ?? .string("") : value
  }

  private static func folded(_ value: TemplateValue) -> TemplateValue {
    if case .string(let text) = value { .string(lowercased(text)) } else { value }
  }

  private static func sorted(
    _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    let isReversed = call.argument(0, "reverse")?.isTrue ?? false
    let isExact = call.argument(1, "case_sensitive")?.isTrue ?? false
    var keyed = try counted(value, &interpreter).enumerated().map { place, element in
      var key = element
      if case .string(let name) = call.argument(2, "attribute") {
        key = try interpreter.attribute(name, of: element)
      }
      return (place: place, key: isExact ? key : folded(key), element: element)
    }
    // Equal ones keep their order, also when reversed.
    try keyed.sort { first, second in
      let (a, b) = isReversed ? (second, first) : (first, second)
      if try TemplateArithmetic.compare("<", a.key, b.key, interpreter) { return true }
      if try TemplateArithmetic.compare("<", b.key, a.key, interpreter) { return false }
      return first.place < second.place
    }
    return .list(keyed.map(\.element))
  }

  private static func chosen(
    _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter,
    byAttribute: Bool, ifHolds: Bool
  ) throws -> TemplateValue {
    var arguments = call.values[...]
    var attribute: String?
    if byAttribute {
      guard case .string(let name) = arguments.popFirst() else {
        throw interpreter.failure("the filter takes an attribute's name")
      }
      attribute = name
    }
    var test: String?
    if let first = arguments.popFirst() {
      guard case .string(let name) = first else {
        throw interpreter.failure("the filter takes a test's name, not \(first.kind)")
      }
      test = name
    }
    // Operators are tests, too.
    let signs = ["==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"]
    var result: [TemplateValue] = []
    for element in try counted(value, &interpreter) {
      var part = element
      for name in attribute?.split(separator: ".") ?? [] {
        part = try interpreter.attribute(String(name), of: part)
      }
      let holds =
        try test.map {
          try TemplateTests.holds(signs[$0] ?? $0, part, Array(arguments), interpreter)
        } ?? part.isTrue
      if holds == ifHolds { result.append(element) }
    }
    return .list(result)
  }

  private static func indented(
    _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    var indent = "    "
    switch call.argument(0, "width") {
    case .integer(let width) where (0...1000).contains(width):
      indent = String(repeating: " ", count: width)
    case .string(let text): indent = text
    case nil: break
    default: throw interpreter.failure("'indent' takes a width of at most 1000")
    }
    let isFirst = call.argument(1, "first")?.isTrue ?? false
    let isBlank = call.argument(2, "blank")?.isTrue ?? false
    let text = value.printed
    let lines = TemplateText.parts(text, between: TemplateText.occurrences(of: "\n", in: text))
    try interpreter.made(bytes: lines.count * indent.utf8.count)
    let changed = lines.enumerated().map { place, line in
      place == 0 ? (isFirst ? indent : "") + line : line.isEmpty && !isBlank ? line : indent + line
    }
    return try interpreter.made(changed.joined(separator: "\n"))
  }

  // MARK: Letters

  /// Python's `lower`, whose final sigma looks at its neighbours.
  static func lowercased(_ text: String) -> String { text.lowercased() }

  static func capitalized(_ text: String) -> String {
    guard let first = text.unicodeScalars.first else { return "" }
    return first.properties.titlecaseMapping + lowercased(String(text.unicodeScalars.dropFirst()))
  }

  /// Python's `title`: a letter after something else than a letter is a capital.
  static func titled(_ text: String) -> String {
    var result = ""
    var isWithin = false
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      result += isWithin ? properties.lowercaseMapping : properties.titlecaseMapping
      isWithin = properties.isCased
    }
    return result
  }

  /// Jinja's `title`: words begin after white space, hyphens and opening brackets.
  private static func jinjaTitled(_ text: String) -> String {
    var result = ""
    var begins = true
    for scalar in text.unicodeScalars {
      let isBorder = TemplateText.isSpace(scalar) || "-({[<".unicodeScalars.contains(scalar)
      result +=
        begins && !isBorder
        ? scalar.properties.uppercaseMapping : scalar.properties.lowercaseMapping
      begins = isBorder
    }
    return result
  }
}
