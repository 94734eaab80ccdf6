import PeatModels
import PeatTensor

/// Keeps a share of each feed-forward layer's channels, those whose weights are the largest: `prune-channels=0.5` keeps ⌈half⌉.
///
/// A channel's score is the product of the norms of all that leads into it and out of it: how large its part in the layer's output can
/// be. After the magnitude criterion for whole neurons of Li et al. 2017, <https://arxiv.org/abs/1608.08710>.
public struct ChannelPruning: ShareWord {
  public static let name = "prune-channels"
  public static let stage = CompressionStage.width

  static let kept = "channels"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.hasFewerChannels }

  public let share: Double

  public func apply(to draft: inout EmulatorDraft) {
    let layout = draft.full.configuration.layout
    for index in draft.blocks.indices {
      let block = draft.blocks[index]
      let keys = draft.full.configuration.keys.ofBlock(block.numberInFullModel)
      let count = block.sizes.feedForwardSize
      let into = keys.innerPaths
      var scores = Array(repeating: 1.0, count: count)
      for path in into + [keys.down] {
        guard let matrix = block.tensors["\(path).weight"] else { continue }
        let isOutput = path != keys.down
        let norms = matrix.norms(axis: isOutput == (layout == .outputsByInputs) ? 0 : 1)
        for channel in 0..<count { scores[channel] *= norms[channel] }
      }
      draft.keepChannels(largest(scores), ofBlock: index)
    }
  }
}

/// Keeps a share of each attention layer's heads, those whose values weigh the most: `prune-heads=0.5` keeps ⌈half⌉. Where several query heads share
/// keys and values, of n heads in g groups ⌈F · g⌉ groups stay, with their keys and values, and as many heads in each, so that ⌈F · n⌉ or, where that can't be
/// divided by the groups, a few more are left.
///
/// A head's score is the norm of its value weights times that of its part in the output. After Michel et al. 2019, *Are sixteen heads really
/// better than one?*, <https://arxiv.org/abs/1905.10650>, whose scores are gradients.
public struct HeadPruning: ShareWord {
  public static let name = "prune-heads"
  public static let stage = CompressionStage.width

  static let kept = "heads"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.hasFewerHeads }

  public let share: Double

  public func check(_ model: TransformerConfiguration) throws {
    try requireAttention(model, instead: "Take prune-channels.")
    guard case .relative = model.positions else { return }
    throw PeatError.usage(
      "'\(Self.name)' can't narrow a model of the type \(model.modelType): its table of relative positions has a column for each head, and all blocks share it. Use prune-channels or low-rank."
    )
  }

  public func apply(to draft: inout EmulatorDraft) {
    let model = draft.full.configuration
    let keys = model.keys
    for index in draft.blocks.indices {
      var block = draft.blocks[index]
      let groups = block.sizes.keyValueHeads
      let queries = block.sizes.heads / groups
      /// Lines of a group among the inputs of the output layer, with so many heads per group.
      func places(_ group: Int, heads: Int) -> Range<Int> {
        let width = heads * model.headWidth
        return group * width..<(group + 1) * width
      }
      let lines = model.projectionLines(block.sizes)
      let values = block.tensors["\(lines.path(of: .value)).weight"]?.norms(
        axis: model.layout == .outputsByInputs ? 0 : 1)
      let outputs = block.tensors["\(keys.attentionOutput).weight"]?.norms(
        axis: model.layout == .outputsByInputs ? 1 : 0)
      guard let values, let outputs else { continue }
      func norm(_ values: ArraySlice<Double>) -> Double {
        values.reduce(0) { $0 + $1 * $1 }.squareRoot()
      }
      let scores = (0..<groups).map { group in
        norm(values[lines.lines(of: .value, head: group)])
          * norm(outputs[places(group, heads: queries)])
      }
      let kept = largest(scores)
      let keptHeads = (count(of: block.sizes.heads) + kept.count - 1) / kept.count
      let keptQueries = kept.flatMap { group in
        // Their values are the same: what tells them apart is their part in the output.
        let heads = group * queries..<(group + 1) * queries
        let parts = heads.map { norm(outputs[places($0, heads: 1)]) }
        return largest(keptHeads, of: parts).map { heads.lowerBound + $0 }
      }
      var outputsByLayer: [String: [Int]] = [:]
      for part in ProjectionLines.Part.allCases {
        for head in part == .query ? keptQueries : kept {
          outputsByLayer[lines.path(of: part), default: []] += lines.lines(of: part, head: head)
        }
      }
      for (path, outputs) in outputsByLayer {
        block.select(outputs: outputs.sorted(), of: path, layout: model.layout)
      }
      let keptInputs = keptQueries.flatMap { places($0, heads: 1) }
      block.select(inputs: keptInputs, of: keys.attentionOutput, layout: model.layout)
      block.sizes.heads = kept.count * keptHeads
      block.sizes.keyValueHeads = kept.count
      draft.blocks[index] = block
    }
  }
}

extension Tensor {
  /// The norm of each row (axis 0) or column (axis 1).
  fileprivate func norms(axis: Int) -> [Double] {
    let (rows, columns) = (shape[0], shape[1])
    var squares = Array(repeating: 0.0, count: axis == 0 ? rows : columns)
    withUnsafeBufferPointer { values in
      for row in 0..<rows {
        for column in 0..<columns {
          let value = Double(values[row * columns + column])
          squares[axis == 0 ? row : column] += value * value
        }
      }
    }
    return squares.map { $0.squareRoot() }
  }

  /// Some rows (axis 0) or columns (axis 1).
  fileprivate func selecting(_ places: [Int], axis: Int) -> Tensor {
    let (rows, columns) = (shape[0], shape[1])
    if axis == 0 {
      let result = Tensor(uninitialized: [places.count, columns])
      for (new, old) in places.enumerated() {
        (result.pointer + new * columns).update(from: pointer + old * columns, count: columns)
      }
      return result
    }
    let result = Tensor(uninitialized: [rows, places.count])
    for row in 0..<rows {
      for (new, old) in places.enumerated() {
        result.pointer[row * places.count + new] = pointer[row * columns + old]
      }
    }
    return result
  }
}

extension EmulatorDraft.Block {
  /// Keeps some outputs of a linear layer, with their biases.
  fileprivate mutating func select(outputs: [Int], of path: String, layout: WeightLayout) {
    tensors["\(path).weight"] = tensors["\(path).weight"]?.selecting(
      outputs, axis: layout == .outputsByInputs ? 0 : 1)
    if let bias = tensors["\(path).bias"] {
      let kept = Tensor(uninitialized: [outputs.count])
      for (new, old) in outputs.enumerated() { kept.pointer[new] = bias.pointer[old] }
      tensors["\(path).bias"] = kept
    }
  }

  /// Keeps some inputs of a linear layer.
  fileprivate mutating func select(inputs: [Int], of path: String, layout: WeightLayout) {
    tensors["\(path).weight"] = tensors["\(path).weight"]?.selecting(
      inputs, axis: layout == .outputsByInputs ? 1 : 0)
  }
}

extension EmulatorDraft {
  /// Keeps some channels of a block's feed-forward layer.
  mutating func keepChannels(_ kept: [Int], ofBlock index: Int) {
    let keys = full.configuration.keys.ofBlock(blocks[index].numberInFullModel)
    let layout = full.configuration.layout
    for path in keys.innerPaths {
      blocks[index].select(outputs: kept, of: path, layout: layout)
    }
    blocks[index].select(inputs: kept, of: keys.down, layout: layout)
    blocks[index].sizes.feedForwardSize = kept.count
  }
}
