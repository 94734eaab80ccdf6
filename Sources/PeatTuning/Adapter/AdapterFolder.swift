import Foundation
import PeatModels
import PeatTensor

/// An adapter on disk, as Python PEFT writes it, with `fedpeat.json` beside it.
///
/// Tensors are numbered for the model the adapter was tuned on; `fedpeat.json` maps the numbers to the full model's.
/// Tuned end blocks are saved under their checkpoint names, without an adapter_config.json.
public enum AdapterFolder {
  /// `fedpeat.json`.
  public struct Facts: Sendable, Codable, Equatable {
    public static let currentVersion = 1

    public var formatVersion: Int
    public var method: String
    /// Digest of the full model.
    public var sourceDigest: Digest?
    /// Digest of the model it was tuned on: an emulator's, or the full model's.
    public var modelDigest: Digest?
    public var split: SplitNumbers?
    /// From the number of a block in this folder to its number in the full model.
    public var blockMap: [String: Int]
    /// The full model an adapter was plugged into without merging.
    public var model: ModelReference?
    /// Of bottleneck adapters.
    public var bottleneck: BottleneckConfiguration?
    /// Of a prefix that PEFT's file can't hold.
    public var prefix: VirtualTokenConfiguration?
    /// `model_type` of the model, where the tensors' names do not tell.
    public var modelType: String?
    /// Why Python PEFT can't read the folder.
    public var notInPEFT: String?
    /// The classes that the model tells apart with it.
    public var classes: [String]?
    /// How many blocks the encoder has, where there is one: blocks of its decoder are numbered behind them.
    public var encoderBlocks: EncoderBlocks?

    public init(
      method: String, sourceDigest: Digest?, modelDigest: Digest?, split: SplitNumbers?,
      blockMap: [String: Int], model: ModelReference? = nil
    ) {
      formatVersion = Facts.currentVersion
      self.method = method
      self.sourceDigest = sourceDigest
      self.modelDigest = modelDigest
      self.split = split
      self.blockMap = blockMap
      self.model = model
    }

    /// Throws where the split has numbers that no model's can, or is none of the blocks that the folder numbers.
    func checkSplit(_ name: String) throws {
      guard let split else { return }
      let possible = 0...1 << 20
      guard
        [split.bottom, split.emulator, split.top].allSatisfy(possible.contains)
      else {
        throw PeatError.badData(
          "'\(name)' has the split {bottom: \(split.bottom), emulator: \(split.emulator), top: \(split.top)}; numbers of blocks are 0 or more, "
            + "and no model has so many.")
      }
      let total = split.bottom + split.emulator + split.top
      guard total == blockMap.count else {
        throw PeatError.badData(
          "'\(name)' has the split {bottom: \(split.bottom), emulator: \(split.emulator), top: \(split.top)}, which is one of \(total) blocks; its blockMap has \(blockMap.count)."
        )
      }
    }

    /// The blocks that the adapter sits in, in the full model's numbers: the ends of the split, or all that the folder numbers.
    public var blocks: [Int] {
      let all = blockMap.compactMap { entry in Int(entry.key).map { ($0, entry.value) } }
        .sorted { $0.0 < $1.0 }.map(\.1)
      guard let split else { return all }
      return all.indices.filter { $0 < split.bottom || $0 >= all.count - split.top }.map { all[$0] }
    }
  }

  /// How many blocks are an encoder's, of those that a folder numbers, and in the full model.
  public struct EncoderBlocks: Sendable, Codable, Equatable {
    public var inFolder: Int
    public var inFullModel: Int

    public init(inFolder: Int, inFullModel: Int) {
      self.inFolder = inFolder
      self.inFullModel = inFullModel
    }
  }

  /// bottom, emulator, top: how many blocks each has.
  public struct SplitNumbers: Sendable, Codable, Equatable {
    public var bottom: Int
    public var emulator: Int
    public var top: Int

    public init(bottom: Int, emulator: Int, top: Int) {
      self.bottom = bottom
      self.emulator = emulator
      self.top = top
    }
  }

  /// A model by its place and content.
  public struct ModelReference: Sendable, Codable, Equatable {
    public var path: String
    public var digest: Digest

