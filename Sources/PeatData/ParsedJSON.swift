import PeatTensor

/// A record of a data file: its strings are text, and of equal keys the last counts.
package enum ParsedJSON: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(String)
  case string(String)
  case array([ParsedJSON])
  case object([String: ParsedJSON])
  /// A list or an object as it stands in the file, with the order of its keys: of a conversation, which a chat template writes as it is.
  case kept(ByteJSON)

  /// The keys whose lists and objects are kept.
  private static let keptKeys: Set<String> = ["messages", "conversations", "tools"]

  init(_ json: ByteJSON) {
    switch json {
    case .null: self = .null
    case .bool(let value): self = .bool(value)
    case .number(let text): self = .number(text)
    case .string(let text): self = .string(text.text)
    case .array(let elements): self = .array(elements.map(ParsedJSON.init))
    case .object(let members):
      self = .object(
        Dictionary(
          members.map { member in
            let key = member.key.text
            return (key, Self.keptKeys.contains(key) ? .keeping(member.value) : Self(member.value))
          }
        ) { _, last in last })
    }
  }

  private static func keeping(_ json: ByteJSON) -> ParsedJSON {
    switch json {
    case .array, .object: .kept(json)
    default: Self(json)
    }
  }

  /// What kind of value this is, for error messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a truth value"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    case .kept(let json): json.kind
    }
  }

  var string: String? {
    if case .string(let value) = self { value } else { nil }
  }

  /// What is kept as it stands in the file.
  var kept: ByteJSON? { if case .kept(let json) = self { json } else { nil } }

  var array: [ParsedJSON]? {
    if case .array(let value) = self { value } else { nil }
  }

  /// The value as text, where it is a string, number or truth value.
  var scalarText: String? {
    switch self {
    case .string(let value), .number(let value): value
    case .bool(let value): value ? "true" : "false"
    case .null, .array, .object, .kept: nil
    }
  }
}
