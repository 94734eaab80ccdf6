import PeatData
import PeatModels
import PeatTensor

/// What a tuning run asks of memory, before anything of it is there.
public struct MemoryDemands: Sendable {
  /// Rows of logits that a thread holds at a time where nothing is said. More of them bring the head's weights into panels
  /// less often; who computes blocks twice to save memory does not want them.
  public static func usualLogitRows(checkpointing: Bool) -> Int { checkpointing ? 256 : 512 }

  /// Rows of logits on each thread for who wants to hold no more than 32 MB of them on all threads together, but enough for products to be worth their while.
  package static func fewLogitRows(vocabulary: Int, threads: Int) -> Int {
    max(24, min(256, (8 << 20) / (max(vocabulary, 1) * max(threads, 1))))
  }

  public var model: TransformerConfiguration
  /// How an emulator's file keeps matrices, by name; in memory they stay so, whatever is asked for.
  public var packed: [String: WeightStorage]
  /// Stored blocks in which something trains.
  let trained: Set<Int>
  /// Blocks that are run first and in which nothing trains: they keep nothing.
  public var frozenPrefix: Int
  /// Values that train.
  public var trainable: Int
  /// How many of them are weights of the model itself, which stay float32 and are held twice.
  public var trainableWeights: Int
  /// Low-rank updates in a block that trains.
  public var rank: Int
  /// What other methods add to a step's activations.
  var added = AddedMemory()
  public var batch: Int
  public var context: Int
  public var threads: Int
  /// Whether batches differ in shape, so that threads divide sequences.
  public var isRagged = false
  /// The most sequences in a window: each has a prompt's rows in front.
  public var sequencesPerWindow = 1
  /// The largest pairs of the data, where an encoder reads a part of each window; empty: any are possible.
  public var pairs: [PairSize] = []
  /// Copies of what trains, beside the values, moments and gradients of a step: an adapter as it was and as it is written, and a state
  /// that is saved.
  public var adapterCopies = 5
  /// Whether threads add to one gradient instead of one of their own each.
  var sharesGradient = false
  /// Bytes of a value as it lies in the model's files, where that is not what computations see: 0, or 2 for halves.
  public var fileBytesPerWeight = 0

  /// - Parameters:
  ///   - packed: the matrices that an emulator keeps packed, by name.
  ///   - method: what is tuned; `nil`: every weight.
  ///   - blocks: the stored blocks it sits in, numbered in this model.
  public init(
    model: TransformerConfiguration, packed: [String: WeightStorage] = [:],
    method: Adapter.Method?, blocks: [Int], batch: Int, context: Int, threads: Int
  ) {
    self.model = model
    self.packed = packed
    self.batch = batch
    self.context = context
    self.threads = max(threads, 1)
    var blocks = blocks
    if case .prefixTuning = method { blocks = blocks.filter(model.keys.takesPrefix) }
    trained = method == nil ? Set(0..<model.blockCount) : Set(blocks)
    frozenPrefix = model.order.firstIndex(where: trained.contains) ?? 0
    rank = 0
    switch method {
    case .lora(let configuration):
      // Of patterns the largest rank, as if all layers had it: the plan errs on the safe side.
      let largest = ([configuration.rank] + configuration.rankPattern.values).max() ?? 0
      rank = largest
      let sizes = blocks.map {
        model.targetSizes(ofBlock: $0, try? configuration.targets(of: model.keys))
      }
      trainable = sizes.joined().reduce(0) {
        $0 + largest * ($1.inputs + $1.outputs) + (configuration.usesMagnitudes ? $1.outputs : 0)
      }
      added.values = sizes.reduce(0) { most, linears in
        max(
          most,
          linears.reduce(0) {
            $0 + (configuration.usesMagnitudes ? $1.outputs : 0)
              + (configuration.dropout > 0 ? $1.inputs + largest : 0)
              + (configuration.dropout > 0 && configuration.usesMagnitudes
                ? 2 * $1.inputs + $1.outputs : 0)
          })
      }
      trainableWeights = 0
    case .ia3(let configuration):
      let targets = try? configuration.targets(of: model.keys)
      let feedForward = try? configuration.feedForward(of: model.keys)
      var total = 0
      for block in blocks {
        var own = 0
        for (path, size) in zip(
          model.keys.ofBlock(block).linearPaths, model.linearSizes(ofBlock: block))
        where targets?.contain(path) ?? true {
          own += feedForward?.contain(path) == true ? size.inputs : size.outputs
        }
        added.values = max(added.values, 2 * own)
        total += own
      }
      trainable = total
      trainableWeights = 0
    case .normTuning, .bitFit:
      // At most all vectors.
      trainable = blocks.reduce(0) { $0 + model.vectorWeights(ofBlock: $1) }
      trainableWeights = 0
    case .endBlocks:
      trainable = blocks.reduce(0) {
        $0 + model.matrixWeights(ofBlock: $1) + model.vectorWeights(ofBlock: $1)
      }
      trainableWeights = trainable
    case .prefixTuning(let configuration):
      added.prefix = configuration.virtualTokens
      trainable = blocks.reduce(0) {
        $0 + 2 * configuration.virtualTokens * model.sizes(ofBlock: $1).keyValueHeads
          * model.headWidth
      }
      trainableWeights = 0
    case .promptTuning(let configuration):
      added.prompt = configuration.virtualTokens
      trainable = configuration.virtualTokens * model.embeddingWidth
      trainableWeights = 0
      // It goes in at the bottom, and its gradient comes through all blocks.
      frozenPrefix = 0
    case .bottleneck(let configuration):
      added.bottleneck = configuration.size
      trainable =
        2 * blocks.count
        * (2 * configuration.size * model.hiddenSize + configuration.size + model.hiddenSize)
      trainableWeights = 0
    case nil:
      trainable =
        model.storedMatrixWeights + model.tableWeights + model.otherWeights
        + (0..<model.blockCount).reduce(0) { $0 + model.vectorWeights(ofBlock: $1) }
      trainableWeights = trainable
    }
    // A head of classes trains beside every method.
    if method != nil { trainable += model.tunedHeadWeights }
  }

