import PeatNN
import PeatTensor

/// How a model's blocks are cut: bottom and top stay, the middle is what an emulator stands for.
///
/// Source: Xiao, Lin and Han 2023, <https://arxiv.org/abs/2302.04870>.
public struct ModelSplit: Sendable, Equatable, Codable {
  /// Number of blocks at the bottom (next to the embedding) and at the top (next to the head).
  public let bottom: Int
  public let top: Int
  /// Number of blocks of the full model.
  public let blockCount: Int

  /// Throws unless at least one block is left for the middle.
  public init(bottom: Int, top: Int, of blockCount: Int) throws {
    guard bottom >= 0, top >= 0, max(bottom, top) > 0, bottom < blockCount,
      top < blockCount - bottom
    else {
      throw PeatError.usage(
        "A split of \(bottom) bottom and \(top) top blocks does not fit a model of \(blockCount) blocks: together "
          + "they must be at least 1 and leave at least 1 for the middle.")
    }
    self.bottom = bottom
    self.top = top
    self.blockCount = blockCount
  }

  /// The middle's blocks.
  public var middle: Range<Int> { bottom..<blockCount - top }

  /// The blocks that are not the middle: where adapters sit.
  public var ends: [Int] { Array(0..<bottom) + Array(blockCount - top..<blockCount) }
}

extension TransformerModel {
  /// A model of some of the blocks, in their order, sharing this model's weights but not its low-rank updates.
  ///
  /// Its tensors are named for the smaller model: block numbers count from 0.
  public func selecting(blocks numbers: [Int]) throws -> TransformerModel {
    let smaller = configuration.selecting(blocks: numbers)
    let keys = configuration.keys
    let newKeys = smaller.keys
    var tensors: NamedTensors = [:]
    for (name, tensor) in self.tensors where !keys.isInBlock(name) {
      tensors[name] = tensor
    }
    for (local, number) in numbers.enumerated() {
      let old = keys.block(number)
      let new = newKeys.block(local)
      for parameter in blocks[number].parameters {
        tensors[new + parameter.name.dropFirst(old.count)] = parameter.tensor
      }
    }
    return try TransformerModel(
      configuration: smaller, tensors: tensors,
      blockNumbers: numbers.map { blocks[$0].numberInFullModel }, source: "selected blocks")
  }

  /// A model of the same blocks that shares this model's weights, packed or not, but not its low-rank updates.
  public func sharingWeights() throws -> TransformerModel {
    try TransformerModel(
      configuration: configuration, weights: SharedWeights(parameters),
      blockNumbers: blocks.map(\.numberInFullModel), source: "the same weights")
  }
}

/// A model's weights as they are kept.
private struct SharedWeights: WeightSource {
  private let parameters: [String: Parameter]

  init(_ parameters: [Parameter]) {
    self.parameters = Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0) })
  }

  var names: Set<String> { Set(parameters.keys) }
  func tensor(named name: String) -> Tensor? { parameters[name]?.tensor }
  func packed(named name: String, shape: [Int], inputAxis: Int) -> PackedMatrix? {
    parameters[name]?.packed
  }
}
