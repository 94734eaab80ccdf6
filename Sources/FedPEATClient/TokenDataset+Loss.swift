import Dispatch
import Foundation

extension TokenDataset {
  /// Mean nats per target over the whole dataset.
  ///
  /// - Parameter rows: windows that are computed at a time.
  public func meanLoss(_ model: TransformerModel, rows: Int, threads: Int) throws -> Double {
    try check(vocabularySize: model.configuration.vocabularySize)
    let batches = Array(self.batches(rows: rows))
    let losses = LossSlots(count: batches.count)
    let shares = min(threads, batches.count)
    DispatchQueue.concurrentPerform(iterations: shares) { share in
      let tape = Tape()
      for index in stride(from: share, to: batches.count, by: shares) {
        let batch = batches[index]
        losses.set(
          index,
          batch.tokens.withUnsafeBufferPointer { tokens in
            batch.targets.withUnsafeBufferPointer {
              model.loss(tokens, targets: $0, length: batch.context, on: tape)
            }
          })
      }
    }
    return losses.total.mean
  }
}

/// Losses by index, written from several threads and summed in order, so that the sum does not depend on timing.
private final class LossSlots: @unchecked Sendable {
  private let lock = NSLock()
  private var slots: [TokenLoss]

  init(count: Int) { slots = Array(repeating: TokenLoss(sum: 0, count: 0), count: count) }

  func set(_ index: Int, _ value: TokenLoss) {
    lock.withLock { slots[index] = value }
  }

  var total: TokenLoss { lock.withLock { slots.reduce(TokenLoss(sum: 0, count: 0), +) } }
}
