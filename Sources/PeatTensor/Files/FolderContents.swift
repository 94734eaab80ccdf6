import Foundation

extension URL {
  /// Whether a folder is there.
  package var isFolder: Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
      && isFolder.boolValue
  }

  /// What a folder holds, by name, hidden things left out.
  ///
  /// - Throws: `inputOutput` where it can't be listed.
  package func folderContents() throws -> [URL] {
    do {
      return try FileManager.default.contentsOfDirectory(
        at: self, includingPropertiesForKeys: nil, options: .skipsHiddenFiles
      ).sorted { $0.lastPathComponent < $1.lastPathComponent }
    } catch {
      throw PeatError.inputOutput(
        "The folder '\(path)' can't be listed: \(error.localizedDescription) Check that you have the right to read it.",
        cause: error)
    }
  }
}
