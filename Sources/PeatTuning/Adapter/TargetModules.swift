import PeatModels
import PeatTensor

/// The linear layers of a block that a method is for: by the end of their names, `q_proj` or `mlp.c_proj`, or all.
struct TargetModules {
  private let names: [String]?

  /// - Parameter names: `nil` and `all-linear` mean all.
  /// - Throws: `usage` for a name that no layer of this architecture has.
  init(_ names: [String]?, of keys: TransformerKeys) throws {
    self.names = names == ["all-linear"] ? nil : names
    let known = keys.linearNames + keys.allLinearPaths.filter { !keys.linearNames.contains($0) }
    for name in self.names ?? [] where !known.contains(name) {
      guard name != "all-linear" else {
        throw PeatError.usage(
          "The target module all-linear means all and stands alone; beside it are "
            + "\((self.names ?? []).filter { $0 != name }.joined(separator: ", ")).")
      }
      throw PeatError.usage(
        "Unknown target module '\(name)'. " + suggestion(for: name, among: known + ["all-linear"]))
    }
  }

  func contain(_ layer: String) -> Bool {
    guard let names else { return true }
    return names.contains { layer == $0 || layer.hasSuffix(".\($0)") }
  }
}

extension Adapter.Method {
  /// Throws `usage` where the method names layers that an architecture has not.
  package func checkTargets(of keys: TransformerKeys) throws {
    switch self {
    case .lora(let lora): _ = try TargetModules(lora.targetModules, of: keys)
    case .ia3(let ia3):
      _ = try ia3.targets(of: keys)
      _ = try ia3.feedForward(of: keys)
    case .endBlocks, .prefixTuning, .promptTuning, .bottleneck, .normTuning, .bitFit: return
    }
  }
}
