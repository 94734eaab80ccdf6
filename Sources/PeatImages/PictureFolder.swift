import Foundation
import PeatTensor

/// What lies in a folder of pictures, `class/NAME.png` or `.jpg`, in alphabetical order. Hidden files are left alone.
struct PictureFolder {
  /// Folders with pictures in them.
  private(set) var classes: [(name: String, pictures: [URL])] = []
  /// Folders without, and what they hold in place of pictures.
  private(set) var strangers: [(name: String, contents: [String])] = []
  /// What is no picture by its name, as paths in the folder: beside pictures, and beside the folders of classes.
  private(set) var others: [String] = []

  /// - Throws: `inputOutput` where the folder can't be listed.
  init(_ folder: URL) throws {
    for place in try folder.folderContents() {
      let name = place.lastPathComponent
      // What some programs leave in archives holds shadows of the files beside it.
      guard place.isFolder, name != "__MACOSX" else {
        others.append(name)
        continue
      }
      let contents = try place.folderContents()
      let pictures = contents.filter(Self.isPicture)
      let rest = contents.filter { !Self.isPicture($0) }.map(\.lastPathComponent)
      if pictures.isEmpty {
        strangers.append((name, rest))
      } else {
        classes.append((name, pictures))
        others += rest.map { "\(name)/\($0)" }
      }
    }
  }

  private static func isPicture(_ url: URL) -> Bool {
    ImageFile.extensions.contains(url.pathExtension.lowercased()) && !url.isFolder
  }
}
