import PeatData
import PeatModels
import PeatTensor
import PeatTuning

/// Measures how well a model with a head of classes tells texts apart.
public struct ClassificationMeasure: Sendable {
  public var threads: Int

  public init(threads: Int = 1) { self.threads = threads }

  /// - Parameters:
  ///   - dataset: texts or pictures of the model's classes, one in a window.
  ///   - shouldStop: asked between texts; true ends the measurement with `interrupted`.
  /// - Throws: `usage` where the model has no head of classes, or reads no texts as long as the dataset's.
  public func report(
    _ model: TransformerModel, _ dataset: TokenDataset,
    shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> ClassificationReport {
    guard let head = model.head, let labels = head.layout.labels else {
      throw PeatError.usage(
        "This model of the type \(model.configuration.modelType) has no head of classes.")
    }
    try dataset.check(vocabularySize: model.configuration.vocabularySize)
    // Pictures have as many patches as the model says.
    if dataset.patches == nil { try model.checkContext(dataset.context) }
    let batches = Array(dataset.batches(rows: 1))
    // Nothing where a window has no class; no prediction where the model computes no numbers.
    let found: [(right: Int, predicted: Int?)?] = try concurrently(
      count: batches.count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in
      let batch = batches[number]
      let states = batch.withInputs {
        model.hiddenStates($0, layout: batch.layout, on: tape)
      }
      guard let row = batch.targets.firstIndex(where: { $0 >= 0 }) else {
        return nil
      }
      let logits = head.logits(states.rows(row..<row + 1), on: tape)
      return (
        Int(batch.targets[row]), logits.isFinite ? logits.columnOfMaximum(row: 0) : nil
      )
    }
    let answers = try found.compactMap { $0 }.map { right, predicted in
      guard let predicted else {
        throw PeatError.badData(
          "The model computes NaN or infinity: its weights are damaged, or the adapter diverged.")
      }
      return (right: right, predicted: predicted)
    }
    return try ClassificationReport(answers, labels: labels)
  }
}
