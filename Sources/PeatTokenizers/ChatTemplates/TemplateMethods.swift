/// Methods of strings and dictionaries. Those that change a list or dictionary are refused, as transformers' sandbox does.
enum TemplateMethods {
  private static let ofStrings: Set<String> = [
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "upper",
    "lower", "title", "capitalize", "replace", "join", "find", "count", "isdigit", "isalpha",
    "isspace", "isupper", "islower", "removeprefix", "removesuffix",
  ]
  private static let ofDictionaries: Set<String> = ["items", "keys", "values", "get"]
  private static let refused: Set<String> = [
    "append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "sort",
    "reverse", "popitem",
  ]

  static func has(_ name: String, _ value: TemplateValue) -> Bool {
    switch value {
    case .string: ofStrings.contains(name)
    case .dictionary:
      ofDictionaries.contains(name) || (refused.contains(name) && value.entry(name) == nil)
    case .list: name == "index" || name == "count" || refused.contains(name)
    default: false
    }
  }

  static func call(
    _ name: String, _ value: TemplateValue, _ call: TemplateCall,
    _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    switch value {
    case .string(let text):
      try interpreter.step(text.utf8.count / 64)
      return try ofString(name, text, call, &interpreter)
    case .dictionary(let entries):
      switch name {
      case "items": return .list(entries.map { .list([.string($0.key), $0.value]) })
      case "keys": return .list(entries.map { .string($0.key) })
      case "values": return .list(entries.map(\.value))
      case "get":
        guard case .string(let key) = call.values.first else {
          throw interpreter.failure("'get' takes a key")
        }
        return value.entry(key) ?? call.argument(1, "default") ?? .none
      default: break
      }
    case .list(let elements):
      if let wanted = call.values.first {
        if name == "count" {
          return .integer(elements.count { TemplateValue.areEqual($0, wanted) })
        }
        if name == "index",
          let place = elements.firstIndex(where: { TemplateValue.areEqual($0, wanted) })
        {
          return .integer(place)
        }
      }
    default: break
    }
    throw interpreter.failure("'\(name)' of \(value.kind) is not allowed here")
  }

  private static func ofString(
    _ name: String, _ text: String, _ call: TemplateCall,
    _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    let place = "'\(name)' of a string"
    func string(_ index: Int) throws -> String {
      guard index < call.values.count, case .string(let argument) = call.values[index] else {
        throw interpreter.failure("\(place) takes a string")
      }
      return argument
    }
    func isAll(_ holds: (Unicode.Scalar) -> Bool) -> TemplateValue {
      .bool(!text.isEmpty && text.unicodeScalars.allSatisfy(holds))
    }
    switch name {
    case "strip", "lstrip", "rstrip":
      var cut: (Unicode.Scalar) -> Bool = TemplateText.isSpace
      if let first = call.values.first {
        if case .none = first {
        } else {
          let scalars = Set(try string(0).unicodeScalars)
          cut = { scalars.contains($0) }
        }
      }
      return .string(
        TemplateText.trimmed(text, left: name != "rstrip", right: name != "lstrip", of: cut))
    case "upper": return try interpreter.made(text.uppercased())
    case "lower": return try interpreter.made(TemplateFilters.lowercased(text))
    case "title": return try interpreter.made(TemplateFilters.titled(text))
    case "capitalize": return try interpreter.made(TemplateFilters.capitalized(text))
    case "isdigit":
      return isAll { $0.properties.numericType == .digit || $0.properties.numericType == .decimal }
    case "isalpha": return isAll { UTF8Text.wordKind($0.value) == .letter }
    case "isspace": return isAll(TemplateText.isSpace)
    case "isupper":
      return .bool(text != TemplateFilters.lowercased(text) && text == text.uppercased())
    case "islower":
      return .bool(text != text.uppercased() && text == TemplateFilters.lowercased(text))
    case "startswith", "endswith":
      let wanted = try interpreter.elements(
        of: call.values.first.map { if case .list = $0 { $0 } else { .list([$0]) } } ?? .none)
      return .bool(
        wanted.contains { option in
          guard case .string(let option) = option else { return false }
          return name == "startswith"
            ? text.utf8.starts(with: option.utf8)
            : text.utf8.suffix(option.utf8.count).elementsEqual(option.utf8)
        })
    case "removeprefix":
      let prefix = try string(0)
      return .string(
        text.utf8.starts(with: prefix.utf8)
          ? String(decoding: text.utf8.dropFirst(prefix.utf8.count), as: UTF8.self) : text)
    case "removesuffix":
      let suffix = try string(0)
      return .string(
        text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
          ? String(decoding: text.utf8.dropLast(suffix.utf8.count), as: UTF8.self) : text)
    case "replace":
      return try replaced(
        text, try string(0), try string(1), count: call.argument(2, "count"), &interpreter)
    case "split", "rsplit", "splitlines":
      let parts = try split(name, text, call, interpreter)
      try interpreter.step(parts.count)
      return .list(parts.map { .string($0) })
    case "join":
      guard let values = call.values.first else {
        throw interpreter.failure("\(place) takes a list")
      }
      return try joined(interpreter.elements(of: values), text, &interpreter)
    case "find":
      let wanted = try string(0)
      if wanted.isEmpty { return .integer(0) }
      guard let first = TemplateText.occurrences(of: wanted, in: text).first else {
        return .integer(-1)
      }
      let before = text.utf8.prefix(first.lowerBound)
      return .integer(String(decoding: before, as: UTF8.self).unicodeScalars.count)
    default:
      let wanted = try string(0)
      return .integer(
        wanted.isEmpty
          ? text.unicodeScalars.count + 1
          : TemplateText.occurrences(of: wanted, in: text).count)
    }
  }

