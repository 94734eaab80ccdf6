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
  /// What else the record said, such as whose question it is.
  public let fields: [String: String]

  /// - Precondition: `answer` is one of the choices' numbers.
  public init(prompt: String, choices: [String], answer: Int, fields: [String: String] = [:]) {
    precondition(
      choices.indices.contains(answer), "answer \(answer) of \(choices.count) choices")
    self.prompt = prompt
    self.choices = choices
    self.answer = answer
    self.fields = fields
  }

  private static let answerKeys = ["answer", "gold", "answerKey"]

  /// The questions of a JSON array or JSON lines file, or of a folder of such files: `{question, choices, answer}`.
  ///
  /// The question may also be called `prompt` or `context`, the answer `gold` or `answerKey`; a `context` beside a question stands before it on its own
  /// line. Choices may have names, as ARC's do: `{"text": […], "label": ["A", …]}`, of which the answer is one. Else the answer is a number counted from 0, a letter counted from A, or the text of the right choice. A text equal to a choice
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
    let used = ["question", "prompt", "context", "choices"] + answerKeys
    let fields = record.filter { !used.contains($0.key) }.compactMapValues(\.scalarText)
    let asked = record["question"]?.string ?? record["prompt"]?.string
    let parts = [record["context"]?.string, asked].compactMap { $0 }
    let named = try namedChoices(record, at: place)
    guard !parts.isEmpty, let listed = named?.texts ?? record["choices"]?.array,
      let answer = answerKeys.lazy.compactMap({ record[$0] }).first
    else {
      throw PeatError.badData(
        """
        \(place): no question. Found the keys \(DocumentReader.list(record.keys)). \
        Expected 'question' (or 'prompt', 'context'), 'choices' (an array, or {text, label}) and 'answer' (or 'gold', 'answerKey').
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
    let index =
      if let names = named?.names, let name = answer.scalarText {
        names.firstIndex(of: name)
      } else {
        index(of: answer, among: choices)
      }
    guard let index else {
      throw PeatError.badData(
        """
        \(place): the answer \(answer.scalarText.map { "'\($0)'" } ?? answer.kind) is none of the \
        \(choices.count) choices. Expected a number from 0 to \(choices.count - 1), a letter from A, \
        or the text of a choice.
        """)
    }
    return ChoiceQuestion(
      prompt: parts.joined(separator: "\n"), choices: choices, answer: index, fields: fields)
  }

  /// Choices with a name each, `{"text": […], "label": ["A", …]}`, as ARC's files have them; `nil` where they are laid out otherwise.
  private static func namedChoices(
    _ record: [String: ParsedJSON], at place: String
  ) throws -> (texts: [ParsedJSON], names: [String])? {
    guard case .object(let table) = record["choices"] else { return nil }
    let names = (table["label"]?.array ?? []).compactMap(\.scalarText)
    guard let texts = table["text"]?.array, texts.count == names.count,
      Set(names.map { Array($0.utf8) }).count == names.count
    else {
      throw PeatError.badData(
        "\(place): 'choices' is an object; expected its 'text' and its 'label', lists of the same length, no label twice."
      )
    }
    return (texts, names)
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
    case .null, .bool, .array, .object, .kept: return nil
    }
  }
}
