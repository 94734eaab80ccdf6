import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers
import PeatTuning
import Synchronization

/// Measures how well a model with a head of classes tells texts apart.
public struct ClassificationMeasure: Sendable {
  public var context: Int
  public var threads: Int

  public init(context: Int, threads: Int = 1) {
    self.context = context
    self.threads = threads
  }

  /// - Parameters:
  ///   - documents: texts with their class in the field `label`.
  ///   - shouldStop: asked between texts; true ends the measurement with `interrupted`.
  /// - Throws: `usage` where the model has no head of classes; `badData` where a text's class is none of its.
  public func report(
    _ model: TransformerModel, tokenizer: Tokenizer, documents: [Document],
    shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> ClassificationReport {
    guard let head = model.head, let labels = head.layout.labels else {
      throw PeatError.usage(
        "This model of the type \(model.configuration.modelType) has no head of classes.")
    }
    let dataset = try ClassificationTask(labels: labels, atFirst: head.layout.place == .first)
      .dataset(
        documents, tokenizer: tokenizer, context: min(context, model.contextLength))
    try dataset.check(vocabularySize: model.configuration.vocabularySize)
    let batches = Array(dataset.batches(rows: 1))
    let predicted = Mutex<[Int?]>(Array(repeating: nil, count: batches.count))
    let loss = try concurrentLoss(
      count: batches.count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in
      let batch = batches[number]
      let states = batch.tokens.withUnsafeBufferPointer {
        model.hiddenStates($0, layout: batch.layout, on: tape)
      }
      guard let row = batch.targets.firstIndex(where: { $0 >= 0 }) else {
        return TokenLoss(sum: 0, count: 0)
      }
      let logits = head.logits(states.rows(row..<row + 1), on: tape)
      guard logits.isFinite else { return TokenLoss(sum: .nan, count: 1) }
      predicted.withLock { $0[number] = logits.columnOfMaximum(row: 0) }
      return TokenLoss(sum: 0, count: 1)
    }
    guard loss.sum.isFinite else {
      throw PeatError.badData(
        "The model computes NaN or infinity: its weights are damaged, or the adapter diverged.")
    }
    let found = predicted.withLock { $0 }
    return try ClassificationReport(
      zip(batches, found).compactMap { batch, predicted in
        guard let predicted, let right = batch.targets.first(where: { $0 >= 0 }) else {
          return nil
        }
        return (right: Int(right), predicted: predicted)
      }, labels: labels)
  }
}
