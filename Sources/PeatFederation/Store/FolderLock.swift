import Foundation
import PeatTensor

/// Keeps a folder for one user at a time, as long as this object lives; the system gives it back when a process dies.
public final class FolderLock: Sendable {
  private let descriptor: Int32
  private let file: URL

  /// Throws `usage` where somebody else has the folder.
  ///
  /// - Parameters:
  ///   - name: the file in the folder that is locked; locks of different names do not see each other.
  ///   - isBusy: what the error then says; `nil`: that another client works there.
  public init(_ folder: URL, name: String = "lock", isBusy: String? = nil) throws {
    file = folder.appendingPathComponent(name)
    descriptor = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw PeatError.inputOutput(
        "Can't open '\(file.path)': \(String(cString: strerror(errno))).")
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw PeatError.usage(
        isBusy
          ?? "Another client works in the folder '\(folder.path)'. Give each a folder of its own.")
    }
  }

  /// Keeps a file that is to be written for one command at a time.
  ///
  /// - Parameter isBusy: what the error says where another has it.
  public convenience init(of file: URL, isBusy: String) throws {
    let file = file.standardizedFileURL
    try self.init(
      file.deletingLastPathComponent(), name: ".\(file.lastPathComponent).lock", isBusy: isBusy)
  }

  /// Takes the locked file away, where nothing else is to stay; the lock is held until the object is gone.
  public func remove() { try? FileManager.default.removeItem(at: file) }

  deinit {
    // A process that is just being started has the file open, too, until its own program begins.
    flock(descriptor, LOCK_UN)
    close(descriptor)
  }
}
