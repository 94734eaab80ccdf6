import PeatModels
import PeatTensor

/// The linear layers that a method is for: by the end of their names (`q_proj`, `mlp.c_proj`, `layers.0.mlp.up_proj`), by a regular expression of such an
/// end, or all; without those that are excluded in the same words.
struct TargetModules {
  private let names: [String]?
  private let excluded: [String]

  /// - Parameters:
  ///   - names: `nil` and `all-linear` mean all.
  ///   - excluded: those of them that are left out.
  /// - Throws: `usage` for a name that no layer of this architecture has, and for a regular expression that can't be read.
  init(_ names: [String]?, without excluded: [String]? = nil, of keys: TransformerKeys) throws {
    self.names = names == ["all-linear"] ? nil : names
    self.excluded = excluded ?? []
    let known = keys.linearNames + keys.allLinearPaths.filter { !keys.linearNames.contains($0) }
    for name in self.names ?? [] {
      guard name != "all-linear" else {
        throw PeatError.usage(
          "The target module all-linear means all and stands alone; beside it are "
            + "\((self.names ?? []).filter { $0 != name }.joined(separator: ", ")).")
      }
      try Self.check(name, "target", among: known, special: ["all-linear"])
    }
    for name in self.excluded { try Self.check(name, "excluded", among: known, special: []) }
  }

  private static func check(
    _ name: String, _ role: String, among known: [String], special: [String]
  ) throws {
    if isPattern(name) { return try LayerPattern.check(name, of: "The list of \(role) modules") }
    guard known.contains(name) else {
      throw PeatError.usage(
        "Unknown \(role) module '\(name)'. " + suggestion(for: name, among: known + special))
    }
  }

  /// Whether a name means layers by more than what is alike in all blocks: a regular expression, or with a block's number.
  private static func isPattern(_ name: String) -> Bool {
    !LayerPattern.isPlainName(name) || name.split(separator: ".").contains { Int($0) != nil }
  }

  /// Whether a layer is meant.
  ///
  /// - Parameters:
  ///   - path: its name in its block.
  ///   - name: its whole name in the full model; where it is `nil`, what only that can tell counts as meant.
  func contain(_ path: String, _ name: String? = nil) -> Bool {
    func means(_ entry: String, unknown: Bool) -> Bool {
      if !Self.isPattern(entry) { return LayerPattern.isEnd(entry, of: path) }
      guard let name else { return unknown }
      return LayerPattern.matches(entry, name)
        || LayerPattern.matches(entry, ModuleNames.inModules(name))
    }
    guard !excluded.contains(where: { means($0, unknown: false) }) else { return false }
    return names?.contains { means($0, unknown: true) } ?? true
  }

  /// Throws `usage` where a regular expression means none of the layers, or nothing is left of them.
  ///
  /// - Parameter layers: paths in their blocks and whole names of all linear layers in the blocks that an adapter may sit in.
  func check(against layers: [(path: String, name: String)]) throws {
    let there = Set(layers.map(\.path)).sorted().joined(separator: ", ")
    for entry in (names ?? []) + excluded where Self.isPattern(entry) {
      guard
        !layers.contains(where: {
          LayerPattern.matches(entry, $0.name)
            || LayerPattern.matches(entry, ModuleNames.inModules($0.name))
        })
      else { continue }
      throw PeatError.usage(
        "No linear layer of the blocks that get an adapter is meant by '\(entry)'. There are: \(there), in whole names such as '\(layers.first?.name ?? "")'."
      )
    }
    if !excluded.isEmpty, !layers.contains(where: { contain($0.path, $0.name) }) {
      throw PeatError.usage(
        "No target module is left without \(excluded.joined(separator: ", ")). There are: \(there)."
      )
    }
  }
}

extension Adapter.Method {
  /// Throws `usage` where the method names layers that an architecture has not.
  package func checkTargets(of keys: TransformerKeys) throws {
    switch self {
    case .lora(let lora): _ = try lora.targets(of: keys)
    case .ia3(let ia3):
      _ = try ia3.targets(of: keys)
      _ = try ia3.feedForward(of: keys)
    case .endBlocks, .prefixTuning, .promptTuning, .bottleneck, .normTuning, .bitFit: return
    }
  }
}
