import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning

/// A public text of the owner's, on which compressions see what the middle computes.
public struct CompressionCalibration: Sendable {
  public let data: TokenDataset
  let batch: TokenBatch
  let threads: Int

  /// - Parameters:
  ///   - windows: how many of the text's windows are looked at, the first ones.
  ///   - threads: that compute.
  public init(_ data: TokenDataset, windows: Int = 32, threads: Int) {
    self.data = data
    var sampler = BatchSampler(data, .sequential, rows: min(windows, data.windowCount), seed: 0)
    batch = sampler.next()
    self.threads = threads
  }

  /// What goes into each block of the middle, and what comes out of the last: `[tokens, d]` each.
  ///
  /// - Parameter windows: how many, the first ones; all if not given.
  func middleStates(
    _ full: TransformerModel, _ split: ModelSplit, windows: Int? = nil
  ) -> [Tensor] {
    let windows = min(windows ?? batch.windowCount, batch.windowCount)
    let rows = batch.places(ofWindows: 0..<windows).count
    let width = full.configuration.hiddenSize
    let states = (0...split.middle.count).map { _ in Tensor(uninitialized: [rows, width]) }
    let batch = batch
    StepWorkers(count: threads, parameterCount: 0).compute(windows) { tape, window in
      let places = batch.places(ofWindows: window..<window + 1)
      let layout = batch.layout.part(places)
      batch.withInputs { inputs in
        var state = full.hiddenStates(
          below: split.bottom, inputs[places], layout: layout,
          on: tape)
        state.copyRows(to: states[0], at: places.lowerBound)
        for (place, block) in split.middle.enumerated() {
          state = full.hiddenStates(
            through: block..<block + 1, state, layout: layout, on: tape)
          state.copyRows(to: states[place + 1], at: places.lowerBound)
        }
      }
    }
    return states
  }

  /// What goes into the block of a model that is run after `count` others: `[tokens, d]`.
  func states(of model: TransformerModel, behind count: Int) -> Tensor {
    let result = Tensor(
      uninitialized: [batch.tokens.count, model.configuration.hiddenSize])
    let batch = batch
    StepWorkers(count: threads, parameterCount: 0).compute(batch.windowCount) { tape, window in
      let places = batch.places(ofWindows: window..<window + 1)
      batch.withInputs { inputs in
        model.hiddenStates(
          below: count, inputs[places],
          layout: batch.layout.part(places), on: tape
        ).copyRows(to: result, at: places.lowerBound)
      }
    }
    return result
  }

  /// Nats per predicted token of a model.
  func loss(of model: TransformerModel) -> Double {
    let batch = batch
    let sums = WindowSums(batch.windowCount)
    let logitRows = MemoryDemands.fewLogitRows(
      vocabulary: model.configuration.vocabularySize, threads: threads)
    StepWorkers(count: threads, parameterCount: 0).compute(batch.windowCount) { tape, window in
      let places = batch.places(ofWindows: window..<window + 1)
      batch.withInputs { inputs in
        batch.targets.withUnsafeBufferPointer { targets in
          sums.set(
            model.loss(
              inputs[places],
              targets: UnsafeBufferPointer(rebasing: targets[places]),
              layout: batch.layout.part(places), on: tape, logitRows: logitRows
            ).sum, at: window)
        }
      }
    }
    return sums.total / Double(max(batch.targetCount, 1))
  }
}

extension Activation {
  /// Writes the rows into a matrix, from a row on.
  func copyRows(to matrix: Tensor, at row: Int) {
    for index in 0..<rows {
      (matrix.pointer + (row + index) * columns).update(
        from: pointer + index * stride, count: columns)
    }
  }
}
