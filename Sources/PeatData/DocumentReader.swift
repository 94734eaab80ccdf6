import Foundation
import PeatTensor

/// Reads files of documents, and folders of such: plain text, JSON, JSON lines, tables, instructions, conversations, play scripts.
///
/// The format is recognised from the content, with the file's name as a hint. Records are recognised one by one by their
/// keys, in this order:
///
/// - `instruction`, `input` (optional), `output`: the layout of Alpaca (Taori et al. 2023,
///   <https://github.com/tatsu-lab/stanford_alpaca>); becomes a prompt and a completion.
/// - `prompt` and `completion`.
/// - `messages` with `role` and `content`, or `conversations` with `from` and `value`: a conversation, of which what the assistant
///   says is learned, the tools that it calls among it; `tools` beside it are those that may be called.
/// - a pair of texts: `text` and `text_pair`, `sentence1` and `sentence2`, `premise` and `hypothesis`, `question1` and `question2`, `question` and `sentence`.
/// - `text`, `story`, `content` or `sentence`.
///
/// The columns of a table are the keys of its rows. A plain string is a text. Every other string, number or truth value of a record becomes one of its `fields`.
/// Records with nothing to learn (an empty text or output) are left out.
public enum DocumentReader {
  /// The keys under which a record may carry its text, the first one that is there counts.
  static let textKeys = ["text", "story", "content", "sentence"]

  static let knownLayouts =
    "{text}, {story}, {content}, {sentence}, {sentence1, sentence2}, {premise, hypothesis}, {instruction, input, output}, {prompt, completion}, \(ChatReader.layouts), or plain strings"

  /// The documents of a file, in the file's order, or of a folder of files, in that of their names; at least one.
  ///
  /// - Parameters:
  ///   - format: `nil` recognises it from the content. Files of a folder are recognised in any case.
  ///   - keepsEmpty: whether records with nothing to learn are kept, so that the documents are as many as the records.
  ///   - field: what the documents are to be divided by, `nil` by none. Of a folder the field names each document's group (`TextFolder`), and a text that is a
  ///     play script is read as one where the field is its speakers'. Other documents have the fields that they have.
  /// - Throws: `PeatError.inputOutput` where the file is missing or not readable; `PeatError.badData` where it
  ///   is empty, binary, malformed or laid out in a way that is not known, and where a folder holds no files.
  public static func read(
    _ url: URL, as format: DataFormat? = nil, keepsEmpty: Bool = false, by field: String? = nil
  ) throws -> [Document] {
    if let folder = try TextFolder(url) {
      return try folder.documents(keepsEmpty: keepsEmpty, by: field)
    }
    let file = try TextFile(url)
    if format == nil, field == PlayScriptReader.speakerField,
      DataFormat.sniffed(from: file.bytes, fileExtension: file.fileExtension) == .text
    {
      let text = file.text
      if PlayScriptReader.looksLikePlay(text) { return PlayScriptReader.turns(of: text) }
    }
    return try read(file, as: format, keepsEmpty: keepsEmpty)
  }

  package static func read(
    _ file: TextFile, as format: DataFormat? = nil, keepsEmpty: Bool = false
  ) throws -> [Document] {
    let format =
      format ?? DataFormat.sniffed(from: file.bytes, fileExtension: file.fileExtension)
    switch format {
    case .text:
      return [Document(file.text)]
    case .play:
      let turns = PlayScriptReader.turns(of: file.text)
      if turns.isEmpty {
        throw PeatError.badData(
          "'\(file.name)' holds no turns of a play. Expected a line 'SPEAKER:', the lines spoken, an empty line."
        )
      }
      return turns
    case .csv, .tsv:
      let table = try DataTable(file, format)
      let documents = try table.rows.compactMap {
        try document(
          .object(table.record($0)), at: "'\(file.name)', line \($0.line)", keepsEmpty: keepsEmpty)
      }
      if documents.isEmpty {
        throw PeatError.badData("'\(file.name)' holds no row with any text to learn from.")
      }
      return documents
    case .json, .jsonLines:
      let (documents, count) = try file.mapJSON(format) {
        try document($0, at: "'\(file.name)', line \($1)", keepsEmpty: keepsEmpty)
      }
      if count == 0 {
        throw PeatError.badData(
          "'\(file.name)' holds an empty array. Expected at least one document.")
      }
      if documents.isEmpty {
        throw PeatError.badData(
          "'\(file.name)': none of its \(count) records has any text to learn from.")
      }
      return documents
    }
  }

