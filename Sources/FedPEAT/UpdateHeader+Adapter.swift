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
    let isOld = (rank != nil && rankStabilized == nil) || activation == nil
    guard isOld, [LoRA.name, LoRA.magnitudeName, Bottleneck.name].contains(method),
      ["adapter_config.json", "fedpeat.json"].contains(where: {
        FileManager.default.fileExists(atPath: folder.appendingPathComponent($0).path)
      })
    else { return self }
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