  static func joined(
    _ values: [TemplateValue], _ separator: String, _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    _ = try interpreter.checked(.list(values))
    try interpreter.made(bytes: values.count * separator.utf8.count)
    return try interpreter.made(values.map(\.printed).joined(separator: separator))
  }

  static func replaced(
    _ text: String, _ wanted: String, _ content: String, count: TemplateValue?,
    _ interpreter: inout TemplateInterpreter
  ) throws -> TemplateValue {
    var cuts: [Range<Int>]
    if wanted.isEmpty {
      // Between all scalars, and at both ends.
      var place = 0
      cuts =
        [0..<0]
        + text.unicodeScalars.map { scalar in
          place += scalar.utf8.count
          return place..<place
        }
    } else {
      cuts = TemplateText.occurrences(of: wanted, in: text)
    }
    if case .integer(let limit) = count, limit >= 0 { cuts = Array(cuts.prefix(limit)) }
    let (size, isTooLarge) = cuts.count.multipliedReportingOverflow(by: content.utf8.count)
    try interpreter.made(bytes: isTooLarge ? .max : size)
    return try interpreter.made(TemplateText.parts(text, between: cuts).joined(separator: content))
  }

  private static func split(
    _ name: String, _ text: String, _ call: TemplateCall, _ interpreter: TemplateInterpreter
  ) throws -> [String] {
    if name == "splitlines" {
      let scalars = text.replacing("\r\n", with: "\n").unicodeScalars
      var lines = scalars.split(omittingEmptySubsequences: false) {
        "\n\r\u{B}\u{C}\u{1C}\u{1D}\u{1E}\u{85}\u{2028}\u{2029}".unicodeScalars.contains($0)
      }.map { String($0) }
      if lines.last == "" { lines.removeLast() }
      return lines
    }
    var limit = Int.max
    if case .integer(let count) = call.argument(1, "maxsplit"), count >= 0 { limit = count }
    guard case .string(let separator) = call.argument(0, "sep") else {
      let scalars = TemplateText.trimmed(text).unicodeScalars
      if scalars.isEmpty { return [] }
      guard limit != .max else {
        return scalars.split(whereSeparator: TemplateText.isSpace).map { String($0) }
      }
      throw interpreter.failure("'\(name)' at white space takes no limit here")
    }
    if separator.isEmpty { throw interpreter.failure("'\(name)' has an empty separator") }
    let cuts = TemplateText.occurrences(of: separator, in: text)
    return TemplateText.parts(
      text, between: name == "split" ? Array(cuts.prefix(limit)) : Array(cuts.suffix(limit)))
  }
}
