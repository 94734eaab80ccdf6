import Foundation
import Synchronization

/// Ctrl-C and the polite request to end (SIGTERM): the first asks the work to stop, a second one ends at once.
///
/// A signal handler sets the flag, and a thread of its own tells the work: neither waits for a pool that is computing.
enum Interruption {
  private static let requested = Atomic(false)
  /// When the first request came, in milliseconds of the system's clock.
  private static let firstRequest = Atomic(0)
  /// Repeats within this time are the same request: a terminal and a wrapper like `timeout` both send one.
  private static let repeatMilliseconds = 1000
  /// What the handler writes to, and the thread reads from.
  private static let pipe = Pipe()
  private static let writeEnd = Atomic<Int32>(-1)

  /// Whether somebody asked. Long work looks here between its steps.
  static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// Calls `onRequest` once when somebody asks.
  static func install(_ onRequest: @escaping @Sendable () -> Void) {
    // Everything the handler touches exists before a signal can come.
    _ = isRequested
    _ = firstRequest.load(ordering: .relaxed)
    let reader = pipe.fileHandleForReading
    writeEnd.store(pipe.fileHandleForWriting.fileDescriptor, ordering: .relaxed)
    Thread.detachNewThread {
      _ = try? reader.read(upToCount: 1)
      onRequest()
    }
    for number in [SIGINT, SIGTERM] { signal(number) { _ in Interruption.heard() } }
  }

  /// Asks the work to stop, as a first signal does.
  static func request() {
    if !isRequested { heard() }
  }

  /// Called by the signal handler: does only what is allowed there.
  private static func heard() {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let now = Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
    if requested.exchange(true, ordering: .relaxed) {
      if now - firstRequest.load(ordering: .relaxed) > repeatMilliseconds { _exit(130) }
      return
    }
    firstRequest.store(now, ordering: .relaxed)
    var byte: UInt8 = 1
    _ = write(writeEnd.load(ordering: .relaxed), &byte, 1)
  }
}
