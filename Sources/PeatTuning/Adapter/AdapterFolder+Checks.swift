import Foundation
import PeatModels
import PeatNN
import PeatTensor

extension AdapterFolder {
  // MARK: What adapter_config.json may ask for

  static func refuseUnknownParts(_ json: JSONValue, _ name: String) throws {
    func refuse(_ what: String, advice: String = "") throws {
      throw PeatError.badData(
        "'\(name)' asks for \(what), which this program does not compute.\(advice)")
    }
    let type = json["peft_type"]?.string ?? "nothing"
    guard type == "LORA" else {
      throw PeatError.badData(
        "'\(name)' is an adapter of the type \(type). Supported: LORA, IA3, LN_TUNING, PREFIX_TUNING, PROMPT_TUNING, P_TUNING."
      )
    }
    // These change the model's own weights when PEFT loads the adapter.
    if let start = json["init_lora_weights"]?.string?.lowercased(),
      ["pissa", "olora", "corda", "loftq"].contains(where: start.hasPrefix)
    {
      try refuse(
        "init_lora_weights = \(start)", advice: " Convert it to a plain LoRA with PEFT first.")
    }
    if let bias = json["lora_bias"], !bias.isNull, bias != .bool(false) {
      try refuse("a bias in LoRA (lora_bias)")
    }
    if let bias = json["bias"], !bias.isNull, bias != .string("none") {
      try refuse("tuned biases (bias = \(bias.string ?? "no text"))")
    }
    if let saved = json["trainable_token_indices"], !saved.isNull, saved != .array([]) {
      try refuse("tuned tokens (trainable_token_indices)")
    }
    if let replication = json["layer_replication"], !replication.isNull {
      try refuse("replicated layers (layer_replication)")
    }
    // Kinds of LoRA that compute something else.
    for key in [
      "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
      "target_parameters", "use_bdlora", "use_qalora", "velora_config",
    ] {
      guard let value = json[key], !value.isNull, value != .bool(false), value != .array([]) else {
        continue
      }
      try refuse(key)
    }
  }

  // MARK: What a model with the adapter must have

  /// Throws where layers of a model that adapter_config.json means have no tensors.
  ///
  /// - Parameters:
  ///   - tensors: numbered as the folder counts blocks.
  ///   - numbers: from the folder's to the full model's.
  ///   - folderKeys: as the folder counts blocks.
  static func checkComplete(
    _ tensors: NamedTensors, _ method: Adapter.Method, _ rules: TargetRules, _ numbers: [Int: Int],
    _ model: TransformerModel, _ folderKeys: TransformerKeys, _ folder: URL
  ) throws {
    guard rules.areStated else { return }
    let keys = model.configuration.keys
    let found = Set(layers(of: tensors, method).map(\.layer))
    let lookup = BlockLookup(model)
    func require(_ layer: String, block: Int?) throws {
      guard rules.mean(layer, block: block), !found.contains(layer) else { return }
      throw PeatError.badData(
        "'\(folder.path)' holds no tensors for the layer '\(layer)', which by target_modules and layers_to_transform in "
          + "adapter_config.json has an adapter. The folder is not whole, or made for another model."
      )
    }
    func norms(_ parameters: [Parameter]) -> [String] {
      parameters.map(\.name).filter { $0.hasSuffix(".weight") }.map { String($0.dropLast(7)) }
    }
    for (own, full) in numbers.sorted(by: { $0.key < $1.key }) {
      guard let (block, local) = lookup.block(full) else { continue }
      let names: [String] =
        switch method {
        case .lora, .ia3: block.linears.filter { $0.reduction == nil }.map(\.name)
        case .normTuning: norms(block.norms)
        case .endBlocks, .bitFit, .prefixTuning, .promptTuning, .bottleneck: []
        }
      for name in names {
        try require(
          folderKeys.block(own) + name.dropFirst(keys.block(local).count),
          block: folderKeys.numberInStack(own))
      }
    }
    if method == .normTuning {
      for name in norms(model.normsBesideBlocks) { try require(name, block: nil) }
    }
  }

  /// Throws where a method of whole blocks lacks a tensor of one that the adapter sits in.
  ///
  /// - Parameters:
  ///   - state: in the full model's numbers, as are the blocks.
  static func checkComplete(
    _ state: NamedTensors, _ method: Adapter.Method, blocks: [Int], _ model: TransformerModel,
    _ folder: URL
  ) throws {
    let lookup = BlockLookup(model)
    for number in blocks {
      guard let (block, local) = lookup.block(number) else { continue }
      let name = block.nameInFullModel
      let names: [String] =
        switch method {
        case .endBlocks:
          block.parameters.map { lookup.fullName($0.name, of: block, local: local) }
        case .bitFit:
          block.parameters.map { lookup.fullName($0.name, of: block, local: local) }
            .filter { $0.hasSuffix(".bias") }
        case .prefixTuning where !model.configuration.keys.inFullModel.takesPrefix(number): []
        case .bottleneck, .prefixTuning: AdapterContents.parts(of: method).map { "\(name).\($0)" }
        case .lora, .ia3, .normTuning, .promptTuning: []
        }
      if let missing = names.filter({ state[$0] == nil }).min() {
        throw PeatError.badData(
          "'\(folder.path)' lacks '\(missing)' of block \(number), in which the adapter sits by its fedpeat.json. The folder is "
            + "not whole.")
      }
    }
  }
}
