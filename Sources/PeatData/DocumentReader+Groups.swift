import Foundation
import PeatTensor

extension DocumentReader {
  /// The documents of a source in groups by one field, such as the speaker; groups stand in the order of first appearance.
  ///
  /// The source is one of:
  /// - a JSON or JSON lines file whose records carry the field,
  /// - a play script, where the field is `speaker`,
  /// - a folder with one file per group: the file's name without its extension is the group's name.
  ///
  /// - Throws: `PeatError.badData` where the field is missing, naming the fields that are there; and what `read` throws.
  public static func readGrouped(_ url: URL, by field: String) throws -> [DocumentGroup] {
    var isFolder: ObjCBool = false
    let path = url.path(percentEncoded: false)
    if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
      return try readFolder(url, by: field)
    }
    let file = try TextFile(url)
    let format = DataFormat.sniffed(from: file.bytes, fileExtension: file.fileExtension)
    if format == .text {
      let text = file.text
      if field == PlayScriptReader.speakerField, PlayScriptReader.looksLikePlay(text) {
        return try groups(of: PlayScriptReader.turns(of: text), by: field, in: file.name)
      }
      throw PeatError.badData(
        """
        '\(file.name)' is plain text without fields, so it can't be divided by '\(field)'. \
        Give JSON lines with a '\(field)' in each record, a folder with one file per \(field), \
        or a play script ('SPEAKER:', lines, an empty line) with the field 'speaker'.
        """)
    }
    return try groups(of: read(file, as: format), by: field, in: file.name)
  }

  /// Groups documents by a field, in the order in which its values first appear.
  ///
  /// - Parameter source: how messages name where the documents came from.
  /// - Throws: `PeatError.badData` where a document lacks the field.
  public static func groups(
    of documents: [Document], by field: String, in source: String = "the data"
  ) throws -> [DocumentGroup] {
    var groups: [DocumentGroup] = []
    var places: [String: Int] = [:]
    for (number, document) in documents.enumerated() {
      guard let name = document.fields[field] else {
        let known = documents.reduce(into: Set<String>()) { $0.formUnion($1.fields.keys) }
        let tail =
          known.isEmpty ? "No record has any fields." : suggestion(for: field, among: known)
        throw PeatError.badData(
          "\(source): record \(number + 1) has no field '\(field)' to divide the data by. \(tail)")
      }
      if let place = places[name] {
        groups[place].documents.append(document)
      } else {
        places[name] = groups.count
        groups.append(DocumentGroup(name: name, documents: [document]))
      }
    }
    return groups
  }

  private static func readFolder(_ folder: URL, by field: String) throws -> [DocumentGroup] {
    let path = folder.path(percentEncoded: false)
    let files: [URL]
    do {
      files = try FileManager.default.contentsOfDirectory(
        at: folder, includingPropertiesForKeys: [.isRegularFileKey], options: .skipsHiddenFiles
      )
      .filter { !$0.hasDirectoryPath }
      .sorted { $0.lastPathComponent < $1.lastPathComponent }
    } catch {
      throw PeatError.inputOutput("The folder '\(path)' can't be listed.", cause: error)
    }
    if files.isEmpty {
      throw PeatError.badData(
        "The folder '\(path)' holds no files. Expected one file per \(field).")
    }
    return try files.map { file in
      let name = file.deletingPathExtension().lastPathComponent
      let documents = try read(file).map { document in
        var document = document
        document.fields[field] = name
        return document
      }
      return DocumentGroup(name: name, documents: documents)
    }
  }
}
