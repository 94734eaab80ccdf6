import PeatTensor
import PeatTokenizers

/// Telling texts of some classes apart.
public struct ClassificationTask: Sendable, Codable, Equatable {
  /// The classes' names, in the order of the model's outputs.
  public var labels: [String]
  /// Whether the model's head looks at the first token of a text; else at the last.
  public var atFirst: Bool

  public init(labels: [String], atFirst: Bool) {
    self.labels = labels
    self.atFirst = atFirst
  }

  /// The classes of some documents, by their field `label`, in order.
  ///
  /// - Throws: `badData` where a document has none, or all have the same.
  public static func labels(of documents: [Document]) throws -> [String] {
    let labels = try Set(documents.map(label)).sorted()
    guard labels.count > 1 else {
      throw PeatError.badData(
        "All \(documents.count) texts are of the class '\(labels.first ?? "")': there is nothing to tell apart."
      )
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

  /// The tokens of texts with what the tokenizer puts around them, as many as fit, each followed by the number of its class.
  ///
  /// - Throws: `badData` where a document's class is none of the task's.
  public func dataset(
    _ documents: [Document], tokenizer: Tokenizer, context: Int
  ) throws -> TokenDataset {
    let numbers = Dictionary(
      uniqueKeysWithValues: labels.enumerated().map { ($1, Int32($0)) })
    let encodings = try tokenizer.encodeBatch(
      documents.map(\.text), addSpecialTokens: true,
      truncation: Truncation(maximumLength: context), padding: nil)
    let sequences = try zip(documents, encodings).map { document, encoding in
      let label = try Self.label(of: document)
      guard let number = numbers[label] else {
        throw PeatError.badData(
          "A text is of the class '\(label)', which is none of the task's: "
            + DocumentReader.list(labels) + ".")
      }
      return TokenSequence(
        tokens: encoding.numbers + [number],
        isTarget: Array(repeating: false, count: encoding.numbers.count) + [true])
    }
    return try TokenDataset(sequences, .classes(context: context, atFirst: atFirst))
  }
}
