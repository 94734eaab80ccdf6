import PeatTensor

/// A table with a header: each row as a record, as a JSON object would be.
struct DataTable {
  /// Columns, in lower case and without spaces.
  let names: [String]
  let header: CSVReader.Row
  let rows: [CSVReader.Row]

  init(_ file: TextFile, _ format: DataFormat) throws {
    let all =
      format == .tsv
      ? TSVReader.rows(of: file) : try CSVReader.rows(of: file.bytes, name: file.name)
    guard let header = all.first else {
      throw PeatError.badData("'\(file.name)' holds no header line. Expected 'text,label'.")
    }
    self.header = header
    let names = Self.names(of: header)
    self.names = names
    let twice = Dictionary(grouping: names) { $0 }.filter { $0.value.count > 1 && !$0.key.isEmpty }
    if let name = twice.keys.min() {
      throw PeatError.badData(
        "'\(file.name)', line \(header.line): \(twice[name]?.count ?? 2) columns are called '\(name)'. Give each a name of its own, or leave out those that are not needed."
      )
    }
    rows = Array(all.dropFirst())
    for row in rows where row.fields.count != names.count {
      throw PeatError.badData(
        """
        '\(file.name)', line \(row.line): \(row.fields.count) fields, the header has \(names.count). \
        \(format == .tsv ? "A text with a tab in it can't stand in this format." : "A text with a comma in it stands in quotes.")
        """)
    }
  }

  static func names(of header: CSVReader.Row) -> [String] {
    header.fields.map { $0.lowercased().filter { !$0.isWhitespace } }
  }

  /// A row as a record. A class column is also called `label`, whatever its name.
  func record(_ row: CSVReader.Row) -> [String: ParsedJSON] {
    var record = Dictionary(
      zip(names, row.fields.map(ParsedJSON.string)), uniquingKeysWith: { first, _ in first })
    if record["label"] == nil, let key = LabelledText.labelKeys.first(where: { record[$0] != nil })
    {
      record["label"] = record[key]
    }
    return record
  }
}
