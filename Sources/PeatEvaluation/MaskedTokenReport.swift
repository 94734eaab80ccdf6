import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTuning

/// How well a model says what stands at masked places.
public struct MaskedTokenReport: Sendable, Codable, Equatable {
  /// e to the mean loss of the hidden tokens. No perplexity of the text: each hidden token is said with most of the others in sight.
  public var maskedPerplexity: Double
  /// Mean nats per hidden token.
  public var loss: Double
  /// Share of the hidden tokens that the model holds most probable.
  public var accuracy: Double
  /// Hidden tokens.
  public var tokens: Int
}

/// Measures a model with a head of masked tokens on texts, always with the same tokens hidden: those that the data's own seed gives.
public struct MaskedTokenMeasure: Sendable {
  public var threads: Int

  public init(threads: Int = 1) { self.threads = threads }

  /// - Parameters:
  ///   - dataset: texts whose tokens are hidden as they are drawn.
  ///   - limit: only so many windows.
  ///   - shouldStop: asked between windows; true ends the measurement with `interrupted`.
  /// - Throws: `usage` where the model or the data is for something else, `badData` where the model computes no numbers.
  public func report(
    _ model: TransformerModel, _ dataset: TokenDataset, limit: Int? = nil,
    shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> MaskedTokenReport {
    guard model.configuration.predictsMaskedTokens, let head = model.head, dataset.masking != nil
    else {
      throw PeatError.usage(
        "This model of the type \(model.configuration.modelType) has no head of masked tokens, or the data hides none."
      )
    }
    try dataset.check(vocabularySize: model.configuration.vocabularySize)
    try model.checkContext(dataset.context)
    let count = min(limit ?? dataset.windowCount, dataset.windowCount)
    let found: [(loss: TokenLoss, right: Int)] = try concurrently(
      count: count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in
      let batch = dataset.batch(number, rows: 1)
      return batch.withInputs { inputs in
        let states = model.hiddenStates(inputs, layout: batch.layout, on: tape)
        let loss = batch.targets.withUnsafeBufferPointer {
          model.loss(of: states, targets: $0, scale: 1, on: tape, logitRows: 256)
        }
        let places = batch.targets.indices.filter { batch.targets[$0] >= 0 }
        var right = 0
        for first in stride(from: 0, to: places.count, by: 64) {
          let chosen = places[first..<min(first + 64, places.count)]
          let logits = head.logits(tape.rows(states, chosen.map { $0..<$0 + 1 }), on: tape)
          for (row, place) in chosen.enumerated()
          where logits.columnOfMaximum(row: row) == Int(batch.targets[place]) { right += 1 }
        }
        return (loss, right)
      }
    }
    let loss = found.reduce(TokenLoss(sum: 0, count: 0)) { $0 + $1.loss }
    guard exp(loss.mean).isFinite else {
      throw PeatError.badData(
        "The model's loss on this text is \(loss.mean) nats per hidden token, which makes no perplexity. Its weights are probably damaged, or the adapter diverged.",
        cause: NoPerplexity())
    }
    return MaskedTokenReport(
      maskedPerplexity: exp(loss.mean), loss: loss.mean,
      accuracy: Double(found.reduce(0) { $0 + $1.right }) / Double(max(loss.count, 1)),
      tokens: loss.count)
  }
}
