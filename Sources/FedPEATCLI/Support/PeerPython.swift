import FedPEAT
import Foundation

/// Python with the libraries that we are compared with: the script `python` of a folder.
struct PeerPython {
  let executable: URL

  /// - Throws: `inputOutput` where the folder has no such script.
  init(folder: URL) throws {
    executable = folder.appendingPathComponent("python")
    guard FileManager.default.fileExists(atPath: executable.path) else {
      throw PeatError.inputOutput(
        "There is no '\(executable.path)'; --peer names the folder of the peer scripts.")
    }
  }

  /// The words that it prints.
  func run(_ arguments: [String]) throws -> [Substring] {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    do { try process.run() } catch {
      throw PeatError.unavailable(
        "Can't run '\(executable.path)': \(error.localizedDescription)", cause: error)
    }
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    try checkInterruption()
    guard process.terminationStatus == 0 else { throw noFigures }
    return String(decoding: data, as: UTF8.self).split(whereSeparator: \.isWhitespace)
  }

  var noFigures: PeatError {
    PeatError.unavailable(
      "The peer script ended without figures; are PyTorch, transformers and PEFT installed for '\(executable.path)'?"
    )
  }
}
