import PeatModels
import PeatTensor

/// The linear layers that a method is for: by the end of their names (`q_proj`, `mlp.c_proj`, `layers.0.mlp.up_proj`), by a regular expression of the whole
/// name, as PEFT reads one, or all; without those that are excluded in the same words. Where PEFT's modules have other names than the checkpoint's, both do.
struct TargetModules {
  /// What one word means.
  private enum Entry {
    /// In all blocks alike.
    case end(String)
    /// With a block's number.
    case place(String)
    case expression(LayerExpression)
  }

  private let targets: [(text: String, entry: Entry)]?
  private let excluded: [(text: String, entry: Entry)]
  /// Names within a block, as checkpoints and as PEFT's modules have them.
  private let spellings: [String: [String]]

  /// - Parameters:
  ///   - names: `nil` and `all-linear` mean all.
  ///   - excluded: those of them that are left out.
  /// - Throws: `usage` for a name that no layer of this architecture has, and for a regular expression that can't be read.
  init(_ names: [String]?, without excluded: [String]? = nil, of keys: TransformerKeys) throws {
    let spellings = Dictionary(
      keys.allLinearPaths.map { ($0, Set([$0, Self.inModules($0, of: keys)]).sorted()) },
      uniquingKeysWith: { first, _ in first })
    let paths = keys.allLinearPaths.flatMap { spellings[$0] ?? [] }
    func entry(_ name: String, _ role: String) throws -> (String, Entry) {
      if LayerPattern.isPlainName(name) {
        if paths.contains(where: { LayerPattern.isEnd(name, of: $0) }) { return (name, .end(name)) }
        if name.split(separator: ".").contains(where: { Int($0) != nil }) {
          return (name, .place(name))
        }
        let known = keys.linearNames + paths.filter { !keys.linearNames.contains($0) }
        throw PeatError.usage(
          "Unknown \(role) module '\(name)'. "
            + suggestion(for: name, among: known + (role == "target" ? ["all-linear"] : []))
            + (role == "target"
              ? "" : " Only linear layers of blocks get any, so others need not be left out."))
      }
      guard !name.allSatisfy({ $0 == "," || LayerPattern.isPlainName(String($0)) }) else {
        throw PeatError.usage(
          "The \(role) module '\(name)' is several names in one. Write them as a list: [\(name.split(separator: ",").joined(separator: ", "))]."
        )
      }
      do { return (name, .expression(try LayerExpression(name))) } catch {
        throw PeatError.usage(
          "The \(role) module '\(name.prefix(60))' is neither a layer's name nor a regular expression that can be read: \(error.reason)."
        )
      }
    }
    let named = names == ["all-linear"] ? nil : names
    if let named, named.contains("all-linear") {
      throw PeatError.usage(
        "The target module all-linear means all and stands alone; beside it are "
          + "\(named.filter { $0 != "all-linear" }.joined(separator: ", ")).")
    }
    targets = try named.map { try $0.map { try entry($0, "target") } }
    self.excluded = try (excluded ?? []).map { try entry($0, "excluded") }
    self.spellings = spellings
  }

  /// A path in a block as PEFT's modules have it.
  private static func inModules(_ path: String, of keys: TransformerKeys) -> String {
    let parts = ModuleNames.inModules("\(keys.block(0)).\(path)").split(separator: ".")
    guard let number = parts.firstIndex(of: "0") else { return path }
    return parts[(number + 1)...].joined(separator: ".")
  }

  /// Whether a layer is meant.
  ///
  /// - Parameters:
  ///   - path: its name in its block.
  ///   - name: its whole name in the full model; where it is `nil`, what only that can tell counts as meant.
  func contain(_ path: String, _ name: String? = nil) -> Bool {
    if excluded.contains(where: { means($0.entry, path, name) ?? false }) { return false }
    return targets?.contains { means($0.entry, path, name) ?? true } ?? true
  }

  /// `nil`: it depends on the whole name.
  private func means(_ entry: Entry, _ path: String, _ name: String?) -> Bool? {
    if case .end(let end) = entry {
      return (spellings[path] ?? [path]).contains { LayerPattern.isEnd(end, of: $0) }
    }
    guard let name else { return nil }
    return [name, ModuleNames.inModules(name)].contains { spelling in
      switch entry {
      case .end(let end), .place(let end): LayerPattern.isEnd(end, of: spelling)
      case .expression(let expression): expression.matches(spelling)
      }
    }
  }

  /// Throws `usage` where a word that means layers by their whole names means none, or nothing is left of them.
  ///
  /// - Parameter layers: paths in their blocks and whole names of all linear layers in the blocks that an adapter may sit in.
  func check(against layers: [(path: String, name: String)]) throws {
    let there = Set(layers.map(\.path)).sorted().joined(separator: ", ")
    for (text, entry) in (targets ?? []) + excluded {
      if case .end = entry { continue }
      guard !layers.contains(where: { means(entry, $0.path, $0.name) ?? false }) else { continue }
      let what =
        if case .expression = entry {
          "the regular expression '\(text)', which must fit the whole of a name"
        } else { "'\(text)'" }
      throw PeatError.usage(
        "No linear layer of the blocks that get an adapter is meant by \(what). There are: \(there), in whole names such as '\(layers.first?.name ?? "")'."
      )
    }
    guard !layers.contains(where: { contain($0.path, $0.name) }) else { return }
    let words = { (entries: [(text: String, entry: Entry)]) in
      entries.map(\.text).joined(separator: ", ")
    }
    throw PeatError.usage(
      (excluded.isEmpty
        ? "The target modules \(words(targets ?? [])) are none of the linear layers of the blocks that get an adapter."
        : "No target module is left without \(words(excluded)).") + " There are: \(there)."
    )
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
