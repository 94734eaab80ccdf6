import Foundation
import PeatTensor

/// A text, or a pair of texts, and the class it belongs to.
public struct LabelledText: Sendable, Equatable {
  public let text: String
  /// The second text of a pair.
  public let second: String?
  public let label: String
  /// What else the record said.
  public internal(set) var fields: [String: String]

  public init(text: String, second: String? = nil, label: String, fields: [String: String] = [:]) {
    self.text = text
    self.second = second
    self.label = label
    self.fields = fields
  }

  static let labelKeys = ["label", "category", "intent", "class"]

  /// The texts as a document with the field `label` and those that the record has beside.
  public var document: Document {
    let fields = fields.merging(["label": label]) { $1 }
    return second.map { Document(TextPair(text, $0), fields: fields) }
      ?? Document(text, fields: fields)
  }

  /// What is no field of its own: a label's place, but where it has another name, which data may be divided by as well.
  private static func labelled<Place>(_ place: Place, as name: String) -> [Place] {
    name == labelKeys[0] ? [place] : []
  }

  /// The keys of a record's texts: of a pair where it has one, else of its text.
  private static func textKeys(
    _ has: (String) -> Bool
  ) -> (first: String, second: String?)? {
    if let pair = TextPair.keys(has) { return (pair.first, pair.second) }
    return DocumentReader.textKeys.first(where: has).map { ($0, nil) }
  }

  /// The labelled texts of a CSV or TSV file with a header (`text,category`, `text,label` or, of pairs, `premise,hypothesis,label`), or of JSON or JSON lines with
  /// such records; or of a folder of such files, in which files of a folder are texts of the class that the folder is called by. What lies beside such folders and is
  /// prose, as a README is, is passed over.
  ///
  /// - Parameter field: a field that is to say which file of a folder a text is from; `nil`: none.
  /// - Throws: as `DocumentReader.read`.
  public static func read(
    _ url: URL, as format: DataFormat? = nil, by field: String? = nil
  ) throws -> [LabelledText] {
    guard let folder = try TextFolder(url) else { return try read(TextFile(url), as: format) }
    return try folder.files.flatMap { file -> [LabelledText] in
      let place = try TextFile(file.url)
      if folder.hasClasses, !file.isOfClass, isProse(place, as: format) { return [] }
      let own = field.map { [$0: file.group] } ?? [:]
      guard file.isOfClass else {
        return try read(place, as: format).map { text in
          var text = text
          text.fields.merge(own) { $1 }
          return text
        }
      }
      return try DocumentReader.read(place, as: format).map { document in
        LabelledText(
          text: document.pair?.first ?? document.text, second: document.pair?.second,
          label: document.fields["label"] ?? file.group,
          fields: document.fields.filter { $0.key != "label" }.merging(own) { $1 })
      }
    }
  }

  package static func read(_ file: TextFile, as format: DataFormat? = nil) throws -> [LabelledText]
  {
    guard !isProse(file, as: format) else {
      throw PeatError.badData(
        """
        '\(file.name)' is plain text, which has no labels. Expected a table whose header names a column 'text' and a column 'label' (or 'category'), \
        JSON or JSON lines of such records, or a folder with a folder of texts for each class.
        """)
    }
    var format = format ?? DataFormat.sniffed(from: file.bytes, fileExtension: file.fileExtension)
    if format == .text { format = .csv }
    let examples =
      format.isTable
      ? try readTable(file, format)
      : try file.mapJSON(format) {
        try example($0, at: "'\(file.name)', line \($1)")
      }.results
    if examples.isEmpty {
      throw PeatError.badData(
        "'\(file.name)' holds no examples. Expected a text and a label for each.")
    }
    return examples
  }

  /// The files beside a folder's folders of classes that are prose, and which `read` passes over.
  public static func filesPassedOver(in url: URL) throws -> [URL] {
    guard let folder = try TextFolder(url), folder.hasClasses else { return [] }
    return try folder.files.filter {
      try !$0.isOfClass && isProse(TextFile($0.url), as: nil)
    }.map(\.url)
  }

  /// Whether a file is neither by its name nor by what it holds records or a table: its first line names no column of texts and none of labels.
  private static func isProse(_ file: TextFile, as format: DataFormat?) -> Bool {
    guard format ?? .sniffed(from: file.bytes, fileExtension: file.fileExtension) == .text,
      let first = file.filledLines.first
    else { return false }
    guard let header = try? CSVReader.rows(of: Array(first.bytes), name: file.name).first else {
      return true
    }
    let names = DataTable.names(of: header)
    return textKeys(names.contains) == nil || !names.contains(where: labelKeys.contains)
  }

  private static func readTable(_ file: TextFile, _ format: DataFormat) throws -> [LabelledText] {
    let table = try DataTable(file, format)
    let (names, header) = (table.names, table.header)
    guard let keys = textKeys(names.contains), let textColumn = names.firstIndex(of: keys.first),
      let labelColumn = names.firstIndex(where: labelKeys.contains)
    else {
      throw PeatError.badData(
        """
        '\(file.name)', line \(header.line): the header names \(DocumentReader.list(header.fields)). \
        Expected a column 'text' and a column 'label' (or 'category'); of pairs \(TextPair.keyNames) in the place of 'text'.
        """)
    }
    let secondColumn = keys.second.flatMap(names.firstIndex)
    let used =
      [textColumn] + (secondColumn.map { [$0] } ?? [])
      + labelled(labelColumn, as: names[labelColumn])
    return table.rows.map { row in
      LabelledText(
        text: row.fields[textColumn], second: secondColumn.map { row.fields[$0] },
        label: row.fields[labelColumn],
        fields: Dictionary(
          names.indices.filter { !used.contains($0) }.map { (names[$0], row.fields[$0]) },
          uniquingKeysWith: { first, _ in first }))
    }
  }

  private static func example(_ value: ParsedJSON, at place: String) throws -> LabelledText {
    guard case .object(let record) = value else {
      throw PeatError.badData("\(place): \(value.kind) is no example. Expected {text, label}.")
    }
    let keys = textKeys { record[$0]?.string != nil }
    guard let keys, let text = record[keys.first]?.string,
      let labelKey = labelKeys.first(where: { record[$0]?.scalarText != nil }),
      let label = record[labelKey]?.scalarText
    else {
      throw PeatError.badData(
        """
        \(place): no labelled text. Found the keys \(DocumentReader.list(record.keys)). \
        Expected {text, label} (or 'category'); of pairs \(TextPair.keyNames) in the place of 'text'.
        """)
    }
    let used = [keys.first] + (keys.second.map { [$0] } ?? []) + labelled(labelKey, as: labelKey)
    return LabelledText(
      text: text, second: keys.second.flatMap { record[$0]?.string }, label: label,
      fields: record.filter { !used.contains($0.key) }.compactMapValues(\.scalarText))
  }
}
