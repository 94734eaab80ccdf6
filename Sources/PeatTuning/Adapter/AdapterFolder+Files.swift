import Foundation
import PeatModels
import PeatTensor

extension AdapterFolder {
  /// The files of a folder, numbered as they are, seen to fit each other.
  struct Files {
    var method: Adapter.Method
    let tensors: NamedTensors
    let facts: Facts?
    /// Which layers adapter_config.json means; `nil` for methods that have no such file.
    let rules: TargetRules?
    /// The modules that adapter_config.json says are saved whole.
    let savedModules: [String]
    /// What adapter_config.json says of a prefix's table.
    let prefix: PrefixTable.Stated?
    /// Whether a head may stand beside what the method tunes.
    let hasHead: Bool

    /// Throws `inputOutput` where a file is missing, `badData` where it holds what this program can't compute, or where it contradicts another.
    init(_ folder: URL) throws {
      guard FileManager.default.fileExists(atPath: folder.path) else {
        throw PeatError.inputOutput("There is no adapter folder '\(folder.path)'.")
      }
      facts = try Self.facts(in: folder)
      (method, rules, savedModules, prefix) = try Self.method(in: folder, facts)
      if let stated = facts?.method, stated != method.name {
        throw PeatError.badData(
          "'\(folder.path)': fedpeat.json says the method is '\(stated)', adapter_config.json describes '\(method.name)'."
        )
      }
      (method, tensors) = ModuleNames.read(
        method, readingHead(try Self.weights(in: folder), modules: savedModules, of: method))
      hasHead = !savedModules.isEmpty || facts?.classes != nil
      if !savedModules.isEmpty { try checkSaved(savedModules, folder) }
      if let name = tensors.firstNotFinite {
        throw PeatError.badData("The adapter '\(folder.path)' holds NaN or infinity in '\(name)'.")
      }
      try checkTensors(folder)
      if case .ia3(let stated) = method {
        method = .ia3(
          try scales(
            tensors.filter { $0.key.hasPrefix(LoRA.prefix) }, stated, folder))
      }
    }

    private static func weights(in folder: URL) throws -> NamedTensors {
      let files = FileManager.default
      let url = folder.appendingPathComponent("adapter_model.safetensors")
      let pickled = folder.appendingPathComponent("adapter_model.bin")
      if !files.fileExists(atPath: url.path), files.fileExists(atPath: pickled.path) {
        throw PeatError.badData(
          "'\(folder.path)' has its weights in adapter_model.bin, a pickled file, which can run code when it is read; this program reads adapter_model.safetensors. "
            + "Where you trust it, load it with PEFT (PeftModel.from_pretrained) and save it again (save_pretrained), which writes that file."
        )
      }
      return try SafeTensorsFile(contentsOf: url).tensors()
    }

    /// Of the modules that PEFT saves whole, a head outside the blocks is read, and nothing in them.
    private func checkSaved(_ modules: [String], _ folder: URL) throws {
      guard let keys = AdapterFolder.keys(of: tensors, facts) else { return }
      let names = tensors.keys.sorted()
      if let name = names.first(where: { !isOutsideBlocks($0, keys) && isSaved($0, modules) }) {
        throw PeatError.badData(
          "'\(folder.path)' saves '\(name)' whole (modules_to_save), which lies in a block; only a head can be saved beside a method. "
            + "Tune it with end-blocks or norm-tuning instead.")
      }
      // PEFT names several, of which a model has one.
      guard names.contains(where: { isOutsideBlocks($0, keys) }) else {
        throw PeatError.badData(
          "'\(folder.path)' holds none of the modules that adapter_config.json says are saved whole (modules_to_save): "
            + modules.joined(separator: ", ") + ".")
      }
    }

    private static func facts(in folder: URL) throws -> Facts? {
      let files = FileManager.default
      let url = folder.appendingPathComponent("fedpeat.json")
      guard files.fileExists(atPath: url.path) else { return nil }
      let data = try JSONFile.bytes(of: url)
      let mark = try JSONFile.decode(JSONValue.self, from: data, name: url.path)
      guard
        mark["blockMap"] != nil
          || !files.fileExists(atPath: folder.appendingPathComponent("config.json").path)
      else { throw PeatError.badData("'\(folder.path)' is a model, not an adapter.") }
      let facts = try JSONFile.decode(Facts.self, from: data, name: url.path)
      guard facts.formatVersion == Facts.currentVersion else {
        throw PeatError.badData(
          "'\(url.path)' has formatVersion \(facts.formatVersion); this program reads \(Facts.currentVersion)."
        )
      }
      try facts.checkSplit(url.path)
      return facts
    }

