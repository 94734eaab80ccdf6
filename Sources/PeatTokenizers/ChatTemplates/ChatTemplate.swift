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
/// name when the template is read or used. A template can't reach files, the network or the clock (`now` is given), and its steps,
/// its text and its depth are bounded.
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
  ///   - now: for templates that write the date; its parts are those of UTC.
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
    if let now { surroundings.formattedTime = { TimeFormat.text(now, $0) } }
    var interpreter = TemplateInterpreter(variables, surroundings: surroundings)
    return try interpreter.run(statements)
  }
}

/// Writes a time after C's formats.
enum TimeFormat {
  static func text(_ time: Date, _ format: String) -> String {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? calendar.timeZone
    let parts = calendar.dateComponents(
      [.year, .month, .day, .hour, .minute, .second, .weekday, .dayOfYear], from: time)
    let months = [
      "January", "February", "March", "April", "May", "June", "July", "August", "September",
      "October", "November", "December",
    ]
    let days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
    func padded(_ value: Int?, _ width: Int = 2) -> String {
      let digits = String(value ?? 0)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let month = months[(parts.month ?? 1) - 1]
    let day = days[(parts.weekday ?? 1) - 1]
    let hour = parts.hour ?? 0
    var result = ""
    var isEscaped = false
    for scalar in format.unicodeScalars {
      guard isEscaped else {
        if scalar == "%" { isEscaped = true } else { result.unicodeScalars.append(scalar) }
        continue
      }
      isEscaped = false
      switch scalar {
      case "Y": result += String(parts.year ?? 0)
      case "y": result += padded((parts.year ?? 0) % 100)
      case "m": result += padded(parts.month)
      case "d": result += padded(parts.day)
      case "H": result += padded(hour)
      case "I": result += padded(hour % 12 == 0 ? 12 : hour % 12)
      case "p": result += hour < 12 ? "AM" : "PM"
      case "M": result += padded(parts.minute)
      case "S": result += padded(parts.second)
      case "j": result += padded(parts.dayOfYear, 3)
      case "B": result += month
      case "b": result += String(month.prefix(3))
      case "A": result += day
      case "a": result += String(day.prefix(3))
      case "F": result += text(time, "%Y-%m-%d")
      case "T": result += text(time, "%H:%M:%S")
      case "%": result += "%"
      default:
        result += "%"
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
