import Foundation
import PeatTensor

/// The models that were pulled, laid out as Python's huggingface_hub does, so that both find what either got.
///
///     models--ORG--NAME/
///       refs/main              the commit that the branch was at
///       blobs/ETAG             a file's content; ETAG is its SHA-256, or git's name for it where it is small
///       snapshots/COMMIT/…     links to blobs, under the names that the files have
///     .locks/models--ORG--NAME/ETAG.lock
///
/// Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
public struct HubCache: Sendable {
  public let folder: URL

  public init(_ folder: URL) { self.folder = folder }

  /// `HF_HUB_CACHE`, else `hub` in `HF_HOME`, `huggingface` in `XDG_CACHE_HOME` or `~/.cache/huggingface`.
  ///
  /// - Parameter home: the user's folder; as `HOME` says if not given.
  public init(
    environment: [String: String] = ProcessInfo.processInfo.environment, home: URL? = nil
  ) {
    let home = home ?? HubSettings.home(in: environment)
    self.init(
      HubSettings.value("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", in: environment)
        .map { HubSettings.path($0, home) }
        ?? HubSettings.folder(environment, home).appendingPathComponent("hub"))
  }

  /// The folder with a model's files as they were at a revision; `nil` where that was not pulled.
  public func snapshot(of name: HubName) -> URL? {
    guard let commit = commit(of: name) else { return nil }
    let url = snapshot(of: name, commit: commit)
    var isFolder: ObjCBool = false
    let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
    return exists && isFolder.boolValue ? url : nil
  }

  /// The commit that a revision was at when it was pulled; a commit is its own.
  func commit(of name: HubName) -> String? {
    if HubName.isCommit(name.revision) { return name.revision }
    guard let text = try? String(contentsOf: reference(of: name), encoding: .utf8) else {
      return nil
    }
    let commit = text.trimmingCharacters(in: .whitespacesAndNewlines)
    return HubName.isCommit(commit) ? commit : nil
  }

  /// The repositories that the cache has something of.
  public func repositories() -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.compactMap(HubName.repository(ofFolder:)).sorted()
  }

  /// The size of a plain file, or of the one that a link leads to; `nil` where there is none.
  static func fileSize(_ url: URL) -> Int? {
    let place = url.resolvingSymlinksInPath()
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: place.path),
      attributes[.type] as? FileAttributeType == .typeRegular
    else { return nil }
    return (attributes[.size] as? NSNumber)?.intValue
  }

  func repository(of name: HubName) -> URL { folder.appendingPathComponent(name.folderName) }

  func snapshot(of name: HubName, commit: String) -> URL {
    repository(of: name).appendingPathComponent("snapshots/\(commit)")
  }

  func blob(of name: HubName, _ etag: String) -> URL {
    repository(of: name).appendingPathComponent("blobs/\(etag)")
  }

  /// Whether a revision of a model is there that lacks nothing.
  func hasWholeRevision(of name: HubName) -> Bool {
    let snapshots = repository(of: name).appendingPathComponent("snapshots")
    let names = (try? FileManager.default.contentsOfDirectory(atPath: snapshots.path)) ?? []
    return names.contains { HubSnapshot.missing(from: snapshots.appendingPathComponent($0)) == nil }
  }

  private func reference(of name: HubName) -> URL {
    repository(of: name).appendingPathComponent("refs/\(name.revision)")
  }

  /// Notes the commit that a branch or tag is at.
  func note(_ commit: String, for name: HubName) throws {
    guard name.revision != commit, self.commit(of: name) != commit else { return }
    let url = reference(of: name)
    try HubCache.makeFolder(url.deletingLastPathComponent())
    try AtomicOutput.write(Data(commit.utf8), to: url)
  }

  /// Puts a file into a snapshot: a link to its blob, by a path that holds wherever the cache is moved.
  func link(_ file: String, to etag: String, of name: HubName, commit: String) throws {
    let link = snapshot(of: name, commit: commit).appendingPathComponent(file)
    let up = String(repeating: "../", count: 2 + file.count { $0 == "/" })
    let target = "\(up)blobs/\(etag)"
    let files = FileManager.default
    if (try? files.destinationOfSymbolicLink(atPath: link.path)) == target { return }
    try HubCache.makeFolder(link.deletingLastPathComponent())
    // Beside its place and renamed, so that another pull never sees it missing.
    let partial = link.deletingLastPathComponent()
      .appendingPathComponent(".\(UUID().uuidString).link")
    do { try files.createSymbolicLink(atPath: partial.path, withDestinationPath: target) } catch {
      throw PeatError.inputOutput(
        "Can't make the link '\(link.path)': \(error.localizedDescription) The Hub's cache needs a file system with "
          + "symbolic links; HF_HOME names another place.", cause: error)
    }
    guard rename(partial.path, link.path) == 0 else {
      let reason = String(cString: strerror(errno))
      try? files.removeItem(at: partial)
      throw PeatError.inputOutput("Can't make the link '\(link.path)': \(reason).")
    }
  }

  static func makeFolder(_ url: URL) throws {
    do {
      try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    } catch {
      throw PeatError.inputOutput(
        "Can't make the folder '\(url.path)' in the Hub's cache: \(error.localizedDescription) HF_HOME names another "
          + "place for the cache.", cause: error)
    }
  }

  /// Throws `inputOutput` where the cache's disk has less room.
  func checkRoom(for bytes: Int) throws {
    try HubCache.makeFolder(folder)
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
    guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.int64Value, free < bytes else {
      return
    }
    throw PeatError.inputOutput(
      "The download needs \(bytes / 1_000_000) MB, and the disk of '\(folder.path)' has \(free / 1_000_000) MB free. "
        + "Make room, or name another place with HF_HOME.")
  }
}
