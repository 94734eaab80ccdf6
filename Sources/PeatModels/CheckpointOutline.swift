import Foundation
import PeatTensor

/// What a model folder says of itself without its weights: config.json and, of an emulator, emulator.json. It is enough to know what tuning will take.
public struct CheckpointOutline: Sendable {
  public let configuration: TransformerConfiguration
  /// The matrices that stay packed in memory, by name.
  public let packedStorages: [String: WeightStorage]

  /// Throws where the files are missing or say what can't be.
  public init(folder: URL) throws {
    let file = folder.appendingPathComponent("config.json")
    var configuration = try Architectures.configuration(
      from: ConfigurationFile(
        name: file.path, json: try JSONFile.read(JSONValue.self, from: file)))
    let emulator = folder.appendingPathComponent("emulator.json")
    var json: JSONValue?
    if FileManager.default.fileExists(atPath: emulator.path) {
      json = try JSONFile.read(JSONValue.self, from: emulator)
      try JSONFile.read(Checkpoint.EmulatorVariation.self, from: emulator)
        .apply(to: &configuration, from: emulator)
    }
    self.configuration = configuration
    packedStorages = Checkpoint.packedStorages(of: json)
  }
}
