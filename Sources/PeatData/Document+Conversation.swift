import PeatTensor

extension Document {
  /// The document as a line of JSON lines, where it is a conversation: its messages and tools as they were read, keys in their order.
  package func conversationLine() -> String? {
    guard let turns else { return nil }
    var entries: [(key: ByteString, value: ByteJSON)] = [
      ("messages", .array(turns.map(\.message)))
    ]
    if let tools { entries.append(("tools", tools.json)) }
    for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
      entries.append((ByteString(key), .string(ByteString(value))))
    }
    return ByteJSON.object(entries).text
  }
}
