import PeatModels
import PeatNN
import PeatTensor

/// What a text shows of one matrix of a linear layer y = W · x. Sums over tokens.
package struct MatrixStatistics {
  /// Σ x · xᵀ, `[inputs, inputs]`.
  package var inputs: Tensor
  /// g: the gradient with respect to y of what the text loses, −Σ ln p(next token).
  package var gradients: Gradients?

  package struct Gradients {
    /// Σ g · gᵀ, `[outputs, outputs]`: with `inputs` the factors of the Fisher matrix's Kronecker approximation, Martens and Grosse 2015,
    /// <https://arxiv.org/abs/1503.05671>.
    package var outputs: Tensor
    /// Σ g · xᵀ, `[outputs, inputs]`: the gradient with respect to W.
    package var weight: Tensor

    package init(outputs: Tensor, weight: Tensor) {
      self.outputs = outputs
      self.weight = weight
    }
  }
}

/// One worker's part of the sums. Unchecked Sendable: each belongs to one thread at a time.
final class StatisticsObserver: LinearObserver, @unchecked Sendable {
  private let names: Set<String>
  private(set) var seen: [String: MatrixStatistics] = [:]

  init(_ names: Set<String>) { self.names = names }

  func matrix(_ name: String, took input: Activation) {
    guard names.contains(name) else { return }
    let sum = seen[name]?.inputs ?? Tensor(zeros: [input.columns, input.columns])
    addSquare(input, to: sum)
    if seen[name] == nil { seen[name] = MatrixStatistics(inputs: sum) }
  }

  func matrix(_ name: String, took input: Activation, got gradient: Activation) {
    guard names.contains(name) else { return }
    let sums =
      seen[name]?.gradients
      ?? .init(
        outputs: Tensor(zeros: [gradient.columns, gradient.columns]),
        weight: Tensor(zeros: [gradient.columns, input.columns]))
    addSquare(gradient, to: sums.outputs)
    addProduct(gradient, input, to: sums.weight)
    seen[name]?.gradients = sums
  }
}

extension [StatisticsObserver] {
  /// All workers' sums, added in their order.
  var total: [String: MatrixStatistics] {
    var result: [String: MatrixStatistics] = [:]
    for observer in self {
      result.merge(observer.seen) { sum, part in
        add(part.inputs, to: sum.inputs)
        if let gradients = part.gradients, let sums = sum.gradients {
          add(gradients.outputs, to: sums.outputs)
          add(gradients.weight, to: sums.weight)
        }
        return sum
      }
    }
    for sums in result.values {
      mirror(sums.inputs)
      if let gradients = sums.gradients { mirror(gradients.outputs) }
    }
    return result
  }

  private func add(_ part: Tensor, to sum: Tensor) {
    for index in 0..<part.count { sum.pointer[index] += part.pointer[index] }
  }
}

extension CompressionCalibration {
  /// Runs some of a model's blocks, by their place in the order, on what goes into the first.
  ///
  /// - Parameters:
  ///   - states: `[tokens, d]`.
  ///   - names: of the matrices whose inputs are summed up.
  /// - Returns: what comes out of the last, and the sums.
  func run(
    _ model: TransformerModel, through places: Range<Int>, from states: Tensor,
    watching names: Set<String> = []
  ) -> (states: Tensor, seen: [String: MatrixStatistics]) {
    let result = Tensor(uninitialized: states.shape)
    let batch = batch
    let observers = (0..<threads).map { _ in StatisticsObserver(names) }
    StepWorkers(count: threads, parameterCount: 0).compute(
      batch.windowCount, observers: observers
    ) { tape, window in
      let rows = batch.places(ofWindows: window..<window + 1)
      model.hiddenStates(
        through: places, tape.input(states.rows(rows)), layout: batch.layout.part(rows), on: tape
      ).copyRows(to: result, at: rows.lowerBound)
    }
    return (result, observers.total)
  }

  /// Goes from the text's loss down through the full model's middle, and hands over what each block's matrices were seen with, the last block first.
  ///
  /// Block by block, from the states that were kept: only one block's sums are in memory at a time. The first quarter of the text's windows is enough here.
  ///
  /// - Parameter paths: of the linear layers that are looked at.
  package func descend(
    _ full: TransformerModel, _ split: ModelSplit, paths: [String],
    _ body: (_ block: Int, [String: MatrixStatistics]) throws -> Void
  ) rethrows {
    let windows = max(1, batch.windowCount / 4)
    var states = middleStates(full, split, windows: windows)
    let gradient = Tensor(uninitialized: states[0].shape)
    let batch = batch
    let workers = StepWorkers(count: threads, parameterCount: 0)
    let last = states.removeLast()
    workers.compute(windows, isRecording: true) { tape, window in
      let rows = batch.places(ofWindows: window..<window + 1)
      let input = tape.input(last.rows(rows), needsGradient: true)
      let hidden = full.hiddenStates(
        from: split.middle.upperBound, input, layout: batch.layout.part(rows), on: tape)
      batch.targets.withUnsafeBufferPointer { targets in
        _ = full.loss(
          of: hidden, targets: UnsafeBufferPointer(rebasing: targets[rows]), scale: 1, on: tape,
          logitRows: 256)
      }
      gradient.setRows(rows, to: tape.backward(gradientsOf: [input])[0])
    }
    for block in split.middle.reversed() {
      let names = Set(paths.map { "\(full.configuration.keys.block(block)).\($0).weight" })
      let observers = (0..<threads).map { _ in StatisticsObserver(names) }
      let before = states.removeLast()
      workers.compute(windows, observers: observers, isRecording: true) { tape, window in
        let rows = batch.places(ofWindows: window..<window + 1)
        let input = tape.input(before.rows(rows), needsGradient: true)
        let output = full.hiddenStates(
          through: block..<block + 1, input, layout: batch.layout.part(rows), on: tape)
        tape.seed(gradient.rows(rows), for: output)
        gradient.setRows(rows, to: tape.backward(gradientsOf: [input])[0])
      }
      try body(block, observers.total)
    }
  }
}

extension Tensor {
  fileprivate func setRows(_ rows: Range<Int>, to values: Tensor) {
    let width = shape[1]
    (pointer + rows.lowerBound * width).update(from: values.pointer, count: rows.count * width)
  }
}
