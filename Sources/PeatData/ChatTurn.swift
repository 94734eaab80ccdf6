import Foundation

/// One message of a conversation.
public struct ChatTurn: Sendable, Equatable, Codable {
  /// Who speaks: `system`, `user`, `assistant`, or another word that a chat template knows, such as `tool`.
  public let role: String
  public let content: String

  public static let assistant = "assistant"

  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }

  /// Whether a model is to learn to say this.
  public var isLearned: Bool { role == ChatTurn.assistant }
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
  /// The whole conversation in pieces; what the assistant says, and the mark that ends it, is learned.
  func segments(of turns: [ChatTurn]) throws -> [TextSegment]

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
public struct PlainChatRendering: ChatRendering {
  public init() {}

  public func segments(of turns: [ChatTurn]) -> [TextSegment] {
    turns.flatMap { turn in
      [
        TextSegment(Self.heading(turn.role), isLearned: false),
        TextSegment(turn.content + "\n\n", isLearned: turn.isLearned),
      ]
    }
  }

  /// What the assistant is asked with: the conversation so far, and the heading under which it is to answer.
  public func prompt(_ turns: [ChatTurn]) -> String {
    segments(of: turns).map(\.text).joined() + Self.heading(ChatTurn.assistant)
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
