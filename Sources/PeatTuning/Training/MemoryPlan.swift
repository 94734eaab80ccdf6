import PeatModels
import PeatTensor

/// How a model is kept and a step computed so that a process stays below a limit of memory.
public struct MemoryPlan: Sendable, Codable, Equatable {
  /// How frozen matrices are kept.
  public var storage: WeightStorage
  /// Whether each block is computed again in the backward pass.
  public var checkpointing: Bool
  /// The parts that a step is computed in.
  public var accumulation: Int
  /// Rows of logits that a thread holds at a time.
  public var logitRows: Int
  /// What the process will take at most, by estimate.
  public var bytes: Int

  public init(
    storage: WeightStorage, checkpointing: Bool, accumulation: Int, logitRows: Int, bytes: Int
  ) {
    self.storage = storage
    self.checkpointing = checkpointing
    self.accumulation = accumulation
    self.logitRows = logitRows
    self.bytes = bytes
  }

  /// The same settings in words.
  public var summary: String {
    var parts = ["\(storage.rawValue) weights"]
    if checkpointing { parts.append("checkpointing") }
    if accumulation > 1 { parts.append("\(accumulation) parts per step") }
    if logitRows < MemoryDemands.usualLogitRows(checkpointing: checkpointing) {
      parts.append("\(logitRows) rows of logits")
    }
    return parts.joined(separator: ", ")
  }
}

/// What a tuning run asks of memory, before anything of it is there.
public struct MemoryDemands: Sendable {
  /// Rows of logits that a thread holds at a time where nothing is said. More of them bring the head's weights into panels
  /// less often; who computes blocks twice to save memory does not want them.
  public static func usualLogitRows(checkpointing: Bool) -> Int { checkpointing ? 256 : 512 }

  public var model: TransformerConfiguration
  /// Blocks of the model, from the bottom, in which nothing trains: they keep nothing.
  public var frozenPrefix: Int
  /// Values that train.
  public var trainable: Int
  /// How many of them are weights of the model itself, which stay float32 and are held twice.
  public var trainableWeights: Int
  /// Low-rank updates in a block.
  public var rank: Int
  public var batch: Int
  public var context: Int
  public var threads: Int
  /// Whether batches differ in shape, so that threads divide sequences.
  public var isRagged = false
  /// Copies of what trains, beside the values, moments and gradients of a step: an adapter as it was and as it is written, and a state
  /// that is saved.
  public var adapterCopies = 5
  /// Bytes of a value as it lies in the model's files, where that is not what computations see: 0, or 2 for halves.
  public var fileBytesPerWeight = 0

  /// - Parameters:
  ///   - method: what is tuned; `nil`: every weight.
  ///   - blocks: the blocks it sits in, numbered in this model.
  public init(
    model: TransformerConfiguration, method: Adapter.Method?, blocks: [Int], batch: Int,
    context: Int, threads: Int
  ) {
    self.model = model
    self.batch = batch
    self.context = context
    self.threads = max(threads, 1)
    let perBlock = model.blockMatrixWeights + model.blockVectorWeights
    switch method {
    case .lora(let configuration):
      rank = configuration.rank
      trainable =
        blocks.count * rank * model.linearSizes.reduce(0) { $0 + $1.inputs + $1.outputs }
      trainableWeights = 0
      frozenPrefix = blocks.min() ?? 0
    case .endBlocks:
      rank = 0
      trainable = blocks.count * perBlock
      trainableWeights = trainable
      frozenPrefix = blocks.min() ?? 0
    case nil:
      rank = 0
      trainable =
        model.storedMatrixWeights + model.blockCount * model.blockVectorWeights
        + model.tableWeights + model.otherWeights
      trainableWeights = trainable
      frozenPrefix = 0
    }
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

  /// Bytes of the weights in a storage.
  public func weightBytes(_ storage: WeightStorage) -> Double {
    let matrices = model.storedMatrixWeights + model.tableWeights
    let vectors = model.blockCount * model.blockVectorWeights + model.otherWeights
    let dense = min(trainableWeights, matrices)
    return Double(matrices - dense) * storage.bytesPerWeight + 4 * Double(dense + vectors)
  }

  /// Bytes of a process that tunes so.
  ///
  /// - Parameter base: what the process takes before the model is there.
  public func bytes(
    storage: WeightStorage, checkpointing: Bool, accumulation: Int, logitRows: Int, base: Int
  ) -> Int {
    let windows = (Double(batch) / Double(accumulation)).rounded(.up)
    let rows = windows * Double(context)
    let queries = Double(model.heads * model.headWidth)
    let keyValues = Double(2 * model.keyValueHeads * model.headWidth)
    let hidden = Double(model.hiddenSize)
    let inner = Double(model.feedForwardSize)
    let branches = model.keys.gate == nil ? 1.0 : 2.0
    // Kept of a block for its backward pass: both residual streams, queries, keys, values, what attention gives, what goes
    // into the activation function, the low-rank projections, statistics.
    let block =
      2 * hidden + 2 * queries + keyValues + branches * inner
      + Double(rank * model.linearSizes.count) + 2 * Double(model.heads) + 8
    // Where threads divide a sequence, each has a copy of its keys and values.
    let isDivided = windows.truncatingRemainder(dividingBy: Double(threads)) != 0 || isRagged
    let copies = isDivided ? Double(threads - 1) * Double(context) * keyValues : 0
    // In flight beside it: values computed again, slopes, and gradients of the widest parts.
    let flight = 3 * inner * branches + 4 * hidden + queries + keyValues
    let recorded = Double(model.depth - frozenPrefix)
    let kept = checkpointing ? recorded * hidden + block : recorded * block
    let workers = Double(threads)
    let chunk = min(Double(logitRows), rows / workers)
    let logits = workers * (chunk + 16) * (Double(model.vocabularySize) + 768 + 2 * hidden)
    // Tokens and targets of the whole batch, and of the one before.
    let tokens = 6 * Double(batch) * Double(context)
    // Panels of the products, blocks of attention.
    let packing = workers * (64 * 840 + 2 * 96 * Double(context) + 8 * Double(context) * 128)
    // Values, moments and gradients.
    let optimizer = Double(trainable) * (3 + workers + Double(adapterCopies))
    let floats =
      rows * (kept + flight + 2 * hidden) + tokens + copies
      * (checkpointing ? 2 : recorded + 2) + logits
      + packing + optimizer
    // Between buffers there are gaps, and the allocator keeps a little.
    let step = (weightBytes(storage) + 4 * floats) * 1.03
    // More than any machine has is enough to know.
    return base + Int(min(max(step, loadingBytes(storage)), 1e17)) + 16_000_000
  }

  /// While weights are packed, and while the files' digest is computed, a matrix stands beside them as it lies in its file.
  private func loadingBytes(_ storage: WeightStorage) -> Double {
    let table = Double(model.vocabularySize * model.hiddenSize)
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

extension StoragePlan {
  /// What a method trains stays float32; all else is frozen and kept in a storage.
  ///
  /// - Parameters:
  ///   - method: what is tuned; `nil`: every weight.
  ///   - blocks: the blocks it sits in, numbered in the checkpoint.
  public static func frozen(
    as storage: WeightStorage, tuning method: Adapter.Method?, blocks: [Int],
    of model: TransformerConfiguration
  ) -> StoragePlan {
    switch method {
    case .lora: return .all(storage)
    case .endBlocks:
      let trained = blocks.map { model.keys.block($0) + "." }
      return StoragePlan { name in
        trained.contains { name.hasPrefix($0) } ? .float32 : storage
      }
    case nil: return .all(.float32)
    }
  }
}
