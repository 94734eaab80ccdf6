import Foundation
import PeatFederation
import PeatStore

/// The folders that a coordinator works in: temporary ones, or in the folder of a run that is kept:
///
///     downloads   emulators and the round's adapter, as clients fetch them
///     work        what is made anew at each start
///     clients     the clients of a simulation
struct RunFolders: Sendable {
  /// What is under way; gone at the end.
  let work: URL
  let downloads: FolderBlobStore
  private let temporary: WorkFolder?
  private let database: RunDatabase?

  init(_ database: RunDatabase?) throws {
    self.database = database
    guard let database else {
      let folder = try WorkFolder(temporary: "coordinator")
      (temporary, work) = (folder, folder.url)
      downloads = try FolderBlobStore(folder.url.appendingPathComponent("blobs"))
      return
    }
    temporary = nil
    let work = database.folder.appendingPathComponent("work")
    try? FileManager.default.removeItem(at: work)
    self.work = try WorkFolder(work).url
    downloads = try FolderBlobStore(Self.downloads(of: database))
  }

  private static func downloads(of database: RunDatabase) -> URL {
    database.folder.appendingPathComponent("downloads")
  }

  static func clients(of database: RunDatabase) -> URL {
    database.folder.appendingPathComponent("clients")
  }

  /// Removes what is damaged of the downloads, and all that is not named.
  func sweepDownloads(keeping named: Set<Digest>) throws {
    guard let database else { return }
    let folder = Self.downloads(of: database).appendingPathComponent("blobs")
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] {
      let file = folder.appendingPathComponent(name)
      guard let digest = Digest(hex: name), named.contains(digest),
        try FolderBlobStore.digest(of: file) == digest
      else {
        try? FileManager.default.removeItem(at: file)
        continue
      }
    }
  }

  /// Removes what is needed no more. Of a run that is kept and not finished all stays.
  func leave() {
    temporary?.remove()
    if database != nil { try? FileManager.default.removeItem(at: work) }
  }

  /// Removes what a finished run needs no more: emulators that are made anew stay, as nobody could make them again.
  func finish(keeping named: Set<Digest>) throws {
    guard let database else { return }
    try sweepDownloads(keeping: named)
    for folder in [
      Self.clients(of: database), database.folder.appendingPathComponent("updates"),
      Self.downloads(of: database).appendingPathComponent("partial"),
    ] { try? FileManager.default.removeItem(at: folder) }
  }
}
