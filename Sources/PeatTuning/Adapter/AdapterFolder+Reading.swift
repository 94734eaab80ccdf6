import Foundation
import PeatModels
import PeatTensor

extension AdapterFolder {
  /// Reads an adapter folder for a model: Python PEFT's, or one of ours.
  ///
  /// - Parameters:
  ///   - model: the emulator or full model it is meant for. Without `fedpeat.json` the numbering is this model's own.
  /// - Throws: `badData` for what this program can't compute (biases, saved modules, other PEFT types).
  public static func read(_ folder: URL, for model: TransformerModel) throws -> (Adapter, Facts?) {
    let files = try Files(folder)
    try checkSavedModules(files.savedModules, folder, for: model)
    var (method, tensors, facts) = (files.method, files.tensors, files.facts)
    let keys = model.configuration.keys
    let folderKeys =
      facts == nil ? keys : try keys.placed(by: facts, "'\(folder.path)/fedpeat.json'")
    tensors = try withPrefix(
      tensors, method, files.prefix,
      blockCount: facts?.blockMap.count ?? model.configuration.blockCount,
      width: model.blocks.map(\.sizes.keyValueHeads).max().map {
        $0 * model.configuration.headWidth
      },
      folderKeys, folder)
    if case .promptTuning(let prompt) = method, model.configuration.hasEncoder,
      let table = tensors[PromptTuning.tensorName], table.shape.count == 2,
      table.shape[0] == 2 * prompt.virtualTokens
    {
      // PEFT makes rows for a decoder, too, and uses those of the encoder.
      tensors[PromptTuning.tensorName] = table.rows(0..<prompt.virtualTokens).copied()
    }
    let ownNumbers = Dictionary(
      uniqueKeysWithValues: model.blocks.enumerated().map { ($0, $1.numberInFullModel) })
    let numbers = try facts.map { try self.numbers(of: $0, folder) } ?? ownNumbers
    guard folderKeys.inFullModel == keys.inFullModel else {
      throw PeatError.badData(
        "'\(folder.path)' was tuned for a model whose encoder has \(folderKeys.inFullModel.encoderBlocks) blocks; this one's has \(keys.inFullModel.encoderBlocks)."
      )
    }
    if let rules = files.rules {
      try checkComplete(tensors, method, rules, numbers, model, folderKeys, folder)
    }
    if case .lora(var lora) = method {
      // Patterns may name blocks, whose numbers change too.
      lora.alphaPattern = try alphaPattern(
        of: lora, tensors, numbers, from: folderKeys, to: keys.inFullModel)
      // The tensors say which layers have it, and what rank.
      (lora.rankPattern, lora.layers) = ([:], nil)
      method = .lora(lora)
    }
    let state = try renumbered(
      tensors, numbers, from: folderKeys, to: keys.inFullModel, in: folder.path)
    if let split = facts?.split, let last = model.blocks.last?.numberInFullModel {
      try checkEnds(state, split, blockCount: last + 1, keys.inFullModel, folder)
    }
    if let facts { try checkComplete(state, method, blocks: facts.blocks, model, folder) }
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
    let files = try Files(folder)
    var (method, tensors, facts) = (files.method, files.tensors, files.facts)
    if case .promptTuning = method {
      return (Adapter(method: method, state: tensors, sourceDigest: facts?.sourceDigest), facts)
    }
    let named = Architectures.architecture(ofType: facts?.modelType)
    if let named, let facts {
      tensors = try withPrefix(
        tensors, method, files.prefix, blockCount: facts.blockMap.count,
        try named.keys.placed(by: facts, "'\(folder.path)/fedpeat.json'"), folder)
    }
    guard let architecture = named ?? Architectures.architecture(ofTensors: tensors.keys) else {
      throw PeatError.badData(
        "'\(folder.path)' holds tensors of no architecture that this program knows. Supported: "
          + Architectures.supported + ".")
    }
    var state = tensors
    if let facts {
      let numbers = try numbers(of: facts, folder)
      let own = try architecture.keys.placed(by: facts, "'\(folder.path)/fedpeat.json'")
      let full = own.inFullModel
      state = try renumbered(tensors, numbers, from: own, to: full, in: folder.path)
      if case .lora(var lora) = method {
        lora.alphaPattern = try alphaPattern(of: lora, tensors, numbers, from: own, to: full)
        lora.rankPattern = [:]
        method = .lora(lora)
      }
    }
    return (Adapter(method: method, state: state, sourceDigest: facts?.sourceDigest), facts)
  }

  /// The numbers of the blocks that an adapter's tensors are of.
  public static func blockNumbers(
    of tensors: NamedTensors, _ keys: TransformerKeys
  ) -> Set<Int> {
    Set(tensors.keys.compactMap { keys.place(of: LowRankNames.inModel($0))?.number })
  }

  /// The block map, from local numbers to the full model's.
  private static func numbers(of facts: Facts, _ folder: URL) throws -> [Int: Int] {
    var numbers: [Int: Int] = [:]
    for (key, full) in facts.blockMap.sorted(by: { $0.key < $1.key }) {
      func refuse(_ why: String) -> PeatError {
        .badData(
          "'\(folder.path)/fedpeat.json': blockMap has \"\(key.prefix(40))\": \(full); \(why).")
      }
      guard let local = Int(key), local >= 0, String(local) == key else {
        throw refuse("its keys are the numbers of blocks in this folder, from 0")
      }
      guard full >= 0 else { throw refuse("blocks of the full model are numbered from 0") }
      if let other = numbers.first(where: { $0.value == full })?.key {
        throw refuse(
          "\"\(other)\" is that block of the full model, too, and each can be there only once")
      }
      numbers[local] = full
    }
    return numbers
  }

  /// What the folder's files say, numbered as they are.
  public static func readFiles(
    _ folder: URL
  ) throws -> (method: Adapter.Method, tensors: NamedTensors, facts: Facts?) {
    let files = try Files(folder)
    return (files.method, files.tensors, files.facts)
  }
}

extension TransformerKeys {
  /// With as many blocks counted as an encoder's as an adapter's folder says.
  ///
  /// - Throws: `badData` where there is an encoder and nothing says so.
  package func placed(by facts: AdapterFolder.Facts?, _ source: String) throws -> TransformerKeys {
    guard decoder != nil else {
      guard let counts = facts?.encoderBlocks else { return self }
      throw PeatError.badData(
        "\(source) says that \(counts.inFolder) of its blocks and \(counts.inFullModel) of the full model's are an encoder's (encoderBlocks); a model of this kind has no encoder apart from its blocks, and none was expected."
      )
    }
    guard let counts = facts?.encoderBlocks, counts.inFolder >= 0,
      (counts.inFolder..<1 << 16).contains(counts.inFullModel)
    else {
      throw PeatError.badData(
        "\(source) does not say how many blocks the encoder has (encoderBlocks in fedpeat.json), without which blocks of its decoder have no number."
      )
    }
    var result = counting(encoderBlocks: counts.inFolder)
    result.decoder?.encoderBlocksInFullModel = counts.inFullModel
    return result
  }
}
