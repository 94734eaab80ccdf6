import Foundation

/// How much memory a device gives to tuning, and how it keeps frozen weights.
public struct DeviceMemory: Sendable {
  /// How frozen weights are kept; `nil`: as float32, or as the limit makes necessary.
  public var storage: WeightStorage?
  /// Bytes that the process must stay below; `nil`: no limit.
  public var limit: Int?
  /// Called with what was chosen to stay below the limit.
  public var onPlan: @Sendable (MemoryPlan) -> Void

  public init(
    storage: WeightStorage? = nil, limit: Int? = nil,
    onPlan: @escaping @Sendable (MemoryPlan) -> Void = { _ in }
  ) {
    self.storage = storage
    self.limit = limit
    self.onPlan = onPlan
  }

  /// Throws where tuning through an emulator can't stay below the limit, however small the batch.
  func check(_ checkpoint: Checkpoint, threads: Int) throws {
    guard let limit else { return }
    _ = try MemoryDemands(
      model: checkpoint.configuration, packed: checkpoint.packedStorages,
      method: .lora(try LoRAConfiguration(rank: 1, alpha: 1)), blocks: [], batch: 1, context: 1,
      threads: threads
    ).plan(
      below: limit, storage: storage,
      base: ProcessMeasurement.memoryBytes)
  }

  /// Throws where tuning through an emulator whose weights are not here yet would take more than the limit, or where there is none, more than is free.
  ///
  /// - Parameter folder: holds the emulator's other files.
  func check(_ folder: URL, level: Int, for settings: LocalTuning, threads: Int) throws {
    let outline = try CheckpointOutline(folder: folder)
    let facts = try EmulatorFacts.read(in: folder)
    let demands = try demands(
      of: outline.configuration, outline.packedStorages,
      blocks: facts.endBlocks(of: outline.configuration), settings, threads)
    let base = ProcessMeasurement.memoryBytes
    let training = settings.training
    if let limit {
      _ = try demands.plan(
        below: limit, storage: storage, checkpointing: training.checkpointing,
        accumulation: training.accumulation, base: base)
      return
    }
    guard let free = ProcessMeasurement.freeMemoryBytes else { return }
    let needed =
      demands.bytes(
        storage: storage ?? .float32, checkpointing: training.checkpointing,
        accumulation: training.accumulation, logitRows: training.logitRows, base: base) - base
    guard needed > free else { return }
    throw PeatError.usage(
      "Emulator \(level) is not downloaded: tuning through it would take about \(needed / 1_000_000) MB of memory, and \(free / 1_000_000) MB are free. "
        + "Close other programs, or give --memory-limit, below which weights are kept in fewer bits and steps are made in parts."
    )
  }

  /// Reads an emulator so that tuning through it stays below the limit.
  ///
  /// - Parameters:
  ///   - sequencesPerWindow: the most that a window of the data has.
  ///   - pairs: its largest pairs.
  /// - Throws: `usage` where it does not fit.
  func open(
    _ folder: URL, for settings: LocalTuning, sequencesPerWindow: Int, pairs: [PairSize],
    threads: Int
  ) throws -> (TransformerModel, MemoryPlan?) {
    let checkpoint = try Checkpoint(folder: folder)
    let facts = try EmulatorFacts.read(in: folder)
    let configuration = checkpoint.configuration
    let ends = facts.endBlocks(of: configuration)
    var demands = try demands(
      of: configuration, checkpoint.packedStorages, blocks: ends, settings, threads)
    let plan = try limit.map { limit in
      demands.isRagged = settings.layout != .stream || configuration.head?.labels != nil
      demands.sequencesPerWindow = sequencesPerWindow
      demands.pairs = pairs
      demands.fileBytesPerWeight = checkpoint.halfBytesPerWeight
      return try demands.plan(
        below: limit, storage: storage,
        checkpointing: settings.training.checkpointing,
        accumulation: settings.training.accumulation, base: ProcessMeasurement.memoryBytes)
    }
    if let plan { onPlan(plan) }
    let model = try checkpoint.model(
      storage: .frozen(
        as: plan?.storage ?? storage ?? .float32, tuning: settings.method, blocks: ends,
        of: configuration))
    return (model, plan)
  }

  /// What a task's steps take of memory, whatever the data.
  private func demands(
    of model: TransformerConfiguration, _ packed: [String: WeightStorage], blocks: [Int],
    _ settings: LocalTuning, _ threads: Int
  ) throws -> MemoryDemands {
    // The instructions come from outside.
    try settings.training.validate(
      contextLength: model.contextLength, virtualTokens: settings.method.virtualTokens)
    var demands = MemoryDemands(
      model: model, packed: packed, method: settings.method, blocks: blocks,
      batch: settings.training.batch, context: settings.training.context, threads: threads)
    demands.adapterCopies += settings.termCopies
    return demands
  }
}

extension EmulatorFacts? {
  /// The blocks that train, by their places in the folder: all, where this is no emulator.
  fileprivate func endBlocks(of model: TransformerConfiguration) -> [Int] {
    self?.localEndBlocks ?? Array(0..<model.blockCount)
  }
}
