import Foundation
import PeatTensor

/// A text and the class it belongs to.
public struct LabelledText: Sendable, Equatable {
  public let text: String
  public let label: String

  public init(text: String, label: String) {
    self.text = text
    self.label = label
  }

  static let labelKeys = ["label", "category", "intent", "class"]

  /// The text as a document with the field `label`.
  public var document: Document { Document(text, fields: ["label": label]) }

  /// The labelled texts of a CSV or TSV file with a header (`text,category` or `text,label`), or of JSON or JSON lines with
  /// records `{text, label}`.
  ///
  /// - Throws: as `DocumentReader.read`.
  public static func read(_ url: URL, as format: DataFormat? = nil) throws -> [LabelledText] {
    try read(TextFile(url), as: format)
  }

  package static func read(_ file: TextFile, as format: DataFormat? = nil) throws -> [LabelledText]
  {
    var format = format ?? DataFormat.sniffed(from: file.bytes, fileExtension: file.fileExtension)
    if format == .text { format = .csv }
    let examples =
      format.isTable
      ? try readTable(file, format)
      : try file.jsonValues(format).map {
        try example($0.value, at: "'\(file.name)', line \($0.line)")
      }
    if examples.isEmpty {
      throw PeatError.badData(
        "'\(file.name)' holds no examples. Expected a text and a label for each.")
    }
    return examples
  }

  private static func readTable(_ file: TextFile, _ format: DataFormat) throws -> [LabelledText] {
    let table = try DataTable(file, format)
    let (names, header) = (table.names, table.header)
    guard let textColumn = names.firstIndex(where: DocumentReader.textKeys.contains),
      let labelColumn = names.firstIndex(where: labelKeys.contains)
    else {
      throw PeatError.badData(
        """
        '\(file.name)', line \(header.line): the header names \(DocumentReader.list(header.fields)). \
        Expected a column 'text' and a column 'label' (or 'category').
        """)
    }
    return table.rows.map {
      LabelledText(text: $0.fields[textColumn], label: $0.fields[labelColumn])
    }
  }

  private static func example(_ value: ParsedJSON, at place: String) throws -> LabelledText {
    guard case .object(let record) = value else {
      throw PeatError.badData("\(place): \(value.kind) is no example. Expected {text, label}.")
    }
    guard let text = DocumentReader.textKeys.compactMap({ record[$0]?.string }).first,
      let label = labelKeys.compactMap({ record[$0]?.scalarText }).first
    else {
      throw PeatError.badData(
        """
        \(place): no labelled text. Found the keys \(DocumentReader.list(record.keys)). \
        Expected {text, label} (or 'category').
        """)
    }
    return LabelledText(text: text, label: label)
  }
}
