import Foundation
import PeatTensor

extension Adapter.Method {
  /// The method with all its options, as a saved training has it.
  var settings: JSONValue {
    get throws {
      var table: [String: JSONValue] = [:]
      switch self {
      case .lora(let lora): table = try Self.table(of: lora)
      case .ia3(let ia3): table = try Self.table(of: ia3)
      case .prefixTuning(let tokens), .promptTuning(let tokens):
        table = try Self.table(of: tokens)
      case .bottleneck(let bottleneck): table = try Self.table(of: bottleneck)
      case .endBlocks, .normTuning, .bitFit: break
      }
      table["method"] = .string(name)
      return .object(table)
    }
  }

  private static func table(of configuration: some Encodable) throws -> [String: JSONValue] {
    guard case .object(let table) = try JSONValue(encoding: configuration) else {
      return [:]
    }
    // What is not said is as good as null.
    return table.filter { !$0.value.isNull }
  }

  /// Where these settings differ from those of a saved training, in words; `nil` where they do not.
  func difference(from saved: JSONValue) throws -> String? {
    let differences = try settings.differences(from: saved)
    return differences.isEmpty ? nil : differences.joined(separator: "; ")
  }
}
