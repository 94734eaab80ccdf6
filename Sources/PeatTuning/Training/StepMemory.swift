import PeatModels

/// What the activations of a training step take at the fullest moment, in floats.
///
/// Follows what the operations keep: a block's two residual streams, queries, keys, values, what attention gives, and what goes into
/// the activation function; norms and activation functions are computed again. In its backward pass come gradients and values
/// that were computed again; by then the logits are gone, so the larger of both moments counts.
struct StepMemory {
  let model: TransformerConfiguration
  /// Low-rank updates in the blocks that train.
  let rank: Int
  /// Stored blocks in which something trains.
  let trained: Set<Int>
  /// How many of the blocks that are run first keep nothing.
  let frozenPrefix: Int
  let added: AddedMemory
  /// Whether what makes states of tokens or patches trains, too.
  let trainsInput: Bool
  /// The place where an activation function's result was, for each row: by the time of the backward pass something small lies in
  /// it, such as the gradient of the residual stream, so that it fits nothing of its size any more.
  private var gap = 0.0

  init(
    model: TransformerConfiguration, rank: Int, trained: Set<Int>, frozenPrefix: Int,
    added: AddedMemory, trainsInput: Bool = false
  ) {
    self.added = added
    self.trainsInput = trainsInput
    self.model = model
    self.rank = rank
    self.trained = trained
    self.frozenPrefix = frozenPrefix
    // What is kept in the place of what went in leaves none (measured).
    for block in Set(model.order) where !keepsResult {
      gap = max(gap, Double(model.sizes(ofBlock: block).feedForwardSize) + factor(block))
      gap = max(gap, (mixing ?? 0) + factor(block))
    }
  }

  private var hidden: Double { Double(model.hiddenSize) }
  private var branches: Double { model.keys.gate == nil ? 1 : 2 }
  /// Values of a row between the layers that mix tokens, where those stand in the place of attention.
  private var mixing: Double? {
    model.tokenMixing.map { Double($0) * hidden / Double(model.contextLength) }
  }
  /// Whether the activation function's result is kept, and what goes into it is not: of those whose slopes follow from it.
  private var keepsResult: Bool {
    switch model.feedForward {
    case .plain(.relu), .plain(.tanh): true
    default: false
    }
  }
  /// What a norm keeps of a row beside what goes into it.
  private var normStatistics: Double {
    if case .layer = model.norm { 2 } else { 1 }
  }

  /// Kept of a block for its backward pass, for each row.
  private func kept(_ block: Int) -> Double {
    let keys = model.keys.ofBlock(block)
    let (sizes, linears) = (model.sizes(ofBlock: block), keys.linearPaths.count)
    let queries = Double(sizes.heads * model.headWidth)
    let trains = trained.contains(block)
    let inner = branches * Double(sizes.feedForwardSize)
    let own = bottleneck(block) + (trains ? Double(added.values) : 0)
    if let mixing {
      // Rows the other way round are as many as there are channels, and nobody can compute them again.
      let lowRank = trains ? Double(rank * 2) * (1 + hidden / Double(model.contextLength)) : 0
      return 2 * hidden + (trains ? hidden : 0) + mixing + inner + lowRank + 2 * normStatistics
        + own
    }
    let lowRank = trains ? Double(rank * linears) : 0
    let statistics = 2 * Double(sizes.heads) + 2 * normStatistics
    // What a decoder keeps of looking at an encoder: another state, queries and what they get.
    let cross = keys.cross == nil ? 0 : hidden + 2 * queries
    return 2 * hidden + 2 * queries + keyValues(block) + inner + lowRank + statistics
      + cross + furtherNorms(block) + own
  }

  /// What goes into norms that not every family has: of heads, and behind sublayers where there are norms before them as well.
  private func furtherNorms(_ block: Int) -> Double {
    let sizes = model.sizes(ofBlock: block)
    var sum = 0.0
    if model.keys.queryNorm != nil { sum += Double(sizes.heads * (model.headWidth + 1)) }
    if model.keys.keyNorm != nil { sum += Double(sizes.keyValueHeads * (model.headWidth + 1)) }
    if model.normPlace == .around { sum += 2 * (hidden + normStatistics) }
    return sum
  }

  /// Kept of a block's bottleneck adapters, for each row: what goes into their two layers, and into GELU.
  private func bottleneck(_ block: Int) -> Double {
    added.bottleneck > 0 && trained.contains(block)
      ? 2 * (hidden + 2 * Double(added.bottleneck)) : 0
  }

