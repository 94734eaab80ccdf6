import Foundation
import PeatTensor

/// Keeps a folder for one user at a time, as long as this object lives; the system gives it back when a process dies.
final class FolderLock: Sendable {
  private let descriptor: Int32

  /// Throws `usage` where somebody else has the folder.
  init(_ folder: URL) throws {
    let file = folder.appendingPathComponent("lock")
    descriptor = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw PeatError.inputOutput(
        "Can't open '\(file.path)': \(String(cString: strerror(errno))).")
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw PeatError.usage(
        "Another client works in the folder '\(folder.path)'. Give each a folder of its own.")
    }
  }

  deinit { close(descriptor) }
}
