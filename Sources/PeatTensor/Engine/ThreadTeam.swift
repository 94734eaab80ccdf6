import CPeatHints
import Foundation
import Synchronization

/// Threads that share short pieces of work with the calling thread: the products of one token, some microseconds each.
///
/// Pieces are numbered, and whoever is free takes the next, the caller too: it never waits for a thread that has not
/// begun. So nothing may depend on who does a piece. A thread without work looks for some for about a millisecond, at
/// first without pause, then letting others have its core, and sleeps until `run` wakes it.
///
/// One thread calls `run` at a time. Unchecked Sendable: `body` is written while no piece is under way and read by those
/// who took a piece, which the atomics order.
package final class ThreadTeam: @unchecked Sendable {
  /// The threads, the caller's included.
  package let count: Int
  private let board: Board
  private let seats: [Seat]
  /// Memory for the work on a piece, as many as threads: the piece of this number has it to itself.
  let pools: [BufferPool]

  /// - Parameter count: threads, the caller's included.
  package init(count: Int) {
    self.count = max(count, 1)
    let board = Board()
    self.board = board
    pools = (0..<max(count, 1)).map { _ in BufferPool() }
    seats = (1..<max(count, 1)).map { _ in Seat() }
    for seat in seats {
      let thread = Thread { board.work(at: seat) }
      thread.name = "fedpeat team"
      thread.start()
    }
  }

  deinit {
    board.isClosed.store(true, ordering: .sequentiallyConsistent)
    for seat in seats {
      seat.wake()
      seat.left.wait()
    }
  }

  /// Does `body(0)` to `body(pieces - 1)`, in any order and several at once, and returns when all are done.
  package func run(_ pieces: Int, _ body: (Int) -> Void) {
    guard pieces > 1, !seats.isEmpty else {
      for piece in 0..<max(pieces, 0) { body(piece) }
      return
    }
    precondition(pieces <= Board.mostPieces, "ThreadTeam: \(pieces) pieces")
    withoutActuallyEscaping(body) { body in
      board.publish(pieces, body)
      for seat in seats { seat.wake() }
      board.work()
      board.awaitEnd(of: pieces)
    }
  }

  /// What is to be done.
  private final class Board: @unchecked Sendable {
    static let mostPieces = 1 << 24

    /// How many pieces there are, above the number of the next one to be taken.
    private let ticket = Atomic<UInt64>(0)
    private let done = Atomic<Int>(0)
    let isClosed = Atomic<Bool>(false)
    private var body: ((Int) -> Void)?

    private static func next(_ ticket: UInt64) -> Int { Int(ticket & 0xffff_ffff) }
    private static func pieces(_ ticket: UInt64) -> Int { Int(ticket >> 32) }

    var hasWork: Bool {
      // In the same order for all as a thread's going to sleep: see `Seat`.
      let ticket = ticket.load(ordering: .sequentiallyConsistent)
      return Self.next(ticket) < Self.pieces(ticket)
    }

    func publish(_ pieces: Int, _ body: @escaping (Int) -> Void) {
      self.body = body
      done.store(0, ordering: .relaxed)
      ticket.store(UInt64(pieces) << 32, ordering: .sequentiallyConsistent)
    }

    /// Takes pieces while there are some.
    func work() {
      while hasWork {
        let taken = ticket.wrappingAdd(1, ordering: .acquiringAndReleasing).oldValue
        let piece = Self.next(taken)
        // Others were faster. Else the work can't end before this piece is done, nor other work begin.
        guard piece < Self.pieces(taken) else { return }
        body?(piece)
        done.wrappingAdd(1, ordering: .releasing)
      }
    }

    func awaitEnd(of pieces: Int) {
      var patience = Patience()
      while done.load(ordering: .acquiring) < pieces { patience.wait() }
      body = nil
    }

    /// A thread's life.
    func work(at seat: Seat) {
      var patience = Patience()
      while !isClosed.load(ordering: .acquiring) {
        if hasWork {
          work()
          patience = Patience()
        } else if patience.isExhausted {
          seat.sleep { self.hasWork || self.isClosed.load(ordering: .sequentiallyConsistent) }
          patience = Patience()
        } else {
          patience.wait()
        }
      }
      seat.left.signal()
    }
  }

  /// Waiting for something that will soon be there.
  private struct Patience {
    private var rounds = 0
    private var end: ContinuousClock.Instant?

    /// After about a millisecond of waiting.
    private(set) var isExhausted = false

    mutating func wait() {
      rounds += 1
      if rounds < 1000 {
        peat_pause()
        return
      }
      if rounds % 16 == 0 {
        let now = ContinuousClock.now
        if let end { isExhausted = now >= end } else { end = now + .milliseconds(1) }
      }
      // Perhaps the one that is waited for has no core.
      sched_yield()
    }
  }

  /// Where a thread sleeps.
  private final class Seat: Sendable {
    private let isAsleep = Atomic<Bool>(false)
    private let bell = DispatchSemaphore(value: 0)
    /// Signalled when the thread is about to end.
    let left = DispatchSemaphore(value: 0)

    /// Returns when somebody woke the thread, at once if there is work. Either the sleeper sees the work or the one who
    /// brought it sees the sleeper.
    func sleep(unless isNeeded: () -> Bool) {
      isAsleep.store(true, ordering: .sequentiallyConsistent)
      if isNeeded(), isAsleep.exchange(false, ordering: .sequentiallyConsistent) { return }
      bell.wait()
    }

    func wake() {
      guard isAsleep.load(ordering: .sequentiallyConsistent),
        isAsleep.exchange(false, ordering: .sequentiallyConsistent)
      else { return }
      bell.signal()
    }
  }
}
