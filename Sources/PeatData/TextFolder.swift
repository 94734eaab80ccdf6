import Foundation
import PeatTensor

/// A folder of texts: its files, and those of the folders in it, each read as it is by itself.
///
///     letters/ann.txt          a document of the group 'ann'
///     letters/bob.jsonl        documents of the group 'bob'
///     reviews/good/1.txt       a document of the group 'good', whose field `label` says so
///
/// Hidden files and deeper folders are left alone. Files stand in the order of their names.
public struct TextFolder: Sendable {
  public struct File: Sendable {
    public let url: URL
    /// Whose it is: the name of the folder that it lies in, or in this one its own without the extension.
    public let group: String
    /// Whether it lies in a folder of the folder, which is then its class.
    public let isOfClass: Bool
  }

  /// At least one.
  public let files: [File]

  /// `nil` for what is no folder.
  ///
  /// - Throws: `inputOutput` where it can't be listed; `badData` where no file is in it.
  public init?(_ url: URL) throws {
    guard url.isFolder else { return nil }
    var files: [File] = []
    for place in try url.folderContents() {
      if place.isFolder {
        let name = place.lastPathComponent
        files += try place.folderContents().filter { !$0.isFolder }
          .map { File(url: $0, group: name, isOfClass: true) }
      } else {
        let name = place.deletingPathExtension().lastPathComponent
        files.append(File(url: place, group: name, isOfClass: false))
      }
    }
    guard !files.isEmpty else {
      throw PeatError.badData(
        "The folder '\(url.path)' holds no texts. Expected files of text, JSON, JSON lines, CSV or TSV in it, one for each client or document, or a folder with such files for each class."
      )
    }
    self.files = files
  }

  /// Whether folders of classes are in it.
  var hasClasses: Bool { files.contains(where: \.isOfClass) }

  /// The documents of all files.
  ///
  /// - Parameter field: a field that is to say whose a document is; `nil`: none.
  func documents(keepsEmpty: Bool, by field: String?) throws -> [Document] {
    try files.flatMap { file in
      try DocumentReader.read(TextFile(file.url), keepsEmpty: keepsEmpty).map { document in
        var document = document
        if file.isOfClass, document.fields["label"] == nil {
          document.fields["label"] = file.group
        }
        if let field { document.fields[field] = file.group }
        return document
      }
    }
  }

  /// Bytes of all files.
  public var byteCount: Int {
    files.reduce(0) { sum, file in
      let place = file.url.resolvingSymlinksInPath().path
      let size = try? FileManager.default.attributesOfItem(atPath: place)[.size] as? Int
      return sum + (size ?? 0)
    }
  }
}
