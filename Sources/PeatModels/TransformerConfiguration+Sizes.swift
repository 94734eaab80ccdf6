extension TransformerConfiguration {
  /// Width of the embedding's rows, and of what the head sees.
  public var embeddingWidth: Int { embeddingSize ?? hiddenSize }

  /// Inputs and outputs of a linear layer in each block, in the order of the computation; where blocks differ, of a decoder's, which have the most.
  public var linearSizes: [(inputs: Int, outputs: Int)] { linearSizes(keys.inDecoder) }

  func linearSizes(_ keys: TransformerKeys) -> [(inputs: Int, outputs: Int)] {
    let queries = heads * headWidth
    let keyValues = keyValueHeads * headWidth
    var result: [(Int, Int)]
    switch keys.projections {
    case .separate:
      result = [(hiddenSize, queries), (hiddenSize, keyValues), (hiddenSize, keyValues)]
    case .fused, .fusedByHead: result = [(hiddenSize, queries + 2 * keyValues)]
    case .tokens: result = [(contextLength, tokenMixing ?? 0)]
    }
    result.append(tokenMixing.map { ($0, contextLength) } ?? (queries, hiddenSize))
    if keys.cross != nil {
      result += [
        (hiddenSize, queries), (hiddenSize, keyValues), (hiddenSize, keyValues),
        (queries, hiddenSize),
      ]
    }
    if keys.gate != nil { result.append((hiddenSize, feedForwardSize)) }
    return result + [(hiddenSize, feedForwardSize), (feedForwardSize, hiddenSize)]
  }

  /// The longest side of a block's matrices.
  var longestSide: Int { linearSizes.reduce(0) { max($0, $1.inputs, $1.outputs) } }

  /// Weights of a whole block's matrices.
  public var blockMatrixWeights: Int { linearSizes.reduce(0) { $0 + $1.inputs * $1.outputs } }

  /// Weights of a stored block's matrices, as narrow as an emulator keeps it.
  public func matrixWeights(ofBlock number: Int) -> Int {
    matrices(ofBlock: number).reduce(0) { $0 + $1.count }
  }

  /// Weights of all stored blocks' matrices.
  public var storedMatrixWeights: Int {
    variation == .none && !hasEncoder
      ? blockCount * blockMatrixWeights
      : (0..<blockCount).reduce(0) { $0 + matrixWeights(ofBlock: $1) }
  }

  /// Weights of the embedding and the head: matrices that may be packed.
  public var tableWeights: Int {
    embeddingWidth * (vocabularySize + (head == nil || tiesEmbeddings ? 0 : outputCount))
  }

  /// Weights of learned positions, the final norm, and all else that is no table and in no block.
  public var otherWeights: Int {
    (positions.isLearned ? positionRows * hiddenSize : 0)
      + [keys.finalNorm, keys.embeddingNorm].compactMap { $0 }.count
      * normWeights(width: hiddenSize) + tokenTypes * hiddenSize + headWeights
      + (image.map { ($0.ownTokens + (keys.image?.bias == nil ? 0 : 1)) * hiddenSize } ?? 0)
      + [keys.inputProjection, keys.outputProjection].compactMap { $0 }.count
      * hiddenSize * embeddingWidth + relativeWeights
      + (hasEncoder ? normWeights(width: hiddenSize) : 0)
  }

  /// Weights of the tables of relative positions.
  private var relativeWeights: Int {
    guard case .relative(let buckets, _) = positions else { return 0 }
    return keys.stacks.count * buckets * heads
  }

  /// Rows of a table of learned positions, and which of them is a sequence's first.
  package var positionRows: Int { firstPositionRow + contextLength }
  var firstPositionRow: Int {
    if case .learned(let first) = positions { first } else { 0 }
  }

  /// Whether each linear layer of a block has a bias, in the order of the computation.
  public var linearBiases: [Bool] { linearBiases(keys) }

  func linearBiases(_ keys: TransformerKeys) -> [Bool] {
    Array(repeating: biases.projections, count: keys.attentionPaths.count - 1)
      + [biases.attentionOutput]
      + Array(repeating: biases.feedForward, count: keys.feedForwardPaths.count)
  }

  /// A block's norms: where they lie in it, and how many values they normalise.
  public var blockNorms: [(path: String, width: Int)] { blockNorms(keys) }

  func blockNorms(_ keys: TransformerKeys) -> [(path: String, width: Int)] {
    let whole = [
      keys.attentionNorm, keys.attentionOutputNorm, keys.cross?.norm, keys.feedForwardNorm,
      keys.feedForwardOutputNorm,
    ].compactMap { $0 }
    return whole.map { ($0, hiddenSize) }
      + [keys.queryNorm, keys.keyNorm].compactMap { $0 }.map { ($0, headWidth) }
  }

  /// Operations of a training step per token, in products with the weights of the blocks' linear layers and of the head.
  ///
  /// Two for each weight forward, where states are not kept; two to the inputs down to the first block that trains; two for the
  /// weight's own gradient, if it trains.
  ///
  /// - Parameters:
  ///   - firstTrained: the first block that is run in which something trains, by its place in the order.
  ///   - keepsPrefix: whether the states below it are kept from earlier.
  ///   - trainsAll: whether every weight trains, and no adapter.
  ///   - sourceShare: of the tokens, that an encoder reads, where there is one.
  public func stepOperations(
    firstTrained: Int, keepsPrefix: Bool = false, trainsAll: Bool = false,
    sourceShare: Double = 0.5
  ) -> Double {
    let targetShare = hasEncoder ? 1 - sourceShare : 1
    func weights(_ blocks: some Sequence<Int>) -> Double {
      blocks.reduce(0) { $0 + weights(ofBlock: $1) + mixing }
    }
    // A source's tokens go through the encoder alone, but for what the decoder makes of them.
    func weights(ofBlock number: Int) -> Double {
      let all = Double(matrixWeights(ofBlock: number))
      guard hasEncoder else { return all }
      guard keys.isInDecoder(number) else { return all * sourceShare }
      let crossed = Double(2 * hiddenSize * sizes(ofBlock: number).keyValueHeads * headWidth)
      return (all - crossed) * targetShare + crossed * sourceShare
    }
    // A layer that mixes tokens works on each channel of a sequence, not on each token.
    let mixing = tokenMixing.map { 2 * Double($0) * Double(hiddenSize - contextLength) } ?? 0
    let head = Double(outputCount * embeddingWidth) * targetShare
    let above = weights(order.dropFirst(firstTrained))
    let all = weights(order)
    return 2 * ((keepsPrefix ? above : all) + head) + 2 * (above + head)
      + (trainsAll ? 2 * (all + head) : 0)
  }
}
