import PeatTensor

/// The names that PEFT's files have for layers of models whose modules are called otherwise than the tensors of their checkpoints: since its version 5
/// transformers renames what it reads of ViT and DeiT, and PEFT names modules.
///
/// Source: the conversion mappings of transformers 5.23.
enum ModuleNames {
  private static let families = ["vit", "deit"]
  private static let parts = [
    (checkpoint: "attention.attention.query", module: "attention.q_proj"),
    (checkpoint: "attention.attention.key", module: "attention.k_proj"),
    (checkpoint: "attention.attention.value", module: "attention.v_proj"),
    (checkpoint: "attention.output.dense", module: "attention.o_proj"),
    (checkpoint: "intermediate.dense", module: "mlp.fc1"),
    (checkpoint: "output.dense", module: "mlp.fc2"),
    (checkpoint: "layernorm_before", module: "layernorm_before"),
    (checkpoint: "layernorm_after", module: "layernorm_after"),
  ]

  /// The name of a layer, or of a tensor of one, as PEFT has it; most are the same.
  static func inModules(_ name: String) -> String {
    renamed(name, from: (".encoder.layer.", \.checkpoint), to: (".layers.", \.module))
  }

  /// The name of a layer, or of a tensor of one, as checkpoints have it.
  static func inCheckpoint(_ name: String) -> String {
    renamed(name, from: (".layers.", \.module), to: (".encoder.layer.", \.checkpoint))
  }

  private typealias Part = (checkpoint: String, module: String)

  private static func renamed(
    _ name: String, from old: (blocks: String, part: KeyPath<Part, String>),
    to new: (blocks: String, part: KeyPath<Part, String>)
  ) -> String {
    let isPEFTs = name.hasPrefix(LoRA.prefix)
    let own = isPEFTs ? String(name.dropFirst(LoRA.prefix.count)) : name
    for family in families where own.hasPrefix(family + old.blocks) {
      let place = own.dropFirst(family.count + old.blocks.count)
      guard let dot = place.firstIndex(of: ".") else { return name }
      let rest = place[place.index(after: dot)...]
      for part in parts {
        let path = part[keyPath: old.part]
        guard "\(rest).".hasPrefix(path + ".") else { continue }
        return (isPEFTs ? LoRA.prefix : "") + family + new.blocks + place[...dot]
          + part[keyPath: new.part] + rest.dropFirst(path.count)
      }
    }
    return name
  }

  /// A method and its tensors from a file that may name modules, under the checkpoint's names: what patterns say of layers is said of each.
  static func read(
    _ method: Adapter.Method, _ tensors: NamedTensors
  ) -> (Adapter.Method, NamedTensors) {
    let renamed = Dictionary(uniqueKeysWithValues: tensors.map { (inCheckpoint($0.key), $0.value) })
    guard renamed.keys != tensors.keys else { return (method, tensors) }
    func layers(_ suffix: String) -> [String] {
      tensors.keys.filter { $0.hasSuffix(suffix) }
        .map { LowRankNames.inModel(String($0.dropLast(suffix.count))) }
    }
    switch method {
    case .lora(var lora):
      let scales = lora.scales
      (lora.rankPattern, lora.alphaPattern) = ([:], [:])
      for layer in layers(LoRA.downSuffix) {
        lora.rankPattern[inCheckpoint(layer)] = scales.rank(forLayer: layer)
        lora.alphaPattern[inCheckpoint(layer)] = scales.alpha(forLayer: layer)
      }
      return (.lora(lora), renamed)
    case .ia3(var ia3):
      ia3.feedForwardModules = ia3.feedForwardModules.map { modules in
        layers(IA3.suffix).filter { layer in
          modules.contains { layer == $0 || layer.hasSuffix(".\($0)") }
        }.map(inCheckpoint)
      }
      return (.ia3(ia3), renamed)
    case .normTuning, .endBlocks, .bitFit, .bottleneck, .prefixTuning, .promptTuning:
      return (method, renamed)
    }
  }
}
