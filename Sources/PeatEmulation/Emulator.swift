import Foundation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning

/// A model whose middle is compressed: what devices get instead of the full model.
public struct Emulator: Sendable {
  /// Bottom, compressed middle and top, as a model of its own; its blocks know their number in the full model.
  public let model: TransformerModel
  public let split: ModelSplit
  /// Numbers in the full model of all its blocks.
  public let keptBlocks: [Int]
  public let recipe: EmulatorRecipe
  /// How its middle was distilled; `nil`: it was not.
  public var distillation: DistillationFacts?
  /// How its middle was distilled again during a run; `nil`: it was not.
  public var realigned: RealignmentFacts?
  /// How well it stands for the full model, where that was measured when it was made.
  public var fidelity: FidelityReport?

  init(
    model: TransformerModel, split: ModelSplit, keptBlocks: [Int], recipe: EmulatorRecipe
  ) {
    self.model = model
    self.split = split
    self.keptBlocks = keptBlocks
    self.recipe = recipe
  }

  /// An emulator that was written before.
  ///
  /// - Throws: `inputOutput` or `badData` where the folder is none, or damaged.
  public init(folder: URL) throws {
    guard let facts = try EmulatorFacts.read(in: folder) else {
      throw PeatError.badData(
        "'\(folder.path)' is no emulator: it has no emulator.json. 'fedpeat compress' makes one.")
    }
    self.init(
      model: try Checkpoint(folder: folder).model(),
      split: try ModelSplit(
        bottom: facts.split.bottom, top: facts.split.top, of: facts.sourceBlocks),
      keptBlocks: facts.keptBlocks, recipe: facts.recipe)
    distillation = facts.distillation
    realigned = facts.realigned
    fidelity = facts.fidelity
  }

  /// The same with weights of its own that can be trained; `pack(_:)` keeps them as the recipe says again.
  public func unpacked() throws -> Emulator {
    Emulator(
      model: try TransformerModel(
        configuration: model.configuration, tensors: model.tensors, blockNumbers: keptBlocks,
        source: "the emulator"), split: split, keptBlocks: keptBlocks, recipe: recipe)
  }

  /// How many blocks stand for the middle.
  public var middleCount: Int { keptBlocks.count - split.bottom - split.top }

  /// The weights of the blocks that stand for the middle.
  public var middleParameters: [Parameter] { middleBlocks.flatMap(\.parameters) }

  /// bottom, emulator, top.
  public var splitNumbers: AdapterFolder.SplitNumbers {
    .init(bottom: split.bottom, emulator: middleCount, top: split.top)
  }
}

/// `emulator.json`.
public struct EmulatorFacts: Sendable, Codable, Equatable {
  public static let currentVersion = 1

  /// How one tensor is stored.
  public struct Storage: Sendable, Codable, Equatable {
    /// F32, F16, BF16, int8 or int4.
    public var type: String
    public var groupSize: Int?
    public var axis: Int?
    public var scaleType: String?
    public var symmetric: Bool?
    /// The matrix's, where only what is not zero is stored.
    public var shape: [Int]?
    public var packing: String?

    /// - Parameter sparseShape: the matrix's, where only what is not zero is stored.
    public init(type: StorageType, sparseShape: [Int]? = nil) {
      self.type = type.rawValue
      shape = sparseShape
      packing = sparseShape == nil ? nil : SparseTensor.packing
    }

    /// How a packed matrix lies in the file.
    ///
    /// - Parameter isSparse: whether only what is not zero is stored.
    init(_ matrix: PackedMatrix, isSparse: Bool) {
      type = matrix.storage.rawValue
      // What has an axis stays packed in memory, too.
      axis = matrix.axis
      switch matrix.storage {
      case .float32: break
      case .bfloat16: type = StorageType.bfloat16.rawValue
      case .float16: type = StorageType.float16.rawValue
      case .int8, .int4:
        groupSize = PackedMatrix.groupSize
        scaleType = StorageType.float16.rawValue
        symmetric = true
        if matrix.storage == .int4 { packing = PackedMatrix.packing }
      }
      if isSparse {
        shape = [matrix.rows, matrix.columns]
        packing = SparseTensor.packing
      }
    }
  }

