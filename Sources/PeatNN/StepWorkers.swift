import PeatTensor

/// The threads of a training step: each takes a part of the batch through forward and backward on its own, and they
/// meet once, when their gradients are summed.
///
/// Results depend on the seed and the number of workers, not on timing: the batch is cut in the same places and
/// gradients are added in the same order.
public final class StepWorkers {
  private let workers: [Worker]
  private let threads: WorkerThreads
  private let parameterCount: Int
  private let sharesGradient: Bool

  /// - Parameters:
  ///   - count: number of threads.
  ///   - parameterCount: length of the gradient vector, `TrainableParameters.count`.
  ///   - sharesGradient: whether all workers add to one vector, each in its turn, instead of one of their own each: less memory, some waiting. The
  ///     embedding and the head must be frozen then.
  public init(count: Int, parameterCount: Int, sharesGradient: Bool = false) {
    precondition(count > 0, "StepWorkers: \(count) workers")
    self.parameterCount = parameterCount
    self.sharesGradient = sharesGradient
    workers = (0..<count).map { _ in Worker() }
    threads = WorkerThreads(count: count)
    takeGradients()
  }

  private func takeGradients() {
    let shared = sharesGradient ? Tensor(uninitialized: [parameterCount]) : nil
    for worker in workers {
      worker.gradient = shared ?? Tensor(uninitialized: [parameterCount])
    }
    zeroGradient()
  }

  public var count: Int { workers.count }

  /// The summed gradient after `run`.
  package var gradient: UnsafeMutablePointer<Float> {
    guard let gradient = workers[0].gradient else {
      preconditionFailure("the gradient was released")
    }
    return gradient.pointer
  }

  /// Memory the workers' activations took at most, in bytes.
  public var activationBytes: Int { workers.reduce(0) { $0 + $1.pool.usedBytes } }

  /// Gives the memory of activations and gradients back to the system; `zeroGradient` and the next step take it anew.
  public func release() {
    for worker in workers {
      worker.pool.release()
      worker.gradient = nil
    }
  }

  /// Measures from now on where the processor time goes.
  package func startProfile() { for worker in workers { worker.tape.profile = StepProfile() } }

  /// Seconds of processor time by part, all workers together; empty where nobody measures.
  package var profile: [StepProfile.Part: Double] {
    workers.reduce(into: [:]) { total, worker in
      total.merge(worker.tape.profile?.seconds ?? [:], uniquingKeysWith: +)
    }
  }

  /// Does something on the calling thread, and counts it for a part where somebody measures.
  package func measured<Result>(
    _ part: StepProfile.Part, _ body: () throws -> Result
  ) rethrows -> Result {
    try workers[0].tape.measured(part, body)
  }

  /// Sets the gradient to zero, before the first micro-batch of a step.
  public func zeroGradient() {
    guard workers[0].gradient != nil else { return takeGradients() }
    for worker in sharesGradient ? workers.prefix(1) : workers[...] {
      worker.gradient?.pointer.update(repeating: 0, count: parameterCount)
    }
  }

  /// Runs `body` for each worker's part of the rows, each followed by its backward pass; returns the summed losses.
  ///
  /// Rows may be cut inside sequences, so that one long text keeps all workers busy, unless the model looks both ways. Gradients are added to what the
  /// workers already hold.
  package func run(
    _ layout: SequenceLayout, wholeSequences: Bool = false,
    _ body: @escaping @Sendable (Tape, SequenceLayout) -> TokenLoss
  ) -> TokenLoss {
    let parts = layout.split(into: workers.count, wholeSequences: wholeSequences).map(layout.part)
    let workers = workers
    let isDivided = parts.contains { $0.pieces.last?.continues == true }
    let exchange = isDivided ? SequenceExchange(parts) : nil
    let turns = sharesGradient ? AdditionTurns<Int>(workers: parts.count) : nil
    threads.run(parts.count) { index in
      let worker = workers[index]
      worker.tape.share = exchange.map { SequenceShare($0, worker: index) }
      worker.tape.turn = turns.map { GradientTurn($0, worker: index) }
      worker.loss = body(worker.tape, parts[index])
      worker.tape.backward()
      turns?.finish(index)
      worker.tape.turn = nil
      worker.tape.share = nil
    }
    return TokenLoss(
      sum: workers.prefix(parts.count).reduce(0) { $0 + $1.loss.sum },
      count: workers.prefix(parts.count).reduce(0) { $0 + $1.loss.count })
  }

  /// Does work that adds to no gradient for each number below `count`, on all workers.
  ///
  /// - Parameters:
  ///   - observers: one for each worker, or none.
  ///   - isRecording: whether tapes record, for gradients with respect to their inputs.
  package func compute(
    _ count: Int, observers: [any LinearObserver] = [], isRecording: Bool = false,
    _ body: @escaping @Sendable (Tape, Int) -> Void
  ) {
    let workers = workers
    let shares = min(workers.count, count)
    precondition(observers.isEmpty || observers.count >= shares, "an observer for each worker")
    threads.run(shares) { index in
      let tape = Tape(pool: workers[index].pool, isRecording: isRecording)
      if !observers.isEmpty { tape.observer = observers[index] }
      for number in stride(from: index, to: count, by: shares) { body(tape, number) }
      tape.observer?.finish()
    }
  }

  /// Sums the workers' gradients into `gradient`.
  package func joinGradients() {
    guard !sharesGradient else { return }
    for worker in workers.dropFirst() {
      if let part = worker.gradient { accumulate(parameterCount, part.pointer, to: gradient) }
    }
  }
}

/// Cuts 0..<rows into at most `parts` ranges whose lengths differ by at most one; none is empty.
package func split(_ rows: Int, into parts: Int) -> [Range<Int>] {
  let parts = min(parts, rows)
  guard parts > 0 else { return [] }
  return (0..<parts).map { rows * $0 / parts..<rows * ($0 + 1) / parts }
}

/// One thread's memory. Used by one thread at a time: the one that runs this worker.
private final class Worker: @unchecked Sendable {
  let pool = BufferPool()
  private(set) var tape: Tape
  /// `nil` while it is not needed.
  var gradient: Tensor? {
    didSet {
      let profile = tape.profile
      tape = Tape(pool: pool, weightGradients: gradient?.pointer)
      tape.profile = profile
    }
  }
  var loss = TokenLoss(sum: 0, count: 0)

  init() { tape = Tape(pool: pool) }
}
