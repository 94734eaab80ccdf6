import Foundation
import PeatTensor

extension ClientUpdate {
  public static let tensorsFile = "update.safetensors"
  public static let headerFile = "update.json"

  private static func isOurs(_ name: String) -> Bool { [tensorsFile, headerFile].contains(name) }

  /// Writes `update.safetensors` and `update.json` into a folder, whole or not at all.
  public func write(to folder: URL) throws {
    let header = try header.json()
    try AtomicOutput.folder(at: folder, replacing: Self.isOurs) { folder in
      try SafeTensors.write(tensors, to: folder.appendingPathComponent(Self.tensorsFile))
      try AtomicOutput.write(header, to: folder.appendingPathComponent(Self.headerFile))
    }
  }

  /// Reads the folder that `write(to:)` made.
  ///
  /// The tensors stay in their file, mapped, until they are used.
  public init(contentsOf folder: URL) throws {
    let json = folder.appendingPathComponent(Self.headerFile)
    let data: Data
    do { data = try JSONFile.bytes(of: json) } catch let error as PeatError {
      throw PeatError(
        error.code,
        "\(error.message) An update is a folder with \(Self.headerFile) and \(Self.tensorsFile).",
        cause: error)
    }
    let tensors = folder.appendingPathComponent(Self.tensorsFile)
    self.init(
      header: try UpdateHeader(json: data, from: json.path),
      tensors: try SafeTensorsFile(contentsOf: tensors).tensors())
  }
}

extension UpdateHeader {
  /// The document as JSON, keys sorted.
  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    do { return try encoder.encode(self) } catch {
      throw PeatError.badData(
        "An update's metrics and telemetry must be finite numbers: \(describe(error)).",
        cause: error)
    }
  }

  /// Reads the document; `name` says in errors where it came from.
  public init(json: Data, from name: String) throws {
    self = try JSONFile.decode(UpdateHeader.self, from: json, name: name)
    guard formatVersion == Self.currentFormat else {
      throw PeatError.badData(
        "'\(name)' has formatVersion \(formatVersion); this program reads \(Self.currentFormat). "
          + "Use the same version of the program on both sides.")
    }
    guard round >= 0 else {
      throw PeatError.badData("'\(name)' has the round \(round); rounds are 0 (of no run) or more.")
    }
  }
}
