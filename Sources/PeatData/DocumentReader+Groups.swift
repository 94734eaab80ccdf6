import Foundation
import PeatTensor

extension DocumentReader {
  /// The documents of a source in groups by one field, such as the speaker; groups stand in the order of first appearance.
  ///
  /// The source is one of:
  /// - a JSON or JSON lines file or a table whose records carry the field,
  /// - a play script, where the field is `speaker`,
  /// - a folder with a file, or a folder of files, per group (`TextFolder`).
  ///
  /// - Throws: `PeatError.badData` where the field is missing, naming the fields that are there; and what `read` throws.
  public static func readGrouped(_ url: URL, by field: String) throws -> [DocumentGroup] {
    try groups(of: read(url, by: field), by: field, in: "'\(url.path(percentEncoded: false))'")
  }

  /// Groups documents by a field, in the order in which its values first appear.
  ///
  /// - Parameter source: how messages name where the documents came from.
  /// - Throws: `PeatError.badData` where a document lacks the field.
  public static func groups(
    of documents: [Document], by field: String, in source: String = "the data"
  ) throws -> [DocumentGroup] {
    try numbers(of: documents, by: field, in: source).map { name, numbers in
      DocumentGroup(name: name, documents: numbers.map { documents[$0] })
    }
  }

  /// The same as the documents' numbers, from 0.
  public static func numbers(
    of documents: [Document], by field: String, in source: String = "the data"
  ) throws -> [(name: String, numbers: [Int])] {
    var groups: [(name: String, numbers: [Int])] = []
    var places: [String: Int] = [:]
    for (number, document) in documents.enumerated() {
      guard let name = document.fields[field] else {
        try checkHasFields(documents, field, source)
        let known = documents.reduce(into: Set<String>()) { $0.formUnion($1.fields.keys) }
        let tail =
          known.isEmpty ? "No record has any fields." : suggestion(for: field, among: known)
        throw PeatError.badData(
          "\(source): record \(number + 1) has no field '\(field)' to divide the data by. \(tail)")
      }
      if let place = places[name] {
        groups[place].numbers.append(number)
      } else {
        places[name] = groups.count
        groups.append((name, [number]))
      }
    }
    return groups
  }

  /// Throws where there is one text without any fields: what it could be instead.
  private static func checkHasFields(
    _ documents: [Document], _ field: String, _ source: String
  ) throws {
    guard documents.count == 1, let text = documents.first, text.isPlainText else { return }
    throw PeatError.badData(
      """
      \(source) is plain text without fields, so it can't be divided by '\(field)'. \
      Give JSON lines with a '\(field)' in each record, a folder with one file per \(field), \
      or a play script ('SPEAKER:', lines, an empty line) with the field 'speaker'.
      """)
  }
}