    private static func method(
      in folder: URL, _ facts: Facts?
    ) throws -> (Adapter.Method, TargetRules?, savedModules: [String], PrefixTable.Stated?) {
      let url = folder.appendingPathComponent("adapter_config.json")
      guard FileManager.default.fileExists(atPath: url.path) else {
        return (try ownMethod(facts, folder), nil, [], nil)
      }
      let data = try JSONFile.bytes(of: url)
      func read<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONFile.decode(type, from: data, name: url.path)
      }
      let json = try read(JSONValue.self)
      let saved = try AdapterFolder.savedModules(json, url.path)
      switch json["peft_type"]?.string {
      case "PREFIX_TUNING":
        return (
          .prefixTuning(try read(VirtualTokenConfiguration.self)), nil, saved,
          try PrefixTable.Stated(json, in: url.path)
        )
      // What P-tuning's encoder makes of its tokens is saved as the table of a prompt, and the encoder is not.
      case "PROMPT_TUNING", "P_TUNING":
        return (.promptTuning(try read(VirtualTokenConfiguration.self)), nil, saved, nil)
      case "IA3":
        return (
          .ia3(try read(IA3Configuration.self)), try TargetRules(json, in: url.path), saved, nil
        )
      case "LN_TUNING": return (.normTuning, try TargetRules(json, in: url.path), saved, nil)
      default:
        try refuseUnknownParts(json, url.path)
        return (
          .lora(try read(LoRAConfiguration.self)), try TargetRules(json, in: url.path), saved, nil
        )
      }
    }

    /// Throws where PEFT put an adapter on a layer that lies in no block.
    private func refuseOtherPlaces(_ keys: TransformerKeys, _ folder: URL) throws {
      guard method.isPEFTs else { return }
      for name in tensors.keys.sorted()
      where name.hasPrefix(LoRA.prefix) && !keys.isInBlock(LowRankNames.inModel(name))
        && !NormTuning.isBesideBlocks(name, keys)
      {
        let path = LowRankNames.inModel(name)
        let marks = AdapterContents.parts(of: method).map { $0.split(separator: ".")[0] }
        let end =
          (marks + ["lora_embedding_A", "lora_embedding_B", "base_layer"])
          .compactMap { path.range(of: ".\($0)")?.lowerBound }.min()
        // What is none of the method's is refused beside the rest.
        guard let end else { continue }
        let layer = path[..<end]
        throw PeatError.badData(
          "'\(folder.path)' holds '\(name)': the method '\(method.name)' on '\(layer)' (target_modules), which lies in no block; this program computes it in blocks alone. "
            + "Tune without it: exclude_modules = [\"\(layer)\"] in PEFT.")
      }
    }

    /// Throws where the tensors are none of the method, or not as adapter_config.json says.
    private func checkTensors(_ folder: URL) throws {
      guard !tensors.isEmpty else {
        throw PeatError.badData("The adapter '\(folder.path)' is empty: it holds no tensors.")
      }
      guard let keys = AdapterFolder.keys(of: tensors, facts) else { return }
      // PEFT's table of a prefix says nothing of blocks.
      if case .prefixTuning = method, tensors[PrefixTuning.tableName] != nil {
        guard !hasHead, let name = tensors.keys.filter({ $0 != PrefixTuning.tableName }).min()
        else { return }
        throw PeatError.badData(
          "'\(folder.path)' holds '\(name)' beside '\(PrefixTuning.tableName)', which is all that a prefix consists of."
        )
      }
      try refuseOtherPlaces(keys, folder)
      do { try AdapterContents.check(tensors, method, keys, hasHead: hasHead) } catch let error
        as PeatError
      {
        throw PeatError.badData(
          "The adapter '\(folder.path)' is not whole, or not as its files say. \(error.message)",
          cause: error)
      }
      let scales = method.lora?.scales
      for (name, layer) in layers(of: tensors, method) {
        let block = split(name, keys).flatMap { Int($0.number) }
        if let rules, !rules.mean(layer, block: block) {
          throw PeatError.badData(
            "'\(folder.path)' holds '\(name)', but by target_modules, exclude_modules and layers_to_transform in "
              + "adapter_config.json that layer has no adapter.")
        }
        guard let scales, let rank = tensors[name]?.shape.first else { continue }
        let stated = scales.rank(forLayer: layer)
        guard rank == stated else {
          throw PeatError.badData(
            "'\(folder.path)': '\(layer)' has rank \(rank), but adapter_config.json says \(stated) (r = \(scales.rank)"
              + (scales.rankPattern.isEmpty ? ")." : ", and a rank_pattern)."))
        }
      }
    }
  }

  /// How a model that has these tensors' layers names them; where they are of no block, one that has such a norm beside its blocks; else any
  /// model's names, by which they are refused.
  static func keys(of tensors: NamedTensors, _ facts: Facts?) -> TransformerKeys? {
    let architecture =
      Architectures.architecture(ofType: facts?.modelType)
      ?? Architectures.architecture(ofTensors: tensors.keys)
      ?? Architectures.all.first { architecture in
        tensors.keys.contains { NormTuning.isBesideBlocks($0, architecture.keys) }
      } ?? Architectures.all.first
    return architecture?.keys
  }

  /// Of a method with an adapter_config.json of layers: one tensor of each, and the layer's name in the model; sorted.
  static func layers(
    of tensors: NamedTensors, _ method: Adapter.Method
  ) -> [(tensor: String, layer: String)] {
    guard method.isPEFTs, let suffix = AdapterContents.parts(of: method).first else { return [] }
    return tensors.keys.filter { $0.hasSuffix(suffix) }.sorted().map {
      ($0, LowRankNames.inModel(String($0.dropLast(suffix.count))))
    }
  }
}