  /// Whether no matrix is frozen.
  private var trainsEverything: Bool {
    trainableWeights >= model.storedMatrixWeights + model.tableWeights
  }

  /// Throws where frozen weights are to be packed and none is frozen.
  public func check(_ storage: WeightStorage) throws {
    if storage != .float32, trainsEverything {
      throw PeatError.usage(
        "Weights kept as \(storage.rawValue) are frozen, but all of this model's train. Leave the storage out, or tune an adapter."
      )
    }
  }

  /// Bytes of the weights, frozen ones that no file keeps packed in a storage.
  public func weightBytes(_ storage: WeightStorage) -> Double {
    var bytes = 4 * model.otherWeights
    for block in 0..<model.blockCount {
      let trains = trainableWeights > 0 && trained.contains(block)
      for matrix in model.matrices(ofBlock: block) {
        let own = packed[matrix.name] ?? (trains ? .float32 : storage)
        bytes += own.bytes(inputs: matrix.inputs, outputs: matrix.outputs)
      }
      bytes += 4 * model.vectorWeights(ofBlock: block)
    }
    let table = trainsEverything ? .float32 : storage
    // A projection of patches is no table that may be packed.
    bytes += (model.image == nil ? table : .float32).bytes(
      inputs: model.embeddingWidth, outputs: model.vocabularySize)
    if model.head != nil, !model.tiesEmbeddings {
      bytes += table.bytes(inputs: model.embeddingWidth, outputs: model.outputCount)
    }
    return Double(bytes)
  }

  /// Bytes of a process that is about to read a model, on Linux (measured): for who plans for another one.
  public static let bareProcess = 37_000_000

  /// Bytes that a process takes at most beside what is counted: code that is read as it is needed, stacks, what the allocator keeps
  /// (measured: up to 1 MB; what is planned allows for more).
  private static let reserve = 3_000_000

  /// Bytes that a step's activations take at the fullest moment, all threads together.
  package func activationBytes(
    checkpointing: Bool, accumulation: Int, logitRows: Int
  ) -> Double {
    let windows = (Double(batch) / Double(accumulation)).rounded(.up)
    let length = Double(context + added.prompt)
    let rows = Double(context + added.prompt * sequencesPerWindow)
    let memory = StepMemory(
      model: model, rank: rank, trained: trained, frozenPrefix: frozenPrefix, added: added,
      trainsInput: trainsEverything)
    if !pairs.isEmpty, model.hasEncoder {
      return 4
        * pairs.reduce(0) { most, pair in
          let (source, target) = (Double(pair.source + added.prompt), Double(pair.target))
          return max(
            most,
            memory.floats(
              rows: windows * (source + target), predicted: windows * target,
              sources: windows * source, context: max(source, target), threads: threads,
              logitRows: logitRows, checkpointing: checkpointing, isDivided: false))
        }
    }
    return 4
      * memory.floats(
        rows: windows * rows, predicted: model.head?.labels == nil ? windows * rows : windows,
        context: length, threads: threads,
        logitRows: logitRows, checkpointing: checkpointing,
        isDivided: model.attention.isCausal
          && (windows.truncatingRemainder(dividingBy: Double(threads)) != 0 || isRagged))
  }

  /// Bytes of a process that tunes so.
  ///
  /// - Parameter base: what the process takes before the model is there.
  public func bytes(
    storage: WeightStorage, checkpointing: Bool, accumulation: Int, logitRows: Int, base: Int
  ) -> Int {
    let step =
      weightBytes(storage)
      + stepBytes(checkpointing: checkpointing, accumulation: accumulation, logitRows: logitRows)
    // More than any machine has is enough to know.
    return base + Int(min(max(step, loadingBytes(storage) + optimizerBytes), 1e17)) + Self.reserve
  }

