import PeatData
import PeatModels
import PeatTensor

extension TokenDataset {
  /// Mean nats per target over the whole dataset.
  ///
  /// - Parameters:
  ///   - rows: windows that are computed at a time.
  ///   - logitRows: rows of logits that a thread holds at a time.
  public func meanLoss(
    _ model: TransformerModel, rows: Int, logitRows: Int = 256, threads: Int
  ) throws -> Double {
    try loss(model, rows: rows, logitRows: logitRows, threads: threads).mean
  }

  /// The loss of all targets.
  ///
  /// - Parameters:
  ///   - rows: windows that are computed at a time.
  ///   - logitRows: rows of logits that a thread holds at a time.
  ///   - shouldStop: asked between windows; true ends the measurement with `interrupted`.
  package func loss(
    _ model: TransformerModel, rows: Int, logitRows: Int = 256, threads: Int,
    shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> TokenLoss {
    try check(for: model.configuration)
    return try concurrentLoss(
      count: (windowCount + rows - 1) / rows, threads: threads, shouldStop: shouldStop,
      onProgress: onProgress
    ) { number, tape in
      let batch = batch(number, rows: rows)
      return batch.withInputs { inputs in
        batch.targets.withUnsafeBufferPointer {
          model.loss(
            inputs, targets: $0, layout: batch.layout, on: tape, logitRows: logitRows)
        }
      }
    }
  }
}
