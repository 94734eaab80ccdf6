import PeatModels
import PeatTensor

/// An emulator on its way: the blocks that stand for the middle, and what became of their weights.
public struct EmulatorDraft {
  /// A stored block of the middle.
  struct Block {
    let numberInFullModel: Int
    /// Weights by their path in the block: `mlp.up_proj.weight`.
    var tensors: NamedTensors
    var sizes: BlockSizes
    /// Linear layers that are kept as two factors, by path, with the rank.
    var ranks: [String: Int] = [:]
  }

  let full: TransformerModel
  let split: ModelSplit
  private let calibration: CompressionCalibration?
  private let onProgress: CompressionProgress.Listener
  /// In rising order.
  var blocks: [Block]
  /// The middle as it is run: places in `blocks`, some of them more than once.
  var order: [Int]

  /// The middle as it is.
  init(
    _ full: TransformerModel, _ split: ModelSplit, _ calibration: CompressionCalibration? = nil,
    onProgress: @escaping CompressionProgress.Listener = { _ in }
  ) {
    self.full = full
    self.split = split
    self.calibration = calibration
    self.onProgress = onProgress
    let keys = full.configuration.keys
    blocks = split.middle.map { number in
      let prefix = keys.block(number) + "."
      return Block(
        numberInFullModel: number,
        tensors: Dictionary(
          uniqueKeysWithValues: full.blocks[number].parameters.map {
            (String($0.name.dropFirst(prefix.count)), $0.tensor)
          }),
        sizes: full.blocks[number].sizes)
    }
    order = Array(blocks.indices)
  }

  /// Says where a word stands; throws where the work is to end.
  func tell(_ word: String, _ done: Int, of total: Int) throws {
    try onProgress(CompressionProgress(word: word, done: done, total: total))
  }

  /// The text that a word needs; throws `usage` where there is none.
  func calibrated(for word: String) throws -> CompressionCalibration {
    guard let calibration else {
      throw PeatError.usage(
        "'\(word)' looks at what the middle computes and needs a text: make the emulator with 'fedpeat compress --calibration TEXT', and name its folder where a recipe could stand."
      )
    }
    return calibration
  }

  /// What goes into each block of the full model's middle, and what comes out of the last.
  func middleStates(for word: String) throws -> [Tensor] {
    try calibrated(for: word).middleStates(full, split)
  }

  /// Keeps some of the stored blocks, each run once.
  mutating func keep(_ places: [Int]) {
    blocks = places.map { blocks[$0] }
    order = Array(blocks.indices)
  }

  /// The model that it has become.
  func model() throws -> TransformerModel {
    let keys = full.configuration.keys
    var configuration = full.configuration.selecting(blocks: keptBlocks)
    try configuration.checkStacks()
    var tensors: NamedTensors = [:]
    let newKeys = configuration.keys
    for (name, tensor) in full.tensors where !keys.isInBlock(name) { tensors[name] = tensor }
    func copyEnd(_ number: Int, to local: Int) {
      let (old, new) = (keys.block(number), newKeys.block(local))
      for parameter in full.blocks[number].parameters {
        tensors[new + parameter.name.dropFirst(old.count)] = parameter.tensor
      }
    }
    for number in 0..<split.bottom { copyEnd(number, to: number) }
    for number in 0..<split.top {
      copyEnd(split.blockCount - split.top + number, to: split.bottom + blocks.count + number)
    }
    var variation = ModelVariation()
    for (place, block) in blocks.enumerated() {
      let local = split.bottom + place
      let name = newKeys.block(local)
      for (path, tensor) in block.tensors { tensors["\(name).\(path)"] = tensor }
      if block.sizes != full.blocks[block.numberInFullModel].sizes {
        variation.sizes[String(local)] = block.sizes
      }
      for (path, rank) in block.ranks { variation.ranks["\(name).\(path)"] = rank }
    }
    if order != Array(blocks.indices) {
      variation.order =
        Array(0..<split.bottom) + order.map { split.bottom + $0 }
        + (0..<split.top).map { split.bottom + blocks.count + $0 }
    }
    configuration.variation = variation
    return try TransformerModel(
      configuration: configuration, tensors: tensors, blockNumbers: keptBlocks,
      source: "the emulator")
  }

  /// Numbers in the full model of all its blocks.
  private var keptBlocks: [Int] {
    Array(0..<split.bottom) + blocks.map(\.numberInFullModel)
      + Array(split.middle.upperBound..<split.blockCount)
  }

  /// The emulator that it has become.
  func emulator(_ recipe: EmulatorRecipe) throws -> Emulator {
    Emulator(model: try model(), split: split, keptBlocks: keptBlocks, recipe: recipe)
  }
}
