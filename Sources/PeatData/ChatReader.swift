import PeatTensor

/// Reads conversations: `{messages: [{role, content}]}` as OpenAI and transformers write them, and
/// `{conversations: [{from, value}]}` as ShareGPT does. Whatever else a message says, such as the tools it calls, stays with it, and so do the `tools` of a record.
enum ChatReader {
  static let layouts = "{messages: [{role, content}]}, {conversations: [{from, value}]}"

  private static let keys = ["messages", "conversations"]
  static let toolsKey = "tools"

  /// ShareGPT's names of who speaks.
  private static let roles = [
    "human": "user", "gpt": ChatTurn.assistant, "bot": ChatTurn.assistant,
  ]

  /// The key under which a record holds a conversation.
  static func key(in record: [String: ParsedJSON]) -> String? {
    keys.first { record[$0]?.kept?.elements != nil }
  }

  static func turns(_ value: ParsedJSON, at place: String) throws -> [ChatTurn] {
    try (value.kept?.elements ?? []).enumerated().map { number, item in
      try turn(item, at: "\(place), message \(number + 1)")
    }
  }

  /// The tools of a record, as a template is given them; `nil` where there are none.
  static func tools(in record: [String: ParsedJSON], at place: String) throws -> ByteJSON? {
    guard let value = record[toolsKey], value != .null else { return nil }
    guard let tools = value.kept, let elements = tools.elements else {
      throw PeatError.badData(
        "\(place): '\(toolsKey)' is \(value.kind), a list of tools is expected.")
    }
    return elements.isEmpty ? nil : tools
  }

  private static func turn(_ item: ByteJSON, at place: String) throws -> ChatTurn {
    guard case .object(let entries) = item else {
      throw PeatError.badData("\(place): \(item.kind) is no message. Known layouts: \(layouts).")
    }
    let stated = item.value("role") ?? item.value("from")
    let content = item.value("content") ?? item.value("value")
    let calls = item.value(ChatTurn.callsKey)?.elements ?? []
    guard case .string(let name) = stated, !name.bytes.isEmpty, content != nil || !calls.isEmpty
    else {
      throw PeatError.badData(
        "\(place): found the keys \(DocumentReader.list(entries.map(\.key.text))). Expected 'role' and 'content', or 'from' and 'value'."
      )
    }
    let role = roles[name.text] ?? name.text
    var text: String?
    if let content, content != .null || calls.isEmpty {
      text = try self.text(of: content, at: place)
    }
    // The message as a template sees it: of equal keys the last counts.
    var message: [(key: ByteString, value: ByteJSON)] = []
    for entry in entries {
      let key = ["from": "role", "value": "content"][entry.key.text] ?? entry.key.text
      let value: ByteJSON =
        switch key {
        case "role": .string(ByteString(role))
        case "content": text.map { .string(ByteString($0)) } ?? .null
        default: entry.value
        }
      message.removeAll { $0.key.text == key }
      message.append((ByteString(key), value))
    }
    return ChatTurn(
      role: role, content: text ?? "", message: .object(message), calls: calls)
  }

  /// A message's text: a string, or a list of parts with a text in each.
  private static func text(of content: ByteJSON, at place: String) throws -> String {
    if case .string(let text) = content { return text.text }
    return try (content.elements ?? [.null]).map { part in
      guard case .string(let text) = part.value("text") else {
        throw PeatError.badData(
          "\(place): the content is \(part.kind) without text. Expected a string, or parts with a 'text' each; null alone beside '\(ChatTurn.callsKey)'."
        )
      }
      return text.text
    }.joined()
  }
}

extension ByteJSON {
  /// The elements of a list.
  var elements: [ByteJSON]? { if case .array(let elements) = self { elements } else { nil } }
}
