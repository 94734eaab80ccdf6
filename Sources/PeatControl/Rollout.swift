import PeatTensor

/// What was seen, done and had in a stretch of rounds, and what it was worth.
///
/// Round after round, process after process: sample s = round · processes + process.
package final class Rollout {
  let shape: ControlShape
  let processes: Int
  let rounds: Int
  var samples: Int { processes * rounds }
  private let observed: Tensor
  private let masks: Array2D<UInt8>
  let actions: Array2D<Int32>
  let outcomes: Array2D<ControlOutcome>
  private let logProbabilities: Array2D<Float>
  let values: Array2D<Float>
  let followingValues: Array2D<Float>
  /// What followed the last round.
  let lastObservations: Tensor
  package var lastValues: [Float]
  package internal(set) var advantages: [Float]
  package internal(set) var returns: [Float]

  package init(_ shape: ControlShape, processes: Int, rounds: Int) {
    self.shape = shape
    self.processes = processes
    self.rounds = rounds
    let samples = processes * rounds
    observed = Tensor(zeros: [samples, shape.observationSize])
    masks = Array2D(samples, shape.logits, 1)
    actions = Array2D(samples, shape.choices, 0)
    outcomes = Array2D(samples, 1, ControlOutcome())
    logProbabilities = Array2D(samples, shape.devices, 0)
    values = Array2D(samples, 1, 0)
    followingValues = Array2D(samples, 1, 0)
    lastObservations = Tensor(zeros: [processes, shape.observationSize])
    lastValues = Array(repeating: 0, count: processes)
    advantages = Array(repeating: 0, count: samples)
    returns = advantages
  }

  /// Where a round of all processes is written.
  package struct Places {
    /// `[processes, observationSize]`.
    package let observations: Tensor
    /// `[processes, logits]`.
    package let masks: UnsafeMutablePointer<UInt8>
    /// `[processes, devices, branches]`.
    package let actions: UnsafeMutablePointer<Int32>
    /// log π of each device's part of the action, `[processes, devices]`.
    package let logProbabilities: UnsafeMutablePointer<Float>
    /// `[processes]`.
    package let values: UnsafeMutablePointer<Float>
    package let outcomes: UnsafeMutablePointer<ControlOutcome>
    /// V of what followed, where an episode was cut short.
    package let followingValues: UnsafeMutablePointer<Float>
  }

  package func places(of round: Int) -> Places {
    let first = round * processes
    return Places(
      observations: observed.rows(first..<first + processes), masks: masks.row(first),
      actions: actions.row(first), logProbabilities: logProbabilities.row(first),
      values: values.row(first), outcomes: outcomes.row(first),
      followingValues: followingValues.row(first))
  }

  /// 1 − Var(R − V) / Var(R); 0 where all returns are equal.
  var explainedVariance: Double {
    func variance(_ numbers: [Double]) -> Double {
      let mean = numbers.reduce(0, +) / Double(numbers.count)
      return numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(numbers.count)
    }
    let whole = variance(returns.map(Double.init))
    return whole > 0 ? 1 - variance(advantages.map(Double.init)) / whole : 0
  }

  /// Some samples side by side, their advantages of mean 0 and deviation 1.
  struct Batch {
    var count: Int { observations.shape[0] }
    let observations: Tensor
    let masks: UnsafeMutablePointer<UInt8>
    let actions: UnsafeMutablePointer<Int32>
    let logProbabilities: UnsafeMutablePointer<Float>
    let values: [Float]
    let returns: [Float]
    let advantages: [Float]
    fileprivate let owners: (Array2D<UInt8>, Array2D<Int32>, Array2D<Float>)
  }

  func gather(_ samples: ArraySlice<Int>) -> Batch {
    let count = samples.count
    let observations = Tensor(uninitialized: [count, shape.observationSize])
    let owners = (
      Array2D<UInt8>(count, shape.logits, 1), Array2D<Int32>(count, shape.choices, 0),
      Array2D<Float>(count, shape.devices, 0)
    )
    for (place, sample) in samples.enumerated() {
      (observations.pointer + place * shape.observationSize).update(
        from: observed.pointer + sample * shape.observationSize, count: shape.observationSize)
      owners.0.row(place).update(from: masks.row(sample), count: shape.logits)
      owners.1.row(place).update(from: actions.row(sample), count: shape.choices)
      owners.2.row(place).update(from: logProbabilities.row(sample), count: shape.devices)
    }
    let chosen = samples.map { Double(advantages[$0]) }
    let mean = chosen.reduce(0, +) / Double(count)
    let square = chosen.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    let deviation = (square / Double(max(count - 1, 1))).squareRoot()
    return Batch(
      observations: observations, masks: owners.0.row(0), actions: owners.1.row(0),
      logProbabilities: owners.2.row(0), values: samples.map { values.row($0)[0] },
      returns: samples.map { returns[$0] },
      advantages: chosen.map { Float(($0 - mean) / (deviation + 1e-8)) }, owners: owners)
  }
}

/// Rows of plain values in memory that stays where it is.
final class Array2D<Value: BitwiseCopyable> {
  private let pointer: UnsafeMutablePointer<Value>
  private let width: Int

  init(_ rows: Int, _ width: Int, _ value: Value) {
    self.width = width
    pointer = .allocate(capacity: max(rows * width, 1))
    pointer.initialize(repeating: value, count: max(rows * width, 1))
  }

  deinit { pointer.deallocate() }

  @inline(__always) func row(_ row: Int) -> UnsafeMutablePointer<Value> { pointer + row * width }
}
