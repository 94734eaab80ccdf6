extension TransformerConfiguration {
  /// Inputs and outputs of a linear layer in each block, in the order of the computation.
  public var linearSizes: [(inputs: Int, outputs: Int)] {
    let queries = heads * headWidth
    let keyValues = keyValueHeads * headWidth
    var result: [(Int, Int)]
    switch keys.projections {
    case .separate:
      result = [(hiddenSize, queries), (hiddenSize, keyValues), (hiddenSize, keyValues)]
    case .fused: result = [(hiddenSize, queries + 2 * keyValues)]
    }
    result.append((queries, hiddenSize))
    if keys.gate != nil { result.append((hiddenSize, feedForwardSize)) }
    return result + [(hiddenSize, feedForwardSize), (feedForwardSize, hiddenSize)]
  }

  /// Weights of a block's matrices, and of the vectors beside them.
  public var blockMatrixWeights: Int { linearSizes.reduce(0) { $0 + $1.inputs * $1.outputs } }
  public var blockVectorWeights: Int {
    // Two norms of at most a weight and a bias, and a bias for each linear layer.
    4 * hiddenSize + linearSizes.reduce(0) { $0 + $1.outputs }
  }

  /// Weights of the embedding and the head: matrices that may be packed.
  public var tableWeights: Int { vocabularySize * hiddenSize * (tiesEmbeddings ? 1 : 2) }

  /// Weights of learned positions and the final norm.
  public var otherWeights: Int {
    (positions == .learned ? contextLength * hiddenSize : 0) + 2 * hiddenSize
  }

  /// Operations of a training step per token, in products with the weights of the blocks' linear layers and of the head.
  ///
  /// Two for each weight forward, where states are not kept; two to the inputs down to the first block that trains; two for the
  /// weight's own gradient, if it trains.
  ///
  /// - Parameters:
  ///   - blocks: how many the model has.
  ///   - firstTrained: the lowest block in which something trains.
  ///   - keepsPrefix: whether the states below it are kept from earlier.
  ///   - trainsAll: whether every weight trains, and no adapter.
  public func stepOperations(
    blocks: Int, firstTrained: Int, keepsPrefix: Bool = false, trainsAll: Bool = false
  ) -> Double {
    let block = Double(blockMatrixWeights)
    let head = Double(vocabularySize * hiddenSize)
    let above = Double(blocks - firstTrained)
    let forward = keepsPrefix ? above : Double(blocks)
    let own = trainsAll ? Double(blocks) * block + head : 0
    return 2 * (forward * block + head) + 2 * (above * block + head) + 2 * own
  }
}
