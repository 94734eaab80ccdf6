import Foundation

extension UpdateHeader {
  /// Says what the tensors of an adapter do not tell themselves.
  ///
  /// - Parameter classes: of the head among them.
  public mutating func describe(_ adapter: Adapter, classes: [String]?) {
    self.classes = classes
    method = adapter.method.name
    scales = adapter.method.lora?.scales.resolved(for: adapter.state)
    if case .bottleneck(let bottleneck) = adapter.method {
      activation = bottleneck.activation.rawValue
    }
  }

  /// The same with what older programs left to the adapter's files, where those lie in the update's folder.
  func completed(from folder: URL) throws -> UpdateHeader {
    let file: String
    switch method {
    case LoRA.name where rankStabilized == nil, LoRA.magnitudeName where rankStabilized == nil:
      file = "adapter_config.json"
    case Bottleneck.name where activation == nil: file = "fedpeat.json"
    default: return self
    }
    guard FileManager.default.fileExists(atPath: folder.appendingPathComponent(file).path) else {
      return self
    }
    let (adapter, _) = try AdapterFolder.read(folder)
    guard adapter.method.name == method else {
      throw PeatError.badData(
        "'\(folder.path)' is an update of the method '\(method)' beside an adapter of '\(adapter.method.name)'."
      )
    }
    var result = self
    if case .bottleneck(let bottleneck) = adapter.method {
      result.activation = bottleneck.activation.rawValue
    }
    if let stated = adapter.method.lora, rankStabilized == nil {
      result.rankStabilized = stated.usesRankStabilizedScale
      result.alphaPattern = stated.alphaPattern
    }
    return result
  }
}
