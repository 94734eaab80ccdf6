import PeatData
import PeatModels
import PeatNN
import PeatTensor

/// Keeps, for each window of the data, what goes into the first block that trains, so that later epochs do not compute the
/// frozen blocks below again.
///
/// `d · 4` bytes per token. What does not fit into the limit is computed each time.
final class PrefixCache {
  /// Blocks below.
  let blockCount: Int
  private let limit: Int
  private var states: [Int: Tensor] = [:]
  private(set) var byteCount = 0

  init(blockCount: Int, limit: Int) {
    self.blockCount = blockCount
    self.limit = limit
  }

  /// The states of some windows of a batch, `[tokens, d]` each; those that are not here are computed, on all workers.
  func states(
    for batch: TokenBatch, windows: Range<Int>, _ model: TransformerModel, _ workers: StepWorkers
  ) -> [Tensor] {
    let missing = windows.filter { states[batch.windowPlaces[$0]] == nil }
    var fresh: [Int: Tensor] = [:]
    for window in missing {
      let rows = batch.places(ofWindows: window..<window + 1)
      fresh[window] = Tensor(
        uninitialized: [rows.count, model.configuration.hiddenSize])
    }
    let targets = fresh
    let count = blockCount
    workers.compute(missing.count) { tape, number in
      guard let target = targets[missing[number]] else { return }
      let rows = batch.places(ofWindows: missing[number]..<missing[number] + 1)
      batch.withInputs { inputs in
        model.hiddenStates(
          below: count, inputs[rows],
          layout: batch.layout.part(rows), on: tape
        ).copy(to: target)
      }
    }
    let result = windows.map { window in
      fresh[window] ?? states[batch.windowPlaces[window]] ?? Tensor(zeros: [0])
    }
    for (window, tensor) in fresh {
      let bytes = tensor.count * MemoryLayout<Float>.stride
      guard byteCount + bytes <= limit else { continue }
      if states.updateValue(tensor, forKey: batch.windowPlaces[window]) == nil {
        byteCount += bytes
      }
    }
    return result
  }
}
