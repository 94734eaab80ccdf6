import PeatTensor

/// Reads conversations: `{messages: [{role, content}]}` as OpenAI and transformers write them, and
/// `{conversations: [{from, value}]}` as ShareGPT does.
enum ChatReader {
  static let layouts = "{messages: [{role, content}]}, {conversations: [{from, value}]}"

  private static let keys = ["messages", "conversations"]

  /// ShareGPT's names of who speaks.
  private static let roles = [
    "human": "user", "gpt": ChatTurn.assistant, "bot": ChatTurn.assistant,
  ]

  /// The key under which a record holds a conversation.
  static func key(in record: [String: ParsedJSON]) -> String? {
    keys.first { record[$0]?.array != nil }
  }

  static func turns(_ value: ParsedJSON, at place: String) throws -> [ChatTurn] {
    try (value.array ?? []).enumerated().map { number, item in
      let place = "\(place), message \(number + 1)"
      guard case .object(let message) = item else {
        throw PeatError.badData("\(place): \(item.kind) is no message. Known layouts: \(layouts).")
      }
      guard let role = (message["role"] ?? message["from"])?.string, !role.isEmpty,
        let content = message["content"] ?? message["value"]
      else {
        throw PeatError.badData(
          "\(place): found the keys \(DocumentReader.list(message.keys)). Expected 'role' and 'content', or 'from' and 'value'."
        )
      }
      return ChatTurn(
        role: roles[role] ?? role, content: try text(of: content, at: place))
    }
  }

  /// A message's text: a string, or a list of parts with a text in each.
  private static func text(of content: ParsedJSON, at place: String) throws -> String {
    if let text = content.string { return text }
    let parts = content.array ?? [.null]
    return try parts.map { part in
      guard case .object(let table) = part, let text = table["text"]?.string else {
        throw PeatError.badData(
          "\(place): the content is \(content.kind) without text. Expected a string, or parts with a 'text' each."
        )
      }
      return text
    }.joined()
  }
}
