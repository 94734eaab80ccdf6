import Foundation
import PeatTensor

extension ControllerFile {
  /// Opens a file that is to be a controller; with it the facts, as they stand in its metadata.
  ///
  /// - Throws: `inputOutput` where it can't be read; `badData`, with what it looks like and how to make one, where it is no controller.
  static func open(_ url: URL) throws -> (file: SafeTensorsFile, facts: String) {
    let howTo =
      "Make a controller with 'fedpeat train-controller --environment FILE --out controller.safetensors'."
    let file: SafeTensorsFile
    do { file = try SafeTensorsFile(contentsOf: url) } catch let error as PeatError
      where error.code == .badData
    {
      guard let beginning = beginningOfText(url) else {
        throw PeatError.badData(
          "'\(url.relativePath)' can't be read as a controller. \(error.message) Is it cut short? \(howTo)",
          cause: error)
      }
      throw PeatError.badData(
        "'\(url.relativePath)' is no controller, but \(kind(ofText: beginning)) \(howTo)",
        cause: error)
    }
    if let text = file.metadata[key] { return (file, text) }
    if file.metadata[ControllerCheckpoint.key] != nil {
      throw PeatError.badData(
        "'\(url.relativePath)' is no controller yet, but the state of a training that was interrupted. Finish it: the same 'fedpeat train-controller' command with --resume."
      )
    }
    throw PeatError.badData(
      "'\(url.relativePath)' is no controller: its metadata has no '\(key)'. It holds other tensors, such as a model's or an adapter's. \(howTo)"
    )
  }

  /// The beginning of a file that holds text; `nil` where it holds something else.
  private static func beginningOfText(_ url: URL) -> String? {
    guard let handle = try? FileHandle(forReadingFrom: url) else { return nil }
    defer { try? handle.close() }
    guard let bytes = try? handle.read(upToCount: 1 << 16), !bytes.isEmpty,
      bytes.allSatisfy({ $0 >= 0x20 || [0x09, 0x0A, 0x0D].contains($0) })
    else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// What a text looks like, with where it belongs.
  private static func kind(ofText text: String) -> String {
    let keys = Set(text.split(separator: "\n").map { $0.prefix { $0 != ":" } })
    if !keys.isDisjoint(with: ["radio", "classes", "levels", "learning"]) {
      return
        "what looks like an edge file. That is named with --edge in a run, and with --environment where a controller is trained."
    }
    if keys.contains("model") || keys.contains("emulators") {
      return "what looks like a run file. That is named without 'learned:'."
    }
    return "a text."
  }
}
