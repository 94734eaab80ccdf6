import Foundation
import PeatTensor

/// A file in pieces, one after the other.
final class PieceReader {
  private let handle: FileHandle
  /// How messages name the file.
  let name: String
  private let pieceBytes: Int

  /// - Throws: `inputOutput` where the file is missing, a folder or not readable.
  init(_ url: URL, pieceBytes: Int = 1 << 20) throws {
    name = url.path(percentEncoded: false)
    self.pieceBytes = pieceBytes
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: name, isDirectory: &isFolder), !isFolder.boolValue
    else {
      throw PeatError.inputOutput(
        isFolder.boolValue
          ? "'\(name)' is a folder, a data file is expected." : "'\(name)' does not exist.")
    }
    do { handle = try FileHandle(forReadingFrom: url) } catch {
      throw PeatError.inputOutput(
        "'\(name)' can't be read. Check that you have the right to read it.", cause: error)
    }
  }

  deinit { try? handle.close() }

  /// The next piece; empty at the end.
  func next() throws -> [UInt8] {
    do { return [UInt8](try handle.read(upToCount: pieceBytes) ?? Data()) } catch {
      throw PeatError.inputOutput(
        "'\(name)' can't be read on: \(error.localizedDescription)", cause: error)
    }
  }
}