  /// The document of one record, or nil where there is nothing to learn from it.
  static func document(
    _ value: ParsedJSON, at place: String, keepsEmpty: Bool = false
  ) throws -> Document? {
    func isLeftOut(_ text: String) -> Bool { text.isEmpty && !keepsEmpty }
    if case .string(let text) = value { return isLeftOut(text) ? nil : Document(text) }
    guard case .object(let record) = value else {
      throw PeatError.badData(
        "\(place): \(value.kind) is not a document. Known layouts: \(knownLayouts).")
    }
    func fields(without used: String...) -> [String: String] {
      record.filter { !used.contains($0.key) }.compactMapValues(\.scalarText)
    }
    func text(_ key: String) throws -> String? {
      guard let value = record[key], value != .null else { return nil }
      guard let string = value.string else {
        throw PeatError.badData("\(place): '\(key)' is \(value.kind), a string is expected.")
      }
      return string
    }
    func given(_ key: String) -> Bool { (record[key] ?? .null) != .null }

    if let key = ChatReader.key(in: record), let value = record[key] {
      let turns = try ChatReader.turns(value, at: place)
      guard keepsEmpty || turns.contains(where: { $0.isLearned && !$0.isEmpty }) else {
        return nil
      }
      return try Document(
        turns: turns, tools: ChatReader.tools(in: record, at: place).map(ConversationTools.init),
        fields: fields(without: key, ChatReader.toolsKey))
    }
    let textKey = textKeys.first(where: given)
    if given("instruction"), given("output") || textKey == nil {
      let instruction = try text("instruction") ?? ""
      guard let output = try text("output") else {
        throw PeatError.badData(
          """
          \(place): an instruction without 'output'. Found the keys \(list(record.keys)). \
          Expected {instruction, input, output}; 'input' may be left out.
          """)
      }
      let prompt = InstructionPrompt.prompt(
        instruction: instruction, input: try text("input") ?? "")
      let rest = fields(without: "instruction", "input", "output", "text")
      return isLeftOut(output)
        ? nil : Document(prompt: prompt, completion: output, fields: rest)
    }
    if given("prompt"), given("completion") || textKey == nil {
      let prompt = try text("prompt") ?? ""
      guard let completion = try text("completion") else {
        throw PeatError.badData(
          """
          \(place): a prompt without 'completion'. Found the keys \(list(record.keys)). \
          Expected {prompt, completion}.
          """)
      }
      let rest = fields(without: "prompt", "completion")
      return isLeftOut(completion)
        ? nil : Document(prompt: prompt, completion: completion, fields: rest)
    }
    if let keys = TextPair.keys({ record[$0]?.string != nil }),
      let first = record[keys.first]?.string, let second = record[keys.second]?.string
    {
      return Document(TextPair(first, second), fields: fields(without: keys.first, keys.second))
    }
    if let textKey, let body = try text(textKey) {
      return isLeftOut(body) ? nil : Document(body, fields: fields(without: textKey))
    }
    throw PeatError.badData(
      "\(place): no text in this record. Found the keys \(list(record.keys)). Known layouts: \(knownLayouts)."
    )
  }

  /// Up to twelve keys in order, for messages.
  static func list(_ keys: some Collection<String>) -> String {
    if keys.isEmpty { return "(none)" }
    let shown = keys.sorted().prefix(12).joined(separator: ", ")
    return keys.count > 12 ? shown + ", … (\(keys.count) in all)" : shown
  }
}

/// The text around an instruction: its sections under the headings that Alpaca's models are used to.
///
///     ### Instruction:
///     Name the colours of the flag.
///
///     ### Input:
///     The flag of Austria
///
///     ### Response:
///
/// The response follows on the next line. The input section is left out where there is no input.
///
/// Source of the headings: Taori et al. 2023, <https://github.com/tatsu-lab/stanford_alpaca>; the introductory sentence
/// that stands before them there is left out.
public enum InstructionPrompt {
  public static func prompt(instruction: String, input: String) -> String {
    var text = "### Instruction:\n\(instruction)\n\n"
    if !input.isEmpty { text += "### Input:\n\(input)\n\n" }
    return text + "### Response:\n"
  }
}
