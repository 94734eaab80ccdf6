import Foundation
import PeatData
import PeatTensor

/// Pictures, each of a class.
///
/// Pictures in a folder are decoded when they are asked for; those of an idx file are in memory.
public struct LabelledImages: Sendable {
  private enum Source: Sendable {
    case files([URL])
    case pixels([UInt8], width: Int, height: Int)
  }

  /// The classes' names.
  public let classes: [String]
  /// For each picture the number of its class.
  public let labels: [Int]
  private let source: Source

  /// A folder with a folder for each class, `class/NAME.png` or `.jpg`; classes and pictures in alphabetical order.
  ///
  /// - Throws: `inputOutput` where the folder is missing; `badData` where there is no picture in it, or none in one of its folders: that class would be missing
  ///   without a word.
  public init(folder: URL) throws {
    let found = try PictureFolder(folder)
    guard !found.classes.isEmpty else {
      throw PeatError.badData(
        "'\(folder.path)' has no pictures. Expected a folder for each class with .png or .jpg files in it."
      )
    }
    if let stranger = found.strangers.first {
      let contents = stranger.contents.first.map {
        "holds '\($0)'\(stranger.contents.count > 1 ? " and \(stranger.contents.count - 1) more" : "") and no picture that can be read"
      }
      throw PeatError.badData(
        "'\(folder.path)/\(stranger.name)' \(contents ?? "is empty"), so the class '\(stranger.name)' would have no picture. Pictures are .png and .jpg files: convert what is there, or take the folder away."
      )
    }
    classes = found.classes.map(\.name)
    labels = found.classes.enumerated().flatMap { number, one in one.pictures.map { _ in number } }
    source = .files(found.classes.flatMap(\.pictures))
  }

  /// Files of a folder of classes that are no pictures by their names and are left out, as paths in the folder; none of what is no folder.
  public static func filesLeftOut(of url: URL) throws -> [String] {
    url.isFolder ? try PictureFolder(url).others : []
  }

  /// Pictures and labels as MNIST has them: `[N, height, width]` and `[N]`, both of 8 bits.
  ///
  /// - Throws: `badData` where the two do not belong together.
  public init(images: URL, labels labelFile: URL) throws {
    let pixels = try IdxFile(contentsOf: images)
    let numbers = try IdxFile(contentsOf: labelFile)
    guard pixels.kind == .uint8, pixels.shape.count == 3, pixels.shape.allSatisfy({ $0 > 0 }),
      pixels.shape[1] * pixels.shape[2] <= PixelImage.pixelLimit
    else {
      throw PeatError.badData(
        "'\(images.path)' holds \(pixels.shape) of \(pixels.kind); pictures are [N, height, width] of uint8."
      )
    }
    guard numbers.kind == .uint8, numbers.shape == [pixels.shape[0]] else {
      throw PeatError.badData(
        "'\(labelFile.path)' holds \(numbers.shape) of \(numbers.kind); expected \(pixels.shape[0]) labels of uint8, one for each picture of '\(images.path)'."
      )
    }
    labels = numbers.bytes.map { Int($0) }
    classes = (0...(labels.max() ?? 0)).map(String.init)
    source = .pixels(pixels.bytes, width: pixels.shape[2], height: pixels.shape[1])
  }

  /// Whether a folder has folders with pictures in it, as one of classes has.
  public static func hasPictures(_ folder: URL) -> Bool {
    func contents(_ url: URL) -> [URL] {
      (try? FileManager.default.contentsOfDirectory(
        at: url, includingPropertiesForKeys: nil, options: .skipsHiddenFiles)) ?? []
    }
    return contents(folder).contains { place in
      contents(place).contains { ImageFile.extensions.contains($0.pathExtension.lowercased()) }
    }
  }

  public var count: Int { labels.count }

  /// - Throws: what `ImageFile.read` throws.
  /// - Precondition: there is a picture with that number.
  public func image(_ number: Int) throws -> PixelImage {
    switch source {
    case .files(let files): return try ImageFile.read(files[number])
    case .pixels(let bytes, let width, let height):
      let area = width * height
      return PixelImage(
        width: width, height: height, channels: 1,
        bytes: Array(bytes[(number * area)..<((number + 1) * area)]))
    }
  }

  /// A document without text for each picture, with the field `label`: what partitioners divide.
  public var documents: [Document] {
    labels.map { Document("", fields: ["label": classes[$0]]) }
  }

  /// All pictures, each as a document with its class in the field `label`.
  public func pictures() throws -> [Document] {
    try documents.enumerated().map { number, document in
      var document = document
      document.picture = try image(number)
      return document
    }
  }

  /// The pictures of a folder of classes, or of an idx file: labels lie beside it, under the same name with `labels` and `idx1` in it, as MNIST is published.
  public init(_ url: URL) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("There is no folder or file '\(url.path)'.")
    }
    if isFolder.boolValue {
      try self.init(folder: url)
      return
    }
    let name = url.lastPathComponent.replacingOccurrences(of: "images", with: "labels")
      .replacingOccurrences(of: "idx3", with: "idx1")
    guard name != url.lastPathComponent else {
      throw PeatError.badData(
        "'\(url.path)' is neither a folder of classes nor an idx file of pictures, whose name has 'images' in it, with its labels beside it."
      )
    }
    try self.init(images: url, labels: url.deletingLastPathComponent().appendingPathComponent(name))
  }
}
