import Foundation
import PeatTensor

/// A golden file: tensors, and the JSON with their facts beside them.
public struct GoldenCase {
  public let name: String
  public let tensors: NamedTensors
  private let facts: [String: Any]

  /// - Parameters:
  ///   - name: the file's name without its ending.
  ///   - folder: the folder under Tests/ParityTests/Golden.
  public init(_ name: String, in folder: String = "operations") throws {
    self.name = name
    let place = ProjectFolders.golden.appendingPathComponent(folder)
    tensors = try SafeTensorsFile(
      contentsOf: place.appendingPathComponent(name + ".safetensors")
    ).tensors()
    let data = try Data(contentsOf: place.appendingPathComponent(name + ".json"))
    facts = try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
  }

  public func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else {
      throw PeatError.badData("The golden case '\(self.name)' has no tensor '\(name)'.")
    }
    return tensor
  }

  /// A fact of the JSON, such as `fact("epsilon", as: Double.self)`.
  public func fact<Value>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
    guard let value = facts[name] as? Value else {
      throw PeatError.badData("The golden case '\(self.name)' has no \(type) '\(name)'.")
    }
    return value
  }
}
