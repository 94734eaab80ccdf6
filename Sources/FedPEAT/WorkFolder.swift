import Foundation
import PeatFederation

/// A folder to work in: one that was named and stays, or a temporary one that is gone after `remove()`.
///
/// A process that is killed can't clean up: its temporary folder is deleted by the next one that makes its own. A lock
/// on a file in the folder, which the system lets go when a process ends, says that somebody still works there.
public struct WorkFolder: Sendable {
  public let url: URL
  /// `nil` for a folder that stays.
  private let lock: FolderLock?

  /// A temporary folder for some purpose, which becomes part of its name.
  public init(temporary purpose: String) throws {
    try self.init(temporary: purpose, in: FileManager.default.temporaryDirectory)
  }

  package init(temporary purpose: String, in parent: URL) throws {
    let prefix = "fedpeat-\(purpose)-"
    Self.sweep(parent, prefix)
    url = parent.appendingPathComponent(prefix + UUID().uuidString)
    try Self.make(url)
    lock = try FolderLock(url, name: Self.lockName)
  }

  /// The named folder, made where it is missing.
  public init(_ url: URL) throws {
    self.url = url
    lock = nil
    try Self.make(url)
  }

  private static let lockName = ".in-use"

  private static func make(_ url: URL) throws {
    do { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) } catch
    {
      throw PeatError.inputOutput(
        "Can't make the folder '\(url.path)': \(error.localizedDescription)", cause: error)
    }
  }

  /// Deletes what processes that were killed left behind.
  private static func sweep(_ parent: URL, _ prefix: String) {
    let files = FileManager.default
    for name in (try? files.contentsOfDirectory(atPath: parent.path)) ?? []
    where name.hasPrefix(prefix) {
      let folder = parent.appendingPathComponent(name)
      let file = folder.appendingPathComponent(lockName)
      // One that was made a moment ago may not be locked yet.
      guard
        let made = try? files.attributesOfItem(atPath: file.path)[.modificationDate] as? Date,
        made.timeIntervalSinceNow < -60, let taken = try? FolderLock(folder, name: lockName)
      else { continue }
      withExtendedLifetime(taken) { try? files.removeItem(at: folder) }
    }
  }

  /// Deletes a temporary folder.
  public func remove() {
    if lock != nil { try? FileManager.default.removeItem(at: url) }
  }
}