  /// Keys and values of a row.
  private func keyValues(_ block: Int) -> Double {
    Double(2 * model.sizes(ofBlock: block).keyValueHeads * model.headWidth)
  }

  /// The inner widths of a layer's factors, the largest.
  private func factor(_ block: Int) -> Double {
    if model.variation.ranks.isEmpty { return 0 }
    let name = model.keys.block(block)
    return model.keys.ofBlock(block).linearPaths.reduce(0) {
      max($0, Double(model.variation.ranks["\(name).\($1)"] ?? 0))
    }
  }

  /// In flight in a block's backward pass, for each row, beside what it keeps.
  private func flight(_ block: Int) -> Double {
    let sizes = model.sizes(ofBlock: block)
    let inner = Double(sizes.feedForwardSize)
    let queries = Double(sizes.heads * model.headWidth)
    // The activation function's gradient, its values once more, and its slopes; or its gradient alone, where the result says the slopes.
    let activation = keepsResult ? inner : 3 * inner
    // And those of what goes into it; and attention's, when those are gone.
    let attention =
      mixing.map { 3 * $0 + hidden - branches * inner }
      ?? queries + keyValues(block) + max(queries, 2 * hidden) - branches * inner
    let lowRank = trained.contains(block) ? Double(2 * rank) : 0
    // Of a bottleneck: the gradients of its result, of what goes into it, and between its layers.
    let bottleneck = bottleneck(block) > 0 ? 2 * hidden + 2 * Double(added.bottleneck) : 0
    // Of virtual tokens: a copy of the states without them, and gaps that copies of keys and values leave (measured).
    let virtual = added.prompt + added.prefix > 0 ? 2 * hidden : 0
    let own =
      max(activation, branches * inner + 2 * hidden, attention) + factor(block) + lowRank
      + bottleneck + virtual
    // A gradient that goes on beside a norm and one that comes out of it.
    let beside = model.normPlace == .around ? hidden : 0
    return hidden + gap + own + beside
  }

  /// In flight in a block's forward pass, for each row, where nothing is kept.
  private func passing(_ block: Int) -> Double {
    let sizes = model.sizes(ofBlock: block)
    let queries = Double(sizes.heads * model.headWidth)
    return 3 * hidden + factor(block)
      + max(
        (branches + 1) * Double(sizes.feedForwardSize),
        mixing.map { 2 * $0 } ?? 2 * queries + keyValues(block))
  }

  /// The most, however the rows of a model with an encoder divide into sources and targets: what each stack takes grows with its own.
  ///
  /// - Parameters:
  ///   - rows: tokens of a part of a step.
  ///   - predicted: rows from which something is predicted.
  ///   - context: of the longest sequence.
  ///   - logitRows: rows of logits that a thread holds at a time.
  ///   - isDivided: whether threads divide sequences; each then has a copy of the keys and values before its own.
  func floats(
    rows: Double, predicted: Double, context: Double, threads: Int, logitRows: Int,
    checkpointing: Bool, isDivided: Bool
  ) -> Double {
    func floats(sources: Double) -> Double {
      self.floats(
        rows: rows, predicted: predicted, sources: sources, context: context, threads: threads,
        logitRows: logitRows,
        checkpointing: checkpointing, isDivided: isDivided && !model.hasEncoder)
    }
    return model.hasEncoder ? max(floats(sources: 0), floats(sources: rows)) : floats(sources: 0)
  }

