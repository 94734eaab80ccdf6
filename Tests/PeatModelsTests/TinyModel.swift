import Foundation
import PeatModels
import PeatTensor
import TestSupport

/// Small models to take apart: the golden checkpoints, and folders written from them with something changed.
enum TinyModel {
  static func folder(_ name: String) -> URL {
    ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)")
  }

  static func checkpoint(_ name: String) throws -> Checkpoint {
    try Checkpoint(folder: folder(name))
  }

  /// config.json of a golden checkpoint with some keys changed; `nil` takes a key out.
  static func configuration(_ name: String, _ changes: [String: JSONValue?] = [:]) throws
    -> JSONValue
  {
    guard case .object(var table) = try checkpoint(name).configurationJSON else {
      throw PeatError.badData("the configuration of '\(name)' is no object")
    }
    for (key, value) in changes { table[key] = value }
    return .object(table)
  }

  /// Writes a folder with these files.
  static func write(
    _ folder: URL, configuration: JSONValue, tensors: NamedTensors
  ) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try JSONFile.write(configuration, to: folder.appendingPathComponent("config.json"))
    try SafeTensors.write(tensors, to: folder.appendingPathComponent("model.safetensors"))
  }

  /// The error of making a model from a golden checkpoint with its files changed.
  static func error(
    _ name: String = "llama-tiny", configuration changes: [String: JSONValue?] = [:],
    tensors change: (inout NamedTensors) -> Void = { _ in }
  ) throws -> PeatError? {
    try withTemporaryFolder { folder in
      var tensors = try checkpoint(name).tensors()
      change(&tensors)
      try write(folder, configuration: configuration(name, changes), tensors: tensors)
      do {
        _ = try Checkpoint(folder: folder).model()
        return nil
      } catch let error as PeatError { return error }
    }
  }
}

let someTokens: [Int32] = [1, 5, 90, 33, 0, 96, 7, 7, 12]
