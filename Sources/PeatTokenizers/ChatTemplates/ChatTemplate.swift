import Foundation
import PeatTensor

/// One message of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// "system", "user", "assistant" or what else the template knows.
  public var role: String
  public var content: String

  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }

  public static func system(_ content: String) -> Self { Self(role: "system", content: content) }
  public static func user(_ content: String) -> Self { Self(role: "user", content: content) }
  public static func assistant(_ content: String) -> Self {
    Self(role: "assistant", content: content)
  }
}

/// How a model wants a conversation written: the "chat_template" that comes with a tokenizer.
///
///     let text = try tokenizer.chatText([.user("What is a mill?")], addGenerationPrompt: true)
///
/// The language is the part of Jinja that chat templates use, with the settings of transformers; what is not supported is refused by
/// name when the template is read or used. A template can't reach files or the network, and its steps, its text and its depth are bounded.
/// One that writes the date (`strftime_now`, as Llama 3.2's does) is told the moment at which the program began, the same in all texts of a run;
/// `SOURCE_DATE_EPOCH` in the environment sets it, so that a run can be repeated on another day.
public struct ChatTemplate: Sendable {
  private let statements: [TemplateStatement]
  /// The special tokens by name (`bos_token`), for the template.
  private let tokens: [String: String]

  /// - Throws: `PeatError.badData` that names the line and what is wrong.
  public init(_ source: String, tokens: [String: String] = [:]) throws {
    guard source.utf8.count <= 1 << 20 else {
      throw PeatError.badData(
        "The chat template has \(source.utf8.count) bytes; at most \(1 << 20) are read.")
    }
    statements = try TemplateParser.parse(source)
    self.tokens = tokens
  }

  /// The text of a conversation.
  ///
  /// - Parameters:
  ///   - addGenerationPrompt: whether what begins an answer follows at the end.
  ///   - now: for templates that write the date; its parts are those of UTC. `nil`: when the program began, as the clock on the wall has it.
  /// - Throws: `badData` where the template refuses the conversation, or is wrong.
  public func text(
    _ messages: [ChatMessage], addGenerationPrompt: Bool = false, now: Date? = nil
  ) throws -> String {
    try text(
      messages: .list(
        messages.map {
          .dictionary([("role", .string($0.role)), ("content", .string($0.content))])
        }), addGenerationPrompt: addGenerationPrompt, others: [:], now: now)
  }

  /// The text of a conversation as JSON has it, with further variables for the template.
  package func text(
    messages: ByteJSON, addGenerationPrompt: Bool, others: [(key: String, value: ByteJSON)],
    now: Date? = nil
  ) throws -> String {
    try text(
      messages: TemplateValue(messages), addGenerationPrompt: addGenerationPrompt,
      others: Dictionary(others.map { ($0.key, TemplateValue($0.value)) }) { $1 }, now: now)
  }

  private func text(
    messages: TemplateValue, addGenerationPrompt: Bool, others: [String: TemplateValue], now: Date?
  ) throws -> String {
    var variables = tokens.mapValues { TemplateValue.string($0) }
    variables["messages"] = messages
    variables["add_generation_prompt"] = .bool(addGenerationPrompt)
    variables["tools"] = TemplateValue.none
    variables["documents"] = TemplateValue.none
    variables.merge(others) { $1 }
    var surroundings = TemplateSurroundings()
    let time = now.map { TemplateTime($0) } ?? .ofThisRun
    surroundings.formattedTime = { time.text($0) }
    var interpreter = TemplateInterpreter(variables, surroundings: surroundings)
    return try interpreter.run(statements)
  }
}