  public var formatVersion: Int
  /// Digest of the full model.
  public var sourceDigest: Digest
  /// How many blocks the full model has.
  public var sourceBlocks: Int
  /// How many of them are an encoder's; `nil`: it has none.
  public var encoderBlocks: Int?
  public var split: AdapterFolder.SplitNumbers
  /// Numbers in the full model.
  public var keptBlocks: [Int]
  public var recipe: EmulatorRecipe
  /// How the model differs from what config.json says; `nil`: not at all.
  public var variation: ModelVariation?
  /// Whether narrower blocks lie in the folder as wide as config.json says, filled up with zeros, so that transformers loads them; `nil`: they don't.
  public var padded: Bool?
  /// Per tensor of this folder.
  public var storage: [String: Storage]
  /// The share of the middle's weights that a holder of this emulator has: see `Emulator.exposure(of:)`.
  public var exposure: Double
  /// How well it stands for the full model, where that was measured.
  public var fidelity: FidelityReport?
  /// How its middle was distilled; `nil`: it was not.
  public var distillation: DistillationFacts?
  /// How its middle was distilled again during a run; `nil`: it was not.
  public var realigned: RealignmentFacts?
  /// How much better the owner's tuned model is than what a device can make of this emulator, where that was measured.
  public var margin: MarginFacts?
  /// The licence of the source, where it is stated.
  public var licence: String?

  /// Reads `emulator.json` of a folder; `nil` if there is none.
  public static func read(in folder: URL) throws -> EmulatorFacts? {
    let url = folder.appendingPathComponent("emulator.json")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    let facts = try JSONFile.read(EmulatorFacts.self, from: url)
    guard facts.formatVersion == currentVersion else {
      throw PeatError.badData(
        "'\(url.path)' has formatVersion \(facts.formatVersion); this program reads \(currentVersion)."
      )
    }
    let numbers = facts.split
    let counts = [numbers.bottom, numbers.emulator, numbers.top]
    // Each is bounded before they are added: the file may come from anybody.
    guard facts.sourceBlocks > 0, facts.sourceBlocks < 1 << 16, numbers.emulator > 0,
      counts.allSatisfy({ $0 >= 0 && $0 <= facts.sourceBlocks }),
      facts.keptBlocks.count == numbers.bottom + numbers.emulator + numbers.top,
      facts.keptBlocks.allSatisfy({ $0 >= 0 && $0 < facts.sourceBlocks }),
      numbers.bottom + numbers.top > 0, numbers.bottom + numbers.top < facts.sourceBlocks,
      zip(facts.keptBlocks, facts.keptBlocks.dropFirst()).allSatisfy({ $0 < $1 }),
      facts.endBlocks.allSatisfy(facts.keptBlocks.contains)
    else {
      throw PeatError.badData(
        "'\(url.path)': split, keptBlocks and sourceBlocks contradict each other.")
    }
    func refuse(_ what: String) -> PeatError {
      .badData("'\(url.path)' \(what). The emulator is damaged; fetch or make it again.")
    }
    guard (0...1 + 1e-9).contains(facts.exposure) else {
      throw refuse("says an exposure of \(facts.exposure); it is a share, from 0 to 1")
    }
    let middle = facts.sourceBlocks - numbers.bottom - numbers.top
    guard (try? facts.recipe.storedBlocks(ofMiddle: middle)) == numbers.emulator else {
      throw refuse(
        "says that '\(facts.recipe)' left \(numbers.emulator) of \(middle) blocks, which it can't")
    }
    if let order = facts.variation?.order {
      let bottom = Array(0..<numbers.bottom)
      let top = Array(numbers.bottom + numbers.emulator..<facts.keptBlocks.count)
      guard facts.recipe.isShared, order.count >= facts.keptBlocks.count,
        Array(order.prefix(bottom.count)) == bottom, Array(order.suffix(top.count)) == top,
        order.count - bottom.count - top.count == middle,
        order.dropFirst(bottom.count).dropLast(top.count).allSatisfy({
          (bottom.count..<bottom.count + numbers.emulator).contains($0)
        })
      else {
        throw refuse(
          "runs blocks in the order \(order.prefix(64)), in which not each end block comes once in its place and as many between them as the full model has, or which '\(facts.recipe)' does not ask for"
        )
      }
    }
    return facts
  }

  /// The blocks adapters sit in, in the full model's numbers.
  public var endBlocks: [Int] {
    Array(0..<split.bottom) + Array(sourceBlocks - split.top..<sourceBlocks)
  }