    public init(path: String, digest: Digest) {
      self.path = path
      self.digest = digest
    }
  }

  /// Writes an adapter folder, whole or not at all.
  ///
  /// - Parameters:
  ///   - adapter: in the full model's numbers.
  ///   - facts: `blockMap` says how the folder numbers blocks.
  ///   - configuration: of the model it was tuned on.
  ///   - fillMore: writes what else belongs into the folder, before it is put in its place.
  public static func write(
    _ adapter: Adapter, facts: Facts, configuration: TransformerConfiguration, baseModel: String,
    to folder: URL, otherFiles: [String: Data] = [:], fillMore: (URL) throws -> Void = { _ in }
  ) throws {
    try write(
      adapter, facts: facts, keys: configuration.keys, layout: configuration.layout,
      sizes: configuration, taskType: nil, baseModel: baseModel, to: folder, otherFiles: otherFiles,
      fillMore: fillMore)
  }

  /// Writes an adapter folder where the model itself is not at hand: its kind is enough.
  ///
  /// - Parameter taskType: what PEFT calls the model's task; by its names alone if not given.
  public static func write(
    _ adapter: Adapter, facts: Facts, keys: TransformerKeys, layout: WeightLayout,
    taskType: String? = nil, baseModel: String, to folder: URL, otherFiles: [String: Data] = [:],
    fillMore: (URL) throws -> Void = { _ in }
  ) throws {
    try write(
      adapter, facts: facts, keys: keys, layout: layout, sizes: nil, taskType: taskType,
      baseModel: baseModel, to: folder, otherFiles: otherFiles, fillMore: fillMore)
  }

  private static func write(
    _ adapter: Adapter, facts: Facts, keys: TransformerKeys, layout: WeightLayout,
    sizes: TransformerConfiguration?, taskType: String?, baseModel: String, to folder: URL,
    otherFiles: [String: Data], fillMore: (URL) throws -> Void
  ) throws {
    try AtomicOutput.folder(at: folder, replacing: CheckpointWriter.isOurs) { folder in
      try fill(
        folder, adapter, facts: facts, keys: keys, layout: layout, sizes: sizes,
        taskType: taskType, baseModel: baseModel)
      for (name, data) in otherFiles {
        try AtomicOutput.write(data, to: folder.appendingPathComponent(name))
      }
      try fillMore(folder)
    }
  }

  private static func fill(
    _ folder: URL, _ adapter: Adapter, facts: Facts, keys: TransformerKeys, layout: WeightLayout,
    sizes: TransformerConfiguration?, taskType: String?, baseModel: String
  ) throws {
    let adapter = try adapter.mergingRemainders()
    var facts = facts
    var localNumber: [Int: Int] = [:]
    for (local, full) in facts.blockMap { localNumber[full] = Int(local) }
    facts.classes = sizes?.head?.labels ?? facts.classes
    facts.encoderBlocks = keys.decoder.map {
      .init(inFolder: $0.encoderBlocks, inFullModel: $0.encoderBlocksInFullModel)
    }
    let full = keys.inFullModel
    var tensors = try renumbered(adapter.state, localNumber, from: full, to: keys, in: "adapter")
    let outside = tensors.filter { isOutsideBlocks($0.key, keys) }
    tensors = tensors.filter { outside[$0.key] == nil }
    var peftConfiguration: JSONValue?
    if case .bottleneck(let configuration) = adapter.method {
      facts.bottleneck = configuration
      facts.notInPEFT = "PEFT has no bottleneck adapters"
    }
    if let configuration = try virtualTokens(
      of: adapter.method, &tensors, &facts, keys, sizes, baseModel: baseModel)
    {
      peftConfiguration = configuration
    }
    if adapter.method == .bitFit { facts.notInPEFT = "PEFT has no tuning of biases alone" }
    tensors = Dictionary(
      uniqueKeysWithValues: tensors.map { (ModuleNames.inModules($0.key), $0.value) })
    if let configuration = scalesAndNorms(
      of: adapter.method, tensors, keys, layout, baseModel: baseModel)
    {
      peftConfiguration = configuration
    }
    if case .lora(var lora) = adapter.method {
      let pattern = try alphaPattern(
        of: lora, adapter.state, localNumber, from: full, to: keys)
      lora.alphaPattern = Dictionary(
        uniqueKeysWithValues: pattern.map { (ModuleNames.inModules($0.key), $0.value) })
      lora.rankPattern = [:]
      peftConfiguration = Self.peftConfiguration(lora, tensors, keys, layout, baseModel: baseModel)
    }
    // A head of classes that is tuned with the adapter says its task itself.
    let isOther = sizes.map { $0.head == nil || $0.head?.labels != nil || $0.predictsMaskedTokens }
    if let taskType = isOther == true ? anyTask : taskType {
      peftConfiguration = peftConfiguration.map { stating(taskType, in: $0) }
    }
    let head = storingHead(
      outside, prefix: peftConfiguration == nil ? "" : headPrefix(of: adapter.method))
    tensors.merge(head.tensors) { own, _ in own }
    if let peftConfiguration {
      try JSONFile.write(
        saving(head.modules, in: peftConfiguration),
        to: folder.appendingPathComponent("adapter_config.json"))
    }
    try SafeTensors.write(
      tensors, to: folder.appendingPathComponent("adapter_model.safetensors"),
      metadata: ["format": "pt"])
    try JSONFile.write(facts, to: folder.appendingPathComponent("fedpeat.json"))
  }

