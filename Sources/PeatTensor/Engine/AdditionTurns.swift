import Foundation

/// Lets workers add to the same memory one after the other, always in the same order: one sum instead of one per worker, whose bits do not depend on
/// who was faster.
///
/// A worker's k-th addition to a place follows the k-th ones of the workers before it and those up to k − 1 of the workers behind it. Workers make the
/// same additions in the same order, or none; so each waits only for what comes before it in the computation, and nobody waits in a circle.
///
/// Unchecked Sendable: the counts are guarded by the condition.
package final class AdditionTurns<Place: Hashable & Sendable>: @unchecked Sendable {
  private let condition = NSCondition()
  /// How many additions each worker made.
  private var counts: [Place: [Int]] = [:]
  private var hasFinished: [Bool]

  package init(workers: Int) { hasFinished = Array(repeating: false, count: workers) }

  /// Adds when it is this worker's turn.
  package func add(to place: Place, by worker: Int, _ body: () -> Void) {
    condition.lock()
    while !isTurn(of: worker, at: place) { condition.wait() }
    condition.unlock()
    body()
    condition.lock()
    counts[place, default: none][worker] += 1
    condition.broadcast()
    condition.unlock()
  }

  /// Nobody waits for this worker any more.
  package func finish(_ worker: Int) {
    condition.lock()
    hasFinished[worker] = true
    condition.broadcast()
    condition.unlock()
  }

  private var none: [Int] { Array(repeating: 0, count: hasFinished.count) }

  private func isTurn(of worker: Int, at place: Place) -> Bool {
    let counts = counts[place] ?? none
    let own = counts[worker]
    return counts.indices.allSatisfy { other in
      other == worker || hasFinished[other]
        || (other < worker ? counts[other] > own : counts[other] >= own)
    }
  }
}

/// A worker's place among those that add to the same gradients.
package struct GradientTurn {
  private let turns: AdditionTurns<Int>
  private let worker: Int

  package init(_ turns: AdditionTurns<Int>, worker: Int) {
    self.turns = turns
    self.worker = worker
  }

  /// - Parameter offset: of the weight's gradient.
  func add(at offset: Int, _ body: () -> Void) { turns.add(to: offset, by: worker, body) }
}