  /// Bytes of a step, beside the weights.
  func stepBytes(checkpointing: Bool, accumulation: Int, logitRows: Int) -> Double {
    let activations = activationBytes(
      checkpointing: checkpointing, accumulation: accumulation, logitRows: logitRows)
    // Tokens and targets of the whole batch, and of the one before.
    let tokens = 4 * 6 * Double(batch) * Double(context)
    // Between buffers of activations there are gaps.
    return 1.04 * activations + tokens + optimizerBytes
  }

  /// Values, moments and gradients.
  private var optimizerBytes: Double {
    4 * Double(trainable) * Double(3 + (sharesGradient ? 1 : threads) + adapterCopies)
  }

  /// While weights are packed, and while the files' digest is computed, a matrix stands beside them as it lies in its file.
  private func loadingBytes(_ storage: WeightStorage) -> Double {
    let table = Double(model.vocabularySize * model.embeddingWidth)
    let largest = max(
      table, Double(model.linearSizes.reduce(0) { max($0, $1.inputs * $1.outputs) }))
    // Halves lie there as they are stored, and as floats.
    let beside = Double(fileBytesPerWeight) + (storage == .float32 ? 0 : 4)
    return weightBytes(storage) + beside * largest
  }

  /// The plan that costs the least time below a limit, and first the least precision: storages are tried in their order.
  ///
  /// - Parameters:
  ///   - limit: in bytes, for the whole process.
  ///   - storage: the one that was asked for; `nil`: any.
  ///   - checkpointing: whether it was asked for anyway.
  ///   - accumulation: in how many parts at least.
  ///   - base: what the process takes already.
  /// - Throws: `usage` where nothing fits, with what would be needed.
  public func plan(
    below limit: Int, storage asked: WeightStorage? = nil,
    checkpointing: Bool = false, accumulation: Int = 1, base: Int
  ) throws -> MemoryPlan {
    var smallest: MemoryPlan?
    for storage in asked.map({ [$0] }) ?? WeightStorage.allCases
    where storage == .float32 || !trainsEverything {
      var best: (plan: MemoryPlan, cost: Double)?
      for checkpoint in checkpointing ? [true] : [false, true] {
        // Equal parts: one that is smaller than the others saves nothing.
        for parts in accumulation...max(accumulation, min(batch, 4096))
        where parts == accumulation || batch % parts == 0 {
          for rows in [512, 256, 128, 64] {
            let bytes = bytes(
              storage: storage, checkpointing: checkpoint, accumulation: parts, logitRows: rows,
              base: base)
            let plan = MemoryPlan(
              storage: storage, checkpointing: checkpoint, accumulation: parts, logitRows: rows,
              bytes: bytes)
            if smallest.map({ bytes < $0.bytes }) ?? true { smallest = plan }
            let cost = relativeTime(plan)
            if bytes <= limit, best.map({ cost < $0.cost }) ?? true { best = (plan, cost) }
          }
        }
      }
      if let best { return best.plan }
    }
    let least = Double(smallest?.bytes ?? 0) / 1e6
    let stated = limit < 1_000_000 ? "\(limit) bytes" : "\(limit / 1_000_000) MB"
    throw PeatError.usage(
      "A limit of \(stated) is too little for this: \(smallest?.summary ?? "") would take about "
        + "\(least.rounded(.up).formatted(.number.grouping(.never))) MB. Allow more, make the batch or the context smaller, or tune a smaller emulator."
    )
  }

  /// Time of a step, against one that has all the memory it wants: panels of weights are filled for each group of rows,
  /// and checkpointing computes blocks twice.
  private func relativeTime(_ plan: MemoryPlan) -> Double {
    let parts = (Double(batch) / Double(plan.accumulation)).rounded(.up) * Double(context)
    let rows = max(1, parts / Double(threads))
    let fill = 1 + 20 / rows + 5 / min(rows, Double(plan.logitRows))
    return fill * (plan.checkpointing ? 1.3 : 1)
  }
}

extension TransformerConfiguration {
  /// Values of a head of classes, which trains with every adapter.
  fileprivate var tunedHeadWeights: Int {
    guard let head, head.place != .each else { return 0 }
    return headWeights + (head.isTied ? 0 : outputCount * embeddingWidth)
  }

  /// The linear layers of a stored block that targets mean; all where a name is unknown, which is somebody else's to say.
  fileprivate func targetSizes(
    ofBlock block: Int, _ targets: TargetModules?
  ) -> [(inputs: Int, outputs: Int)] {
    let sizes = linearSizes(ofBlock: block)
    guard let targets else { return sizes }
    return zip(keys.ofBlock(block).linearPaths, sizes).filter { targets.contain($0.0) }.map(\.1)
  }
}
