import Foundation
import PeatTensor

/// A question with several endings, one of which is right.
public struct ChoiceQuestion: Sendable, Equatable {
  /// What stands before each choice.
  public let prompt: String
  /// Two or more.
  public let choices: [String]
  /// Which choice is right, counted from 0.
  public let answer: Int

  /// - Precondition: `answer` is one of the choices' numbers.
  public init(prompt: String, choices: [String], answer: Int) {
    precondition(
      choices.indices.contains(answer), "answer \(answer) of \(choices.count) choices")
    self.prompt = prompt
    self.choices = choices
    self.answer = answer
  }

  static let promptKeys = ["question", "prompt", "context"]

  /// The questions of a JSON array or JSON lines file, or of a folder of such files: `{question, choices, answer}`.
  ///
  /// The question may also be called `prompt` or `context`, the answer `gold`; a `context` beside a `question` stands before it on its own
  /// line. The answer is a number counted from 0, a letter counted from A, or the text of the right choice. A text equal to a choice
  /// counts before a letter, a letter before a number in quotes.
  ///
  /// - Throws: as `DocumentReader.read`.
  public static func read(_ url: URL) throws -> [ChoiceQuestion] {
    guard let folder = try TextFolder(url) else { return try read(TextFile(url)) }
    return try folder.files.flatMap { try read(TextFile($0.url)) }
  }

  package static func read(_ file: TextFile) throws -> [ChoiceQuestion] {
    let format = DataFormat.sniffed(from: file.bytes, fileExtension: file.fileExtension)
    guard format == .json || format == .jsonLines else {
      throw PeatError.badData(
        """
        '\(file.name)' is not JSON. Expected an array or lines of \
        {"question": …, "choices": […], "answer": …}.
        """)
    }
    let questions = try file.mapJSON(format) {
      try question($0, at: "'\(file.name)', line \($1)")
    }.results
    if questions.isEmpty {
      throw PeatError.badData(
        "'\(file.name)' holds an empty array. Expected at least one question.")
    }
    return questions
  }

  private static func question(_ value: ParsedJSON, at place: String) throws -> ChoiceQuestion {
    guard case .object(let record) = value else {
      throw PeatError.badData(
        "\(place): \(value.kind) is no question. Expected {question, choices, answer}.")
    }
    var parts = promptKeys.compactMap { record[$0]?.string }
    if record["question"]?.string != nil, let context = record["context"]?.string,
      let question = record["question"]?.string
    {
      parts = ["\(context)\n\(question)"]
    }
    guard let prompt = parts.first, let listed = record["choices"]?.array,
      let answer = record["answer"] ?? record["gold"]
    else {
      throw PeatError.badData(
        """
        \(place): no question. Found the keys \(DocumentReader.list(record.keys)). \
        Expected 'question' (or 'prompt', 'context'), 'choices' (an array) and 'answer' (or 'gold').
        """)
    }
    let choices = try listed.map { choice in
      guard let text = choice.string, !text.isEmpty else {
        throw PeatError.badData("\(place): a choice is empty or \(choice.kind). Expected strings.")
      }
      return text
    }
    if choices.count < 2 {
      throw PeatError.badData("\(place): \(choices.count) choices, two or more are expected.")
    }
    guard let index = index(of: answer, among: choices) else {
      throw PeatError.badData(
        """
        \(place): the answer \(answer.scalarText.map { "'\($0)'" } ?? answer.kind) is none of the \
        \(choices.count) choices. Expected a number from 0 to \(choices.count - 1), a letter from A, \
        or the text of a choice.
        """)
    }
    return ChoiceQuestion(prompt: prompt, choices: choices, answer: index)
  }

  private static func index(of answer: ParsedJSON, among choices: [String]) -> Int? {
    switch answer {
    case .number(let number):
      guard let index = Int(number), choices.indices.contains(index) else { return nil }
      return index
    case .string(let text):
      if let index = choices.firstIndex(of: text) { return index }
      let upper = text.uppercased().utf8
      if upper.count == 1, let letter = upper.first, letter >= UInt8(ascii: "A"),
        choices.indices.contains(Int(letter - UInt8(ascii: "A")))
      {
        return Int(letter - UInt8(ascii: "A"))
      }
      guard let index = Int(text), choices.indices.contains(index) else { return nil }
      return index
    case .null, .bool, .array, .object: return nil
    }
  }
}
