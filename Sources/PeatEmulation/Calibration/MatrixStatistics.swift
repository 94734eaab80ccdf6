import Foundation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning

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

/// The sums of all workers: one for each matrix, to which they add in turn. Unchecked Sendable: the tensors are found under the lock, and written by whose turn
/// it is.
private final class MatrixSums: @unchecked Sendable {
  private struct Place: Hashable {
    var name: String
    var isGradient: Bool
  }

  private let names: Set<String>
  private let turns: AdditionTurns<Place>
  private let lock = NSLock()
  private var seen: [String: MatrixStatistics] = [:]

  init(_ names: Set<String>, workers: Int) {
    self.names = names
    turns = AdditionTurns(workers: workers)
  }

  private func sums(_ name: String, _ make: (inout MatrixStatistics?) -> Void) -> MatrixStatistics?
  {
    lock.withLock {
      make(&seen[name])
      return seen[name]
    }
  }

  func add(_ input: Activation, of name: String, by worker: Int) {
    guard names.contains(name) else { return }
    turns.add(to: Place(name: name, isGradient: false), by: worker) {
      let sums = sums(name) {
        if $0 == nil {
          $0 = MatrixStatistics(inputs: Tensor(zeros: [input.columns, input.columns]))
        }
      }
      if let sums { addSquare(input, to: sums.inputs) }
    }
  }

  func add(_ gradient: Activation, beside input: Activation, of name: String, by worker: Int) {
    guard names.contains(name) else { return }
    turns.add(to: Place(name: name, isGradient: true), by: worker) {
      let sums = sums(name) {
        if $0?.gradients == nil {
          $0?.gradients = .init(
            outputs: Tensor(zeros: [gradient.columns, gradient.columns]),
            weight: Tensor(zeros: [gradient.columns, input.columns]))
        }
      }
      guard let gradients = sums?.gradients else { return }
      addSquare(gradient, to: gradients.outputs)
      addProduct(gradient, input, to: gradients.weight)
    }
  }

  func finish(_ worker: Int) { turns.finish(worker) }

  /// When all workers are done.
  var total: [String: MatrixStatistics] {
    for sums in seen.values {
      mirror(sums.inputs)
      if let gradients = sums.gradients { mirror(gradients.outputs) }
    }
    return seen
  }
}

/// A worker that adds to the sums.
private struct StatisticsObservers {
  private final class Observer: LinearObserver {
    private let sums: MatrixSums
    private let worker: Int

    init(_ sums: MatrixSums, worker: Int) {
      self.sums = sums
      self.worker = worker
    }

    func matrix(_ name: String, took input: Activation) { sums.add(input, of: name, by: worker) }

    func matrix(_ name: String, took input: Activation, got gradient: Activation) {
      sums.add(gradient, beside: input, of: name, by: worker)
    }

    func finish() { sums.finish(worker) }
  }

  private let sums: MatrixSums
  let all: [any LinearObserver]

  /// - Parameters:
  ///   - names: of the matrices that are looked at.
  ///   - windows: of the text.
  init(_ names: Set<String>, threads: Int, windows: Int) {
    let workers = min(threads, windows)
    let sums = MatrixSums(names, workers: workers)
    self.sums = sums
    all = (0..<workers).map { Observer(sums, worker: $0) }
  }

  /// When all are done.
  var total: [String: MatrixStatistics] { sums.total }
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
    let observers = StatisticsObservers(names, threads: threads, windows: batch.windowCount)
    StepWorkers(count: threads, parameterCount: 0).compute(
      batch.windowCount, observers: observers.all
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
  /// - Parameter paths: of a block's linear layers, those that are looked at.
  package func descend(
    _ full: TransformerModel, _ split: ModelSplit, paths: (TransformerKeys) -> [String],
    _ body: (_ block: Int, [String: MatrixStatistics]) throws -> Void
  ) rethrows {
    let windows = max(1, batch.windowCount / 4)
    var states = middleStates(full, split, windows: windows)
    let gradient = Tensor(uninitialized: states[0].shape)
    let batch = batch
    let workers = StepWorkers(count: threads, parameterCount: 0)
    let logitRows = MemoryDemands.fewLogitRows(
      vocabulary: full.configuration.vocabularySize, threads: threads)
    let last = states.removeLast()
    workers.compute(windows, isRecording: true) { tape, window in
      let rows = batch.places(ofWindows: window..<window + 1)
      let input = tape.input(last.rows(rows), needsGradient: true)
      let hidden = full.hiddenStates(
        from: split.middle.upperBound, input, layout: batch.layout.part(rows), on: tape)
      batch.targets.withUnsafeBufferPointer { targets in
        _ = full.loss(
          of: hidden, targets: UnsafeBufferPointer(rebasing: targets[rows]), scale: 1, on: tape,
          logitRows: logitRows)
      }
      gradient.setRows(rows, to: tape.backward(gradientsOf: [input])[0])
    }
    // What the logits took is needed no more.
    workers.release()
    for block in split.middle.reversed() {
      let keys = full.configuration.keys.ofBlock(block)
      let names = Set(paths(keys).map { "\(keys.block(block)).\($0).weight" })
      let observers = StatisticsObservers(names, threads: threads, windows: windows)
      let before = states.removeLast()
      workers.compute(windows, observers: observers.all, isRecording: true) { tape, window in
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
