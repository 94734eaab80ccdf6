import PeatHub
import Synchronization

/// Keeps the last progress that was told.
final class Last: Sendable {
  private let last = Mutex<PullProgress?>(nil)
  func set(_ progress: PullProgress) { last.withLock { $0 = progress } }
  var value: PullProgress? { last.withLock { $0 } }
}

/// Stops something as soon as it is known what.
final class Stopper: Sendable {
  private let action = Mutex<(@Sendable () -> Void)?>(nil)
  func set(_ stop: @escaping @Sendable () -> Void) { action.withLock { $0 = stop } }
  func stop() { action.withLock { $0 }?() }
}