  /// - Parameter sources: how many of the rows an encoder reads.
  func floats(
    rows: Double, predicted: Double, sources: Double, context: Double, threads: Int, logitRows: Int,
    checkpointing: Bool, isDivided: Bool
  ) -> Double {
    let places = Array(model.order.dropFirst(frozenPrefix))
    let copies = isDivided ? Double(threads - 1) * context : 0
    let targets = rows - sources
    func own(_ block: Int) -> Double {
      !model.hasEncoder || model.keys.isInDecoder(block) ? targets : sources
    }
    /// Keys and values that a decoder's block makes of what the encoder says.
    func crossed(_ block: Int) -> Double {
      model.keys.isInDecoder(block) ? sources * keyValues(block) : 0
    }
    func held(_ block: Int) -> Double {
      own(block) * kept(block) + copies * keyValues(block) + crossed(block)
    }
    /// Of backward passes, the one that takes the most.
    var backward = 0.0
    /// What is kept when the last block is done; first, below the blocks.
    var all = rows * inputs
    // Both stacks' states in one matrix, and what the encoder says.
    let beside = model.hasEncoder ? rows * hidden + sources * hidden : 0
    for (index, block) in places.enumerated() {
      let inFlight =
        own(block) * flight(block) + 2 * copies * keyValues(block) + crossed(block) + beside
      if checkpointing, index < places.count - 1 {
        // Inputs of blocks, and this one again with its output. Norms behind keep sums, so that the block's input comes on top.
        let input = model.normPlace == .after ? rows * hidden : 0
        backward = max(backward, all + held(block) + own(block) * hidden + input + inFlight)
        all += own(block) * hidden
      } else {
        all += held(block)
        backward = max(backward, all + inFlight)
      }
    }
    let frozen = model.order.prefix(frozenPrefix).reduce(0) {
      max($0, own($1) * passing($1) + crossed($1) + beside)
    }
    // The final norm's output and its gradient, of which one fits in the gap; and the last block's output, which is counted already where stacks are joined.
    let normed = max(2 * hidden, hidden + gap)
    let output = model.hasEncoder ? targets * normed : rows * (hidden + normed)
    let head =
      all + beside + output + logits(rows: predicted, threads: threads, logitRows: logitRows)
    return max(backward, frozen, head) + workspace(context: context, threads: threads)
  }

  /// Kept below the blocks, for each row: what goes into a trained projection of patches, and into a norm of the embedding.
  private var inputs: Double {
    guard trainsInput else { return 0 }
    return (model.image.map { Double($0.patchSize) } ?? 0)
      + (model.keys.embeddingNorm == nil ? 0 : hidden + normStatistics)
  }

  /// Equal chunks of whole tiles' rows, blocks of at most 768 columns; and rows that are gathered for them where not every row has a
  /// target.
  private func logits(rows: Double, threads: Int, logitRows: Int) -> Double {
    let own = (rows / Double(threads)).rounded(.up)
    let chunks = (own / Double(logitRows)).rounded(.up)
    let chunk = (own / max(chunks, 1)).rounded(.up) + 8
    let columns = model.outputCount + min(768, 48 + model.outputCount / 16)
    return Double(threads) * chunk * (Double(columns) + 2 * hidden)
  }

  /// Panels of products, blocks of attention.
  private func workspace(context: Double, threads: Int) -> Double {
    let width = Double(model.headWidth) + 48
    return Double(threads)
      * (64 * 840 + (context + Double(added.prefix)) * (2 * 96 + 4 * width)
        + behindPrefix(context: context))
  }

  /// Keys and values with those of a prefix in front, their gradients, and the prefix's own.
  private func behindPrefix(context: Double) -> Double {
    if added.prefix == 0 { return 0 }
    let widest = trained.reduce(0) { max($0, keyValues($1)) }
    return widest * (2 * (context + Double(added.prefix)) + Double(added.prefix))
  }
}

/// What methods beside LoRA and the model's own weights add to the activations of a step.
struct AddedMemory {
  /// Rows in front of each sequence.
  var prompt = 0
  /// Keys and values in front of each sequence's.
  var prefix = 0
  /// Values between a bottleneck adapter's layers.
  var bottleneck = 0
  /// Values of a row that the layers of a block keep beside what they would: before they are scaled, after some are dropped.
  var values = 0

  init() {}

  /// What is in a model.
  init(of model: TransformerModel) {
    prompt = model.promptLength
    prefix = model.virtualTokens - model.promptLength
    bottleneck = model.blocks.reduce(0) {
      max($0, $1.attentionAdapter?.size ?? 0, $1.feedForwardAdapter?.size ?? 0)
    }
    values = model.blocks.reduce(0) { most, block in
      max(
        most,
        block.linears.reduce(0) { sum, linear in
          var sum = sum
          if linear.magnitude != nil { sum += linear.outputs }
          if linear.outputScale != nil { sum += 2 * linear.outputs }
          if linear.inputScale != nil { sum += 2 * linear.inputs }
          if let pair = linear.lowRank, pair.dropout > 0 {
            sum += linear.inputs + pair.down.shape[0]
            // What is lost, with its sign and without, and what W makes of it.
            if linear.magnitude != nil { sum += 2 * linear.inputs + linear.outputs }
          }
          return sum
        })
    }
  }
}
