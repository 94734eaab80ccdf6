import PeatTensor
import PeatTokenizers

/// Conversations as a model's own chat template writes them.
///
/// Messages are given to the template with all that they say, and the record's tools beside them. What the assistant says is learned, its calls of tools among it, from behind the template's generation prompt to the end of what the template writes of that message. Where a template writes a
/// message otherwise once others follow (as some do, who leave earlier thoughts out), that message is not learned.
public struct TemplateChatRendering: ChatRendering {
  private let template: ChatTemplate

  public init(_ template: ChatTemplate) { self.template = template }

  /// The template writes them itself.
  public var carriesSpecialTokens: Bool { true }

  /// - Throws: `badData` where the template refuses the conversation, or nothing in it could be learned.
  public func segments(of turns: [ChatTurn], tools: ConversationTools?) throws -> [TextSegment] {
    let others: [(key: String, value: ByteJSON)] = tools.map { [("tools", $0.json)] } ?? []
    func text(first count: Int, addGenerationPrompt: Bool = false) throws -> String {
      try template.text(
        messages: .array(turns[..<count].map(\.message)), addGenerationPrompt: addGenerationPrompt,
        others: others)
    }
    let whole = Array(try text(first: turns.count).utf8)
    var segments: [TextSegment] = []
    var end = 0
    func append(upTo place: Int, isLearned: Bool) {
      guard place > end else { return }
      segments.append(
        TextSegment(String(decoding: whole[end..<place], as: UTF8.self), isLearned: isLearned))
      end = place
    }
    for (number, turn) in turns.enumerated() where turn.isLearned {
      // A template may refuse a part of a conversation that it writes as a whole.
      guard
        let before = try? text(first: number, addGenerationPrompt: true),
        let after = number == turns.count - 1
          ? whole : (try? text(first: number + 1)).map({ Array($0.utf8) }),
        whole.starts(with: before.utf8), whole.starts(with: after),
        before.utf8.count >= end, after.count > before.utf8.count
      else { continue }
      append(upTo: before.utf8.count, isLearned: false)
      append(upTo: after.count, isLearned: true)
    }
    guard !segments.isEmpty else {
      throw PeatError.badData(
        "The model's chat template writes a conversation of \(turns.count) messages so that it can't be told which part of the text is the assistant's: '\(turns.first?.content.prefix(40) ?? "")…'."
      )
    }
    append(upTo: whole.count, isLearned: false)
    return segments
  }
}

extension Tokenizer {
  /// Documents with conversations as the checkpoint's chat template writes them, where it has one; all else stays as it is.
  public func rendered(_ documents: [Document]) throws -> [Document] {
    try documents.map(conversationRenderer())
  }

  /// What does so with one document after the other.
  public func conversationRenderer() throws -> (Document) throws -> Document {
    guard try hasChatTemplate else { return { $0 } }
    let rendering = TemplateChatRendering(try chatTemplate())
    return { try $0.rendered(by: rendering) }
  }
}
