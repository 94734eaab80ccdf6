import Dispatch
import PeatTensor
import Synchronization

/// Computes losses on several threads, as `concurrently` does, and sums them in the order of their numbers, so that the sum does not depend on timing.
package func concurrentLoss(
  count: Int, threads: Int, shouldStop: @Sendable () -> Bool = { false },
  onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil,
  _ body: @Sendable (Int, Tape) -> TokenLoss
) throws -> TokenLoss {
  try concurrently(
    count: count, threads: threads, shouldStop: shouldStop, onProgress: onProgress, body
  ).reduce(TokenLoss(sum: 0, count: 0), +)
}

/// Computes values on several threads; they come in the order of their numbers.
///
/// - Parameters:
///   - count: how many there are, numbered from 0.
///   - threads: how many are computed at a time, each thread with a tape of its own.
///   - shouldStop: asked before each; true leaves the rest out and throws `interrupted`.
///   - onProgress: called after each with how many are done.
///   - body: the value with this number.
package func concurrently<Value: Sendable>(
  count: Int, threads: Int, shouldStop: @Sendable () -> Bool = { false },
  onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil,
  _ body: @Sendable (Int, Tape) -> Value
) throws -> [Value] {
  let results = Results<Value>(count: count)
  let shares = min(threads, count)
  DispatchQueue.concurrentPerform(iterations: shares) { share in
    let tape = Tape()
    var number = share
    while number < count, !shouldStop() {
      let done = results.set(number, body(number, tape))
      onProgress?(done, count)
      number += shares
    }
  }
  return try results.all()
}

private final class Results<Value: Sendable>: Sendable {
  private struct State {
    var slots: [Value?]
    var done = 0
  }

  private let state: Mutex<State>

  init(count: Int) { state = Mutex(State(slots: Array(repeating: nil, count: count))) }

  /// Keeps a value and says how many there are now.
  func set(_ number: Int, _ value: Value) -> Int {
    state.withLock { state in
      state.slots[number] = value
      state.done += 1
      return state.done
    }
  }

  func all() throws -> [Value] {
    try state.withLock { state in
      try state.slots.map { value in
        guard let value else { throw PeatError(.interrupted, "Interrupted.") }
        return value
      }
    }
  }
}
