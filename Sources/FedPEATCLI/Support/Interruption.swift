import Foundation
import Synchronization

/// Ctrl-C and the polite request to end (SIGTERM): the first asks the work to stop, a second one ends at once. A coordinator that is kept takes the first
/// SIGTERM for less than that.
///
/// A signal handler sets the flag, and a thread of its own tells the work: neither waits for a pool that is computing.
enum Interruption {
  private static let requested = Atomic(false)
  /// When the last request came that was not a repeat, in milliseconds of the system's clock.
  private static let lastRequest = Atomic(0)
  /// Repeats within this time are the same request: a terminal and a wrapper like `timeout` both send one.
  private static let repeatMilliseconds = 1000
  /// What the handler writes to, and the thread reads from.
  private static let pipe = Pipe()
  private static let writeEnd = Atomic<Int32>(-1)

  /// Whether somebody asked. Long work looks here between its steps.
  static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// What SIGTERM does instead, where something can be stopped without being ended.
  private static let terminationHandler = Mutex<(@Sendable () -> Void)?>(nil)
  private static let handlesTermination = Atomic(false)

  /// Has SIGTERM do something else than Ctrl-C, the first time that it comes; `nil`: no longer.
  static func onTermination(_ handler: (@Sendable () -> Void)?) {
    terminationHandler.withLock { $0 = handler }
    handlesTermination.store(handler != nil, ordering: .relaxed)
  }

  /// Calls `onRequest` once when somebody asks.
  static func install(_ onRequest: @escaping @Sendable () -> Void) {
    // Everything the handler touches exists before a signal can come.
    _ = isRequested
    _ = lastRequest.load(ordering: .relaxed)
    _ = handlesTermination.load(ordering: .relaxed)
    let reader = pipe.fileHandleForReading
    writeEnd.store(pipe.fileHandleForWriting.fileDescriptor, ordering: .relaxed)
    Thread.detachNewThread {
      while let byte = try? reader.read(upToCount: 1)?.first {
        guard byte == askedToStop else { return onRequest() }
        terminationHandler.withLock { $0 }?()
      }
    }
    signal(SIGINT) { _ in Interruption.heard() }
    signal(SIGTERM) { _ in Interruption.heard(isTermination: true) }
  }

  /// Asks the work to stop, as a first signal does.
  static func request() {
    if !isRequested { heard() }
  }

  private static let askedToEnd: UInt8 = 1
  private static let askedToStop: UInt8 = 2

  /// Called by the signal handler: does only what is allowed there.
  private static func heard(isTermination: Bool = false) {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let now = Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
    let last = lastRequest.load(ordering: .relaxed)
    if last > 0, now - last <= repeatMilliseconds { return }
    lastRequest.store(now, ordering: .relaxed)
    var byte = askedToEnd
    if isTermination, handlesTermination.exchange(false, ordering: .relaxed) {
      byte = askedToStop
    } else if requested.exchange(true, ordering: .relaxed) {
      _exit(130)
    }
    _ = write(writeEnd.load(ordering: .relaxed), &byte, 1)
  }
}
