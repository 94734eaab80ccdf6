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
    case .lora, .prefixTuning, .promptTuning, .bottleneck, .ia3, .normTuning, .bitFit:
      return .all(storage)
    case .endBlocks:
      let trained = blocks.map { model.keys.block($0) + "." }
      return StoragePlan { name in
        trained.contains { name.hasPrefix($0) } ? .float32 : storage
      }
    case nil: return .all(.float32)
    }
  }
}