  /// The same blocks, numbered in the emulator.
  public var localEndBlocks: [Int] {
    keptBlocks.indices.filter { endBlocks.contains(keptBlocks[$0]) }
  }
}

extension Emulator {
  /// What `emulator.json` says of this emulator.
  ///
  /// - Parameter padded: whether narrower blocks are to be filled up with zeros, for transformers; see `EmulatorRecipe.checkPadded`.
  public func facts(
    source: Checkpoint, full: TransformerModel, padded: Bool = false
  ) throws -> EmulatorFacts {
    let types = source.storageTypes(of: full)
    return EmulatorFacts(
      formatVersion: EmulatorFacts.currentVersion, sourceDigest: source.digest(),
      sourceBlocks: split.blockCount,
      encoderBlocks: model.configuration.keys.decoder?.encoderBlocksInFullModel,
      split: splitNumbers, keptBlocks: keptBlocks, recipe: recipe,
      variation: model.configuration.variation == .none ? nil : model.configuration.variation,
      padded: padded && model.configuration.variation != .none ? true : nil,
      storage: Dictionary(
        uniqueKeysWithValues: zip(model.parameters, sourceNames()).map { parameter, name in
          let isSparse = sparseParts(of: parameter, types[name] ?? .float32) != nil
          return (
            parameter.name,
            parameter.packed.map { .init($0, isSparse: isSparse) }
              ?? .init(
                type: types[name] ?? .float32, sparseShape: isSparse ? parameter.shape : nil)
          )
        }),
      exposure: exposure(of: full), fidelity: fidelity,
      distillation: distillation, realigned: realigned,
      licence: try Licence.stated(in: source.folder)
    )
  }

  /// For each parameter of the emulator, its name in the full model.
  private func sourceNames() -> [String] {
    let keys = model.configuration.keys
    let full = keys.inFullModel
    return model.parameters.map { parameter in
      guard let (local, path) = keys.place(of: parameter.name) else { return parameter.name }
      return "\(full.block(keptBlocks[local])).\(path)"
    }
  }

  /// What is stored of a matrix of a thinned out middle, values that lie there as numbers and others by their ending; `nil` where all of it is.
  private func sparseParts(
    of parameter: Parameter, _ type: StorageType
  ) -> (values: Tensor?, raw: [String: SafeTensors.Raw])? {
    guard recipe.isSparse, parameter.shape.count == 2,
      middleBlocks.contains(where: { block in block.parameters.contains { $0 === parameter } })
    else { return nil }
    if let packed = parameter.packed, packed.storage == .int8 || packed.storage == .int4 {
      return packed.storedSparsely.map { (nil, $0) }
    }
    return SparseTensor.stored(
      parameter.tensor, bytesPerValue: parameter.packed == nil && type == .float32 ? 4 : 2
    ).map { ($0.values, [SparseTensor.maskSuffix: $0.mask]) }
  }

  /// Writes the emulator as a checkpoint folder that transformers loads too, with `emulator.json`.
  ///
  /// Tensors keep the storage they have in the source; the tokenizer's files go with it. Narrower blocks load in transformers where the facts say that they are padded.
  public func write(to folder: URL, source: Checkpoint, facts: EmulatorFacts) throws {
    var files = try source.tokenizerFiles()
    files["emulator.json"] = try JSONFile.encode(facts)
    var floats: NamedTensors = [:]
    var raw: [String: SafeTensors.Raw] = [:]
    let places = facts.padded == true ? try model.configuration.tensorPlaces() : [:]
    for parameter in model.parameters {
      if let places = places[parameter.name] {
        floats[parameter.name] = places.spread(parameter.tensor)
        continue
      }
      let type = facts.storage[parameter.name].flatMap { StorageType(rawValue: $0.type) }
      if let parts = sparseParts(of: parameter, type ?? .float32) {
        floats[parameter.name] = parts.values
        for (suffix, tensor) in parts.raw { raw[parameter.name + suffix] = tensor }
      } else if let packed = parameter.packed {
        for (suffix, tensor) in packed.stored { raw[parameter.name + suffix] = tensor }
      } else {
        floats[parameter.name] = parameter.tensor
      }
    }
    try CheckpointWriter.write(
      to: folder, tensors: floats, raw: raw,
      configuration: Architectures.configuration(
        source.configurationJSON, withBlocks: keptBlocks),
      type: { facts.storage[$0].flatMap { StorageType(rawValue: $0.type) } ?? .float32 },
      otherFiles: files)
  }
}
