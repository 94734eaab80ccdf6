import Foundation

/// Where the workers of a step hand each other keys, values and their gradients, when a sequence is divided among them.
///
/// Each attention is a meeting, numbered in the order of the computation, which is the same for all workers. A worker
/// posts before it waits, and waits only for earlier workers on the way forward, for later ones on the way back: nobody
/// waits in a circle.
///
/// Unchecked Sendable: posts are guarded by the condition; what a post holds is not written after it.
package final class SequenceExchange: @unchecked Sendable {
  struct Post {
    let first: Activation
    let second: Activation
  }

  private struct Key: Hashable {
    let worker: Int
    let meeting: Int
    let isBackward: Bool
  }

  /// Which rows each worker holds.
  let layouts: [SequenceLayout]
  private let condition = NSCondition()
  private var posts: [Key: (post: Post, readers: Int)] = [:]

  package init(_ layouts: [SequenceLayout]) { self.layouts = layouts }

  /// Lays something out for so many others, each of whom takes it once.
  func post(_ post: Post, by worker: Int, at meeting: Int, backward: Bool, readers: Int) {
    if readers == 0 { return }
    condition.lock()
    posts[Key(worker: worker, meeting: meeting, isBackward: backward)] = (post, readers)
    condition.broadcast()
    condition.unlock()
  }

  /// Takes what a worker posted; waits until it did.
  func take(from worker: Int, at meeting: Int, backward: Bool) -> Post {
    let key = Key(worker: worker, meeting: meeting, isBackward: backward)
    condition.lock()
    defer { condition.unlock() }
    while true {
      if let (post, readers) = posts[key] {
        posts[key] = readers > 1 ? (post, readers - 1) : nil
        return post
      }
      condition.wait()
    }
  }
}

/// A worker's place in an exchange.
package final class SequenceShare {
  let exchange: SequenceExchange
  let worker: Int
  private var forwards = 0
  private var backwards = 0

  package init(_ exchange: SequenceExchange, worker: Int) {
    self.exchange = exchange
    self.worker = worker
  }

  var layout: SequenceLayout { exchange.layouts[worker] }

  func nextMeeting(backward: Bool) -> Int {
    if backward {
      backwards += 1
      return backwards
    }
    forwards += 1
    return forwards
  }

  /// Those of some workers that hold rows of a sequence, with the piece that each holds.
  ///
  /// - Parameter prepended: rows that all of them have put in front of each sequence since.
  func holders(
    of sequence: Int, in workers: Range<Int>, prepended: Int
  ) -> [(worker: Int, piece: SequenceLayout.Piece)] {
    workers.compactMap { worker in
      exchange.layouts[worker].prepending(prepended).pieces.first { $0.sequence == sequence }
        .map { (worker, $0) }
    }
  }

  var workersBefore: Range<Int> { 0..<worker }
  var workersBehind: Range<Int> { worker + 1..<exchange.layouts.count }
}
