import Foundation

/// Threads that wait for work, one for each worker of a step but the first, which is the caller's.
///
/// Workers that divide a sequence wait for each other, so each must really have a thread of its own; a pool that runs
/// them one after the other would wait for ever.
///
/// Unchecked Sendable: what the threads share is guarded by the semaphores.
final class WorkerThreads: @unchecked Sendable {
  private final class Seat: @unchecked Sendable {
    let begin = DispatchSemaphore(value: 0)
    let end = DispatchSemaphore(value: 0)
    var work: (() -> Void)?
  }

  private let seats: [Seat]

  /// - Parameter count: workers, the caller's included.
  init(count: Int) {
    seats = (1..<max(count, 1)).map { _ in Seat() }
    for seat in seats {
      let thread = Thread {
        while true {
          seat.begin.wait()
          guard let work = seat.work else { return }
          work()
          seat.end.signal()
        }
      }
      // As much as the main thread usually has.
      thread.stackSize = 8 << 20
      thread.name = "fedpeat worker"
      thread.start()
    }
  }

  deinit {
    for seat in seats {
      seat.work = nil
      seat.begin.signal()
    }
  }

  /// Does `body(0)` to `body(count - 1)`, all at once, and returns when all are done.
  func run(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    guard count > 0 else { return }
    precondition(count <= seats.count + 1, "WorkerThreads: \(count) of \(seats.count + 1)")
    for index in 1..<count {
      seats[index - 1].work = { body(index) }
      seats[index - 1].begin.signal()
    }
    body(0)
    for index in 1..<count {
      seats[index - 1].end.wait()
      seats[index - 1].work = nil
    }
  }
}
