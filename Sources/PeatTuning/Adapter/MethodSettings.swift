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
    let data = try JSONEncoder().encode(configuration)
    guard case .object(let table) = try JSONDecoder().decode(JSONValue.self, from: data) else {
      return [:]
    }
    // What is not said is as good as null.
    return table.filter { !$0.value.isNull }
  }

  /// Where these settings differ from those of a saved training, in words; `nil` where they do not.
  func difference(from saved: JSONValue) throws -> String? {
    guard case .object(let old) = saved, case .object(let new) = try settings, old != new else {
      return nil
    }
    let keys = Set(old.keys).union(new.keys).sorted().filter { old[$0] != new[$0] }
    func word(_ value: JSONValue?) -> String {
      value.flatMap { try? JSONEncoder().encode($0) }.map { String(decoding: $0, as: UTF8.self) }
        ?? "not given"
    }
    return keys.map { "\($0) was \(word(old[$0])), here it is \(word(new[$0]))" }
      .joined(separator: "; ")
  }
}
