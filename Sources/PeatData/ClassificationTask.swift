import PeatModels
import PeatTensor
import PeatTokenizers

/// Telling texts of some classes apart.
public struct ClassificationTask: Sendable, Codable, Equatable {
  /// The classes' names, in the order of the model's outputs.
  public var labels: [String]
  /// Whether the model's head looks at the first token of a text; else at the last.
  public var atFirst: Bool
  /// The token that a head which looks at the last one looks past: it takes the rightmost other one.
  public var padToken: Int32?

  public init(labels: [String], atFirst: Bool, padToken: Int32? = nil) {
    self.labels = labels
    self.atFirst = atFirst
    self.padToken = padToken
  }

  /// As a model's head looks at texts.
  public init(labels: [String], head: HeadLayout) {
    self.init(labels: labels, atFirst: head.place != .last, padToken: head.padToken)
  }

  /// The classes of some documents, by their field `label`, in order.
  ///
  /// - Throws: `badData` where a document has none, or all have the same.
  public static func labels(of documents: [Document]) throws -> [String] {
    let labels = try ClassLabels.sorted(documents.map(label))
    guard labels.count > 1 else {
      let kind = documents.first?.picture == nil ? "text" : "picture"
      throw PeatError.badData(
        (documents.count == 1
          ? "There is one \(kind), of the class '\(labels.first ?? "")'"
          : "All \(documents.count) \(kind)s are of the class '\(labels.first ?? "")'")
          + ": there is nothing to tell apart.")
    }
    return labels
  }

  private static func label(of document: Document) throws -> String {
    guard let label = document.fields["label"] else {
      throw PeatError.badData(
        "A text has no class: '\(document.text.prefix(40))…'. Classification needs a CSV with the columns text and label, or records {text, label}."
      )
    }
    return label
  }

  /// The number of a document's class.
  ///
  /// - Throws: `badData` where it is none of the task's.
  public func number(of document: Document) throws -> Int32 {
    let label = try Self.label(of: document)
    guard let number = labels.firstIndex(of: label) ?? ClassNames.number(label, in: labels) else {
      throw PeatError.badData(
        "A \(document.picture == nil ? "text" : "picture") is of the class '\(label)', which is none of the task's: "
          + DocumentReader.list(labels)
          + ". Name the data's classes as the model does; or let a new head be drawn for them: --new-head of 'tune', newHead: true in a run file."
      )
    }
    return Int32(number)
  }

  /// The tokens of texts, or of pairs of texts, with what the tokenizer puts around them, as many as fit, each followed by the number of its class. Of a pair that is
  /// too long the longer text is shortened first.
  ///
  /// - Parameter tokenTypes: how many types of tokens the model tells apart; below two the tokenizer's types are left out.
  /// - Throws: `badData` where a document's class is none of the task's, some documents are pairs and others are not, or a token is of a type that the model does not have.
  public func dataset(
    _ documents: [Document], tokenizer: Tokenizer, context: Int, tokenTypes: Int = 0
  ) throws -> TokenDataset {
    let pairs = documents.compactMap(\.pair)
    guard pairs.isEmpty || pairs.count == documents.count else {
      throw PeatError.badData(
        "\(pairs.count) of \(documents.count) records are pairs of texts, the others are single texts. Give pairs or single texts."
      )
    }
    let encodings = try tokenizer.encodeBatch(
      documents.map { $0.pair?.first ?? $0.text },
      pairedWith: pairs.isEmpty ? nil : pairs.map(\.second), addSpecialTokens: true,
      truncation: Truncation(maximumLength: context), padding: nil)
    let sequences = try zip(documents, encodings).map { document, encoding in
      let hasTypes = tokenTypes > 1 && encoding.typeNumbers.contains { $0 != 0 }
      if hasTypes, let type = encoding.typeNumbers.max(), type >= tokenTypes {
        throw PeatError.badData(
          "The tokenizer gives a token the type \(type); the model knows \(tokenTypes). Check that tokenizer.json and config.json come from the same checkpoint."
        )
      }
      return TokenSequence(
        tokens: encoding.numbers + [try number(of: document)],
        isTarget: Array(repeating: false, count: encoding.numbers.count) + [true],
        types: hasTypes ? encoding.typeNumbers + [0] : [])
    }
    var dataset = try TokenDataset(
      sequences, .classes(context: context, atFirst: atFirst, padToken: padToken))
    dataset.shortenedDocuments = encodings.count { !$0.overflowing.isEmpty }
    return dataset
  }
}
