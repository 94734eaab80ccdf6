import Foundation
import PeatTensor

/// One message of a conversation.
public struct ChatTurn: Sendable, Equatable {
  /// Who speaks: `system`, `user`, `assistant`, or another word that a chat template knows, such as `tool`.
  public let role: String
  /// What is said; empty where a message only calls tools.
  public let content: String
  /// The whole message, with all of its keys, as a chat template is given it.
  package let message: ByteJSON
  /// The tools that it calls.
  package let calls: [ByteJSON]

  public static let assistant = "assistant"
  static let callsKey = "tool_calls"

  public init(role: String, content: String) {
    self.init(
      role: role, content: content,
      message: .object([
        ("role", .string(ByteString(role))), ("content", .string(ByteString(content))),
      ]), calls: [])
  }

  init(role: String, content: String, message: ByteJSON, calls: [ByteJSON]) {
    self.role = role
    self.content = content
    self.message = message
    self.calls = calls
  }

  /// Whether a model is to learn to say this.
  public var isLearned: Bool { role == ChatTurn.assistant }

  /// Whether nothing is said and no tool is called.
  var isEmpty: Bool { content.isEmpty && calls.isEmpty }

  /// What is said and, on lines of their own, the tools that are called, as JSON: for models without a chat template.
  var text: String {
    let lines = calls.map { ($0.value("function") ?? $0).text }
    return ((content.isEmpty && !lines.isEmpty ? [] : [content]) + lines).joined(separator: "\n")
  }
}

/// The tools that a conversation may call: their descriptions as the record has them, JSON schemas most often.
public struct ConversationTools: Sendable, Equatable {
  /// A list.
  package let json: ByteJSON

  package init(_ json: ByteJSON) { self.json = json }
}

/// A piece of a document's text, and whether a model is to learn it.
public struct TextSegment: Sendable, Equatable {
  public let text: String
  public let isLearned: Bool

  public init(_ text: String, isLearned: Bool) {
    self.text = text
    self.isLearned = isLearned
  }
}

/// Makes text of a conversation, as the chat template of a model does.
public protocol ChatRendering: Sendable {
  /// The whole conversation in pieces; what the assistant says, the tools that it calls among it, and the mark that ends it, is learned.
  ///
  /// - Parameter tools: a list of those that may be called, as the record has them; `nil`: none.
  func segments(of turns: [ChatTurn], tools: ConversationTools?) throws -> [TextSegment]

  /// Whether the text says itself where it begins and where turns end, so that a tokenizer has no token to add.
  var carriesSpecialTokens: Bool { get }
}

extension ChatRendering {
  public var carriesSpecialTokens: Bool { false }
}

/// Roles as headings, under which stands what was said: for models without a chat template.
///
///     ### User:
///     Name a colour.
///
///     ### Assistant:
///     Blue
///
/// The headings are those of `InstructionPrompt`, with the roles' names. The blank line that ends what the assistant says is learned.
/// Tools stand in front, under a heading of their own, and calls behind what is said, each as a line of JSON.
public struct PlainChatRendering: ChatRendering {
  public init() {}

  public func segments(of turns: [ChatTurn], tools: ConversationTools?) -> [TextSegment] {
    let listed = (tools?.json.elements ?? []).map { $0.text + "\n" }.joined()
    let first =
      listed.isEmpty ? [] : [TextSegment("### Tools:\n\(listed)\n", isLearned: false)]
    return first
      + turns.flatMap { turn in
        [
          TextSegment(Self.heading(turn.role), isLearned: false),
          TextSegment(turn.text + "\n\n", isLearned: turn.isLearned),
        ]
      }
  }

  /// What the assistant is asked with: the conversation so far, and the heading under which it is to answer.
  public func prompt(_ turns: [ChatTurn]) -> String {
    segments(of: turns, tools: nil).map(\.text).joined() + Self.heading(ChatTurn.assistant)
  }

  private static func heading(_ role: String) -> String {
    "### \(role.prefix(1).uppercased() + role.dropFirst()):\n"
  }
}

/// What a model says under one heading, piece by piece: it ends where the next heading begins.
public struct PlainAnswer: Sendable {
  private static let end = "\n\n### "
  /// What was not shown yet, as the next heading may begin in it.
  private var held = ""
  public private(set) var isOver = false

  public init() {}

  /// Takes the next piece; gives what of it, and of those before, belongs to the answer for certain.
  public mutating func append(_ piece: String) -> String {
    guard !isOver else { return "" }
    held += piece
    if let place = held.range(of: Self.end) {
      isOver = true
      defer { held = "" }
      return String(held[..<place.lowerBound])
    }
    let kept =
      (1..<Self.end.count).reversed().first { held.hasSuffix(Self.end.prefix($0)) } ?? 0
    defer { held = String(held.suffix(kept)) }
    return String(held.dropLast(kept))
  }

  /// What is left where nothing more comes.
  public mutating func finish() -> String {
    defer { held = "" }
    return held
  }
}