  /// adapter_config.json: which layers it names follows from the tensors, so that PEFT makes just those.
  private static func peftConfiguration(
    _ lora: LoRAConfiguration, _ tensors: NamedTensors, _ keys: TransformerKeys,
    _ layout: WeightLayout, baseModel: String
  ) -> JSONValue {
    var paths: [Int: Set<String>] = [:]
    var ranks: [String: JSONValue] = [:]
    for (layer, tensor) in downMatrices(tensors) {
      if let rank = tensor.shape.first, rank != lora.rank { ranks[layer] = .integer(rank) }
      guard let (_, number, path) = split(layer, keys), let block = Int(number) else { continue }
      paths[block, default: []].insert(String(path.dropFirst()))
    }
    var targets: [String]
    var blocks: [Int]?
    // Numbers of an encoder's blocks and of a decoder's can't be told apart there.
    if keys.decoder == nil, Set(paths.values).count == 1, let shared = paths.values.first {
      targets = shortNames(of: shared, keys)
      blocks = paths.keys.sorted()
    } else {
      targets = downMatrices(tensors).map(\.layer)
    }
    return .object([
      "peft_type": .string("LORA"),
      "task_type": .string(keys.taskType),
      "base_model_name_or_path": .string(baseModel),
      "r": .integer(lora.rank),
      "lora_alpha": Int(exactly: lora.alpha).map { .integer($0) } ?? .number(lora.alpha),
      "use_rslora": .bool(lora.usesRankStabilizedScale),
      "alpha_pattern": .object(lora.alphaPattern.mapValues { .number($0) }),
      "rank_pattern": .object(ranks),
      "target_modules": .array(targets.map { .string($0) }),
      "layers_to_transform": blocks.map { .array($0.map { .integer($0) }) } ?? .null,
      "layers_pattern": blocks.map { _ in
        .string(String(keys.blocks.split(separator: ".").last ?? ""))
      } ?? .null,
      "fan_in_fan_out": .bool(layout == .inputsByOutputs),
      "lora_dropout": .number(lora.dropout),
      "bias": .string("none"),
      "init_lora_weights": .bool(true),
      "inference_mode": .bool(true),
      "use_dora": .bool(lora.usesMagnitudes),
      "modules_to_save": .null,
    ])
  }

  /// What PEFT, which has no task for masked tokens, takes any model by.
  public static let anyTask = "FEATURE_EXTRACTION"

  /// adapter_config.json for a task.
  private static func stating(_ taskType: String, in configuration: JSONValue) -> JSONValue {
    guard case .object(var table) = configuration else { return configuration }
    table["task_type"] = .string(taskType)
    return .object(table)
  }

