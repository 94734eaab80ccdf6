import Dispatch
import PeatTensor
import Synchronization

/// Computes losses on several threads and sums them in the order of their numbers, so that the sum does not depend on timing.
///
/// - Parameters:
///   - count: how many there are, numbered from 0.
///   - threads: how many are computed at a time, each thread with a tape of its own.
///   - shouldStop: asked before each; true leaves the rest out and throws `interrupted`.
///   - onProgress: called after each with how many are done.
///   - body: the loss with this number.
package func concurrentLoss(
  count: Int, threads: Int, shouldStop: @Sendable () -> Bool = { false },
  onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil,
  _ body: @Sendable (Int, Tape) -> TokenLoss
) throws -> TokenLoss {
  let results = Results(count: count)
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
  return try results.sum()
}

private final class Results: Sendable {
  private let slots: Mutex<[TokenLoss?]>

  init(count: Int) { slots = Mutex(Array(repeating: nil, count: count)) }

  /// Keeps a loss and says how many there are now.
  func set(_ number: Int, _ loss: TokenLoss) -> Int {
    slots.withLock { slots in
      slots[number] = loss
      return slots.count { $0 != nil }
    }
  }

  func sum() throws -> TokenLoss {
    try slots.withLock { slots in
      try slots.reduce(TokenLoss(sum: 0, count: 0)) { total, loss in
        guard let loss else { throw PeatError(.interrupted, "Interrupted.") }
        return total + loss
      }
    }
  }
}
