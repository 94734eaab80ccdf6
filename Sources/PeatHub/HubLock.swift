import Foundation
import PeatTensor

/// Lets one process at a time write a blob, Python's among them: its `filelock` locks the same file in the same way.
///
/// The system gives the lock back when a process dies.
final class HubLock: Sendable {
  private let descriptor: Int32

  /// Waits until it is free.
  ///
  /// - Parameter onWaiting: called once where somebody else has it.
  init(_ url: URL, onWaiting: () -> Void) async throws {
    try HubCache.makeFolder(url.deletingLastPathComponent())
    let descriptor = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw PeatError.inputOutput("Can't open '\(url.path)': \(String(cString: strerror(errno))).")
    }
    self.descriptor = descriptor
    var hasSaid = false
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      guard errno == EWOULDBLOCK || errno == EINTR else {
        throw PeatError.inputOutput(
          "Can't lock '\(url.path)': \(String(cString: strerror(errno))).")
      }
      if !hasSaid { onWaiting() }
      hasSaid = true
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  deinit { close(descriptor) }
}