  /// A's matrices, each with the name of its layer in the model, sorted by name.
  static func downMatrices(_ tensors: NamedTensors) -> [(layer: String, tensor: Tensor)] {
    tensors.filter { $0.key.hasPrefix(LoRA.prefix) && $0.key.hasSuffix(LoRA.downSuffix) }
      .map {
        (String($0.key.dropFirst(LoRA.prefix.count).dropLast(LoRA.downSuffix.count)), $0.value)
      }
      .sorted { $0.0 < $1.0 }
  }

  /// The layers of a block by their last part, `c_attn`, or by as much as tells them from others, `mlp.c_proj`.
  static func shortNames(of paths: Set<String>, _ keys: TransformerKeys) -> [String] {
    func last(_ path: String) -> String { String(path.split(separator: ".").last ?? "") }
    var names: [String] = []
    for path in keys.allLinearPaths where paths.contains(path) {
      let others = keys.allLinearPaths.filter { last($0) == last(path) }
      let name = others.allSatisfy(paths.contains) ? last(path) : path
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// The α of each layer that has another than the rest, under the layer's renumbered name.
  static func alphaPattern(
    of lora: LoRAConfiguration, _ state: NamedTensors, _ numbers: [Int: Int],
    from keys: TransformerKeys, to newKeys: TransformerKeys
  ) throws -> [String: Double] {
    var pattern: [String: Double] = [:]
    for (layer, alpha) in lora.scales.resolved(for: state).alphaPattern {
      pattern[try renumbered(layer, numbers, from: keys, to: newKeys, in: "adapter")] = alpha
    }
    return pattern
  }

  /// The tensors under names with their block number mapped.
  ///
  /// - Parameters:
  ///   - keys: as they count blocks.
  ///   - newKeys: as the numbers that they get do.
  static func renumbered(
    _ tensors: NamedTensors, _ numbers: [Int: Int], from keys: TransformerKeys,
    to newKeys: TransformerKeys, in folder: String
  ) throws -> NamedTensors {
    var result: NamedTensors = [:]
    for (name, tensor) in tensors {
      // A prompt is no block's, nor is a head or the last norm.
      let isOutside =
        name == PromptTuning.tensorName || isOutsideBlocks(name, keys)
        || NormTuning.isBesideBlocks(name, keys)
      result[
        isOutside ? name : try renumbered(name, numbers, from: keys, to: newKeys, in: folder)] =
        tensor
    }
    return result
  }

  /// The same name with its block number mapped.
  static func renumbered(
    _ name: String, _ numbers: [Int: Int], from keys: TransformerKeys,
    to newKeys: TransformerKeys, in folder: String
  ) throws -> String {
    guard split(name, keys) != nil else {
      throw PeatError.badData(
        "'\(folder)' holds '\(name)', which is no tensor of a block (\(keys.blocks).N. …) of this architecture."
      )
    }
    guard let (old, path) = keys.place(of: LowRankNames.inModel(name)), let new = numbers[old],
      keys.isInDecoder(old) == newKeys.isInDecoder(new)
    else {
      throw PeatError.badData(
        "'\(folder)' holds '\(name)', but the block map knows only the blocks "
          + numbers.keys.sorted().map(String.init).joined(separator: ", ")
          + ". Was the adapter tuned on a model with more of them, such as the full model of an emulator? Use it with that one: "
          + "tune MODEL --from it, or plug it in there. On an emulator only an adapter in its own blocks can be tuned on."
      )
    }
    return (name.hasPrefix(LoRA.prefix) ? LoRA.prefix : "") + "\(newKeys.block(new)).\(path)"
  }

  /// `base_model.model.model.layers.` `3` `.mlp.up_proj.lora_A.weight`
  static func split(
    _ name: String, _ keys: TransformerKeys
  ) -> (before: String, number: Substring, after: String)? {
    for prefix in keys.stacks.flatMap({ [LoRA.prefix + $0 + ".", $0 + "."] })
    where name.hasPrefix(prefix) {
      let rest = name.dropFirst(prefix.count)
      guard let dot = rest.firstIndex(of: ".") else { return nil }
      return (prefix, rest[..<dot], String(rest[dot...]))
    }
    return nil
  }
}

extension TransformerKeys {
  /// What PEFT calls a model's task.
  var taskType: String { decoder == nil ? "CAUSAL_LM" : "SEQ_2_SEQ_LM" }
}
