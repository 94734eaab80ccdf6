extension TokenDataset {
  /// Mean nats per target over the whole dataset.
  ///
  /// - Parameters:
  ///   - rows: windows that are computed at a time.
  ///   - logitRows: rows of logits that a thread holds at a time.
  public func meanLoss(
    _ model: TransformerModel, rows: Int, logitRows: Int = 256, threads: Int
  ) throws -> Double {
    try check(for: model.configuration)
    let batches = Array(self.batches(rows: rows))
    return try concurrentLoss(count: batches.count, threads: threads) { number, tape in
      let batch = batches[number]
      return batch.withInputs { inputs in
        batch.targets.withUnsafeBufferPointer {
          model.loss(
            inputs, targets: $0, layout: batch.layout, on: tape, logitRows: logitRows)
        }
      }
    }.mean
  }
}
