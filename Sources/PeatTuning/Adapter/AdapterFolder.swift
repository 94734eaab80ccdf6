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
      sizes: configuration, baseModel: baseModel, to: folder, otherFiles: otherFiles,
      fillMore: fillMore)
  }

  /// Writes an adapter folder where the model itself is not at hand: its kind is enough.
  public static func write(
    _ adapter: Adapter, facts: Facts, keys: TransformerKeys, layout: WeightLayout,
    baseModel: String, to folder: URL, otherFiles: [String: Data] = [:],
    fillMore: (URL) throws -> Void = { _ in }
  ) throws {
    try write(
      adapter, facts: facts, keys: keys, layout: layout, sizes: nil, baseModel: baseModel,
      to: folder, otherFiles: otherFiles, fillMore: fillMore)
  }

  private static func write(
    _ adapter: Adapter, facts: Facts, keys: TransformerKeys, layout: WeightLayout,
    sizes: TransformerConfiguration?, baseModel: String, to folder: URL,
    otherFiles: [String: Data], fillMore: (URL) throws -> Void
  ) throws {
    try AtomicOutput.folder(at: folder, replacing: CheckpointWriter.isOurs) { folder in
      try fill(
        folder, adapter, facts: facts, keys: keys, layout: layout, sizes: sizes,
        baseModel: baseModel)
      for (name, data) in otherFiles {
        try AtomicOutput.write(data, to: folder.appendingPathComponent(name))
      }
      try fillMore(folder)
    }
  }

  private static func fill(
    _ folder: URL, _ adapter: Adapter, facts: Facts, keys: TransformerKeys, layout: WeightLayout,
    sizes: TransformerConfiguration?, baseModel: String
  ) throws {
    let adapter = try adapter.mergingRemainders()
    var facts = facts
    var localNumber: [Int: Int] = [:]
    for (local, full) in facts.blockMap { localNumber[full] = Int(local) }
    facts.classes = sizes?.head?.labels ?? facts.classes
    var tensors = try renumbered(adapter.state, localNumber, keys, in: "adapter")
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
    if let configuration = scalesAndNorms(
      of: adapter.method, tensors, keys, layout, baseModel: baseModel)
    {
      peftConfiguration = configuration
    }
    if case .lora(var lora) = adapter.method {
      lora.alphaPattern = try alphaPattern(of: lora, adapter.state, localNumber, keys)
      lora.rankPattern = [:]
      peftConfiguration = Self.peftConfiguration(lora, tensors, keys, layout, baseModel: baseModel)
    }
    let head = storingHead(outside, keys, asPEFT: peftConfiguration != nil)
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
      guard let (_, number, path) = split(layer, keys), let block = Int(number) else { continue }
      paths[block, default: []].insert(String(path.dropFirst()))
      if let rank = tensor.shape.first, rank != lora.rank { ranks[layer] = .integer(rank) }
    }
    var targets: [String]
    var blocks: [Int]?
    if Set(paths.values).count == 1, let shared = paths.values.first {
      targets = shortNames(of: shared, keys)
      blocks = paths.keys.sorted()
    } else {
      targets = downMatrices(tensors).map(\.layer)
    }
    return .object([
      "peft_type": .string("LORA"),
      "task_type": .string("CAUSAL_LM"),
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

  /// A's matrices, each with the name of its layer in the model, sorted by name.
  private static func downMatrices(_ tensors: NamedTensors) -> [(layer: String, tensor: Tensor)] {
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
    for path in keys.linearPaths where paths.contains(path) {
      let others = keys.linearPaths.filter { last($0) == last(path) }
      let name = others.allSatisfy(paths.contains) ? last(path) : path
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// The α of each layer that has another than the rest, under the layer's renumbered name.
  private static func alphaPattern(
    of lora: LoRAConfiguration, _ state: NamedTensors, _ numbers: [Int: Int],
    _ keys: TransformerKeys
  ) throws -> [String: Double] {
    var pattern: [String: Double] = [:]
    for (layer, _) in downMatrices(state) where lora.alpha(forLayer: layer) != lora.alpha {
      pattern[try renumbered(layer, numbers, keys, in: "adapter")] = lora.alpha(forLayer: layer)
    }
    return pattern
  }

  /// Reads an adapter folder for a model: Python PEFT's, or one of ours.
  ///
  /// - Parameters:
  ///   - model: the emulator or full model it is meant for. Without `fedpeat.json` the numbering is this model's own.
  /// - Throws: `badData` for what this program can't compute (biases, saved modules, other PEFT types).
  public static func read(_ folder: URL, for model: TransformerModel) throws -> (Adapter, Facts?) {
    var (method, tensors, facts) = try readFiles(folder)
    try checkSavedModules(in: folder, for: model)
    let keys = model.configuration.keys
    tensors = try withPrefix(
      tensors, method, blockCount: facts?.blockMap.count ?? model.configuration.blockCount, keys,
      folder)
    let ownNumbers = Dictionary(
      uniqueKeysWithValues: model.blocks.enumerated().map { ($0, $1.numberInFullModel) })
    let numbers = try facts.map { try self.numbers(of: $0, folder) } ?? ownNumbers
    if case .lora(var lora) = method {
      // Patterns may name blocks, whose numbers change too.
      lora.alphaPattern = try alphaPattern(of: lora, tensors, numbers, keys)
      // The tensors say which layers have it, and what rank.
      (lora.rankPattern, lora.layers) = ([:], nil)
      method = .lora(lora)
    }
    let state = try renumbered(tensors, numbers, keys, in: folder.path)
    if let split = facts?.split, let last = model.blocks.last?.numberInFullModel {
      try checkEnds(state, split, blockCount: last + 1, keys, folder)
    }
    return (Adapter(method: method, state: state, sourceDigest: facts?.sourceDigest), facts)
  }

  /// Throws where a tensor sits in the middle, which an emulator stands for and no adapter may touch.
  private static func checkEnds(
    _ state: NamedTensors, _ split: SplitNumbers, blockCount: Int, _ keys: TransformerKeys,
    _ folder: URL
  ) throws {
    for block in blockNumbers(of: state, keys).sorted()
    where block >= split.bottom && block < blockCount - split.top {
      throw PeatError.badData(
        "'\(folder.path)' has tensors for block \(block) of the full model, but by its split the adapter sits in the "
          + "\(split.bottom) bottom and \(split.top) top blocks of \(blockCount).")
    }
  }

  /// Reads an adapter folder without its model: in the full model's numbers where `fedpeat.json` maps them, else as they
  /// are.
  public static func read(_ folder: URL) throws -> (Adapter, Facts?) {
    var (method, tensors, facts) = try readFiles(folder)
    if case .promptTuning = method {
      return (Adapter(method: method, state: tensors, sourceDigest: facts?.sourceDigest), facts)
    }
    let named = Architectures.all.first { $0.modelType == facts?.modelType }
    if let named, let facts {
      tensors = try withPrefix(
        tensors, method, blockCount: facts.blockMap.count, named.keys, folder)
    }
    guard let architecture = named ?? Architectures.architecture(ofTensors: tensors.keys) else {
      throw PeatError.badData(
        "'\(folder.path)' holds tensors of no architecture that this program knows. Supported: "
          + Architectures.all.map { $0.modelType }.sorted().joined(separator: ", ") + ".")
    }
    var state = tensors
    if let facts {
      state = try renumbered(
        tensors, try numbers(of: facts, folder), architecture.keys, in: folder.path)
    }
    return (Adapter(method: method, state: state, sourceDigest: facts?.sourceDigest), facts)
  }

  /// The numbers of the blocks that an adapter's tensors are of.
  public static func blockNumbers(
    of tensors: NamedTensors, _ keys: TransformerKeys
  ) -> Set<Int> {
    Set(tensors.keys.compactMap { split($0, keys).flatMap { Int($0.number) } })
  }

  /// The block map, from local numbers to the full model's.
  private static func numbers(of facts: Facts, _ folder: URL) throws -> [Int: Int] {
    var numbers: [Int: Int] = [:]
    for (local, full) in facts.blockMap {
      guard let local = Int(local), local >= 0, full >= 0, !numbers.values.contains(full),
        numbers[local] == nil
      else {
        throw PeatError.badData("'\(folder.path)/fedpeat.json': blockMap has '\(local)': \(full).")
      }
      numbers[local] = full
    }
    return numbers
  }

  /// What the folder's files say, numbered as they are.
  public static func readFiles(
    _ folder: URL
  ) throws -> (method: Adapter.Method, tensors: NamedTensors, facts: Facts?) {
    let files = FileManager.default
    guard files.fileExists(atPath: folder.path) else {
      throw PeatError.inputOutput("There is no adapter folder '\(folder.path)'.")
    }
    let factsURL = folder.appendingPathComponent("fedpeat.json")
    var facts: Facts?
    if files.fileExists(atPath: factsURL.path) {
      let mark = try JSONFile.read(JSONValue.self, from: factsURL)
      guard
        mark["blockMap"] != nil
          || !files.fileExists(
            atPath: folder.appendingPathComponent("config.json").path)
      else { throw PeatError.badData("'\(folder.path)' is a model, not an adapter.") }
      facts = try JSONFile.read(Facts.self, from: factsURL)
      if let version = facts?.formatVersion, version != Facts.currentVersion {
        throw PeatError.badData(
          "'\(factsURL.path)' has formatVersion \(version); this program reads \(Facts.currentVersion)."
        )
      }
    }
    let configurationURL = folder.appendingPathComponent("adapter_config.json")
    var method: Adapter.Method
    /// Ranks that some layers have instead of r.
    var ranks: [Int] = []
    var saved: [String] = []
    if files.fileExists(atPath: configurationURL.path) {
      let json = try JSONFile.read(JSONValue.self, from: configurationURL)
      saved = try savedModules(json, configurationURL.path)
      switch json["peft_type"]?.string {
      case "PREFIX_TUNING":
        method = .prefixTuning(
          try JSONFile.read(VirtualTokenConfiguration.self, from: configurationURL))
      case "PROMPT_TUNING":
        method = .promptTuning(
          try JSONFile.read(VirtualTokenConfiguration.self, from: configurationURL))
      case "IA3":
        method = .ia3(try JSONFile.read(IA3Configuration.self, from: configurationURL))
      case "LN_TUNING":
        method = .normTuning
      default:
        try refuseUnknownParts(json, configurationURL.path)
        ranks = json["rank_pattern"]?.object?.values.compactMap(\.integer) ?? []
        method = .lora(try JSONFile.read(LoRAConfiguration.self, from: configurationURL))
      }
    } else {
      method = try ownMethod(facts, folder)
    }
    if let stated = facts?.method, stated != method.name {
      throw PeatError.badData(
        "'\(folder.path)': fedpeat.json says the method is '\(stated)', adapter_config.json describes '\(method.name)'."
      )
    }
    let tensors = readingHead(
      try SafeTensorsFile(
        contentsOf: folder.appendingPathComponent("adapter_model.safetensors")
      ).tensors(), modules: saved)
    if let (name, _) = tensors.first(where: { !$0.value.isFinite }) {
      throw PeatError.badData("The adapter '\(folder.path)' holds NaN or infinity in '\(name)'.")
    }
    if case .ia3(let stated) = method {
      method = .ia3(
        try scales(tensors.filter { $0.key.hasPrefix(LoRA.prefix) }, stated, folder))
    }
    if case .lora(let lora) = method {
      for (layer, down) in downMatrices(tensors) {
        guard let rank = down.shape.first, rank == lora.rank || ranks.contains(rank) else {
          throw PeatError.badData(
            "'\(folder.path)': '\(layer)' has rank \(down.shape.first ?? 0), but adapter_config.json says r = \(lora.rank)"
              + (ranks.isEmpty ? "." : " and the rank_pattern \(ranks.sorted())."))
        }
      }
    }
    return (method, tensors, facts)
  }

  private static func refuseUnknownParts(_ json: JSONValue, _ name: String) throws {
    func refuse(_ what: String) throws {
      throw PeatError.badData("'\(name)' asks for \(what), which this program does not compute.")
    }
    let type = json["peft_type"]?.string ?? "nothing"
    guard type == "LORA" else {
      throw PeatError.badData(
        "'\(name)' is an adapter of the type \(type). Supported: LORA, IA3, LN_TUNING, PREFIX_TUNING, PROMPT_TUNING."
      )
    }
    // These change the model's own weights when PEFT loads the adapter.
    if let start = json["init_lora_weights"]?.string?.lowercased(),
      ["pissa", "olora", "corda", "loftq"].contains(where: start.hasPrefix)
    {
      try refuse("init_lora_weights = \(start); convert it to a plain LoRA with PEFT first")
    }
    if json["lora_bias"]?.bool == true { try refuse("a bias in LoRA (lora_bias)") }
    if let bias = json["bias"]?.string, bias != "none" {
      try refuse("tuned biases (bias = \(bias))")
    }
    if let saved = json["trainable_token_indices"], !saved.isNull {
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

  /// The tensors under names with their block number mapped.
  private static func renumbered(
    _ tensors: NamedTensors, _ numbers: [Int: Int], _ keys: TransformerKeys, in folder: String
  ) throws -> NamedTensors {
    var result: NamedTensors = [:]
    for (name, tensor) in tensors {
      // A prompt is no block's, nor is a head.
      let isOutside = name == PromptTuning.tensorName || isOutsideBlocks(name, keys)
      result[isOutside ? name : try renumbered(name, numbers, keys, in: folder)] = tensor
    }
    return result
  }

  /// The same name with its block number mapped.
  private static func renumbered(
    _ name: String, _ numbers: [Int: Int], _ keys: TransformerKeys, in folder: String
  ) throws -> String {
    guard let (before, number, after) = split(name, keys) else {
      throw PeatError.badData(
        "'\(folder)' holds '\(name)', which is no tensor of a block (\(keys.blocks).N. …) of this architecture."
      )
    }
    guard let old = Int(number), number == String(old), let new = numbers[old] else {
      throw PeatError.badData(
        "'\(folder)' holds '\(name)', but the block map knows only the blocks "
          + numbers.keys.sorted().map(String.init).joined(separator: ", ") + ".")
    }
    return before + String(new) + after
  }

  /// `base_model.model.model.layers.` `3` `.mlp.up_proj.lora_A.weight`
  static func split(
    _ name: String, _ keys: TransformerKeys
  ) -> (before: String, number: Substring, after: String)? {
    for prefix in [LoRA.prefix + keys.blocks + ".", keys.blocks + "."] where name.hasPrefix(prefix)
    {
      let rest = name.dropFirst(prefix.count)
      guard let dot = rest.firstIndex(of: ".") else { return nil }
      return (prefix, rest[..<dot], String(rest[dot...]))
    }
    return nil
  }
}
