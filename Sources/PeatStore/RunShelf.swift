import Foundation
import PeatFederation
import PeatTensor

/// A folder of runs, each in a folder of its own that has its name.
public struct RunShelf: Sendable {
  public let folder: URL

  public init(_ folder: URL) { self.folder = folder }

  /// Where runs are kept that are given no other place: `runs` in `FEDPEAT_HOME`, else in `fedpeat` in `XDG_STATE_HOME` or `~/.local/state`.
  public static func own(
    environment: [String: String] = ProcessInfo.processInfo.environment,
    home: URL = FileManager.default.homeDirectoryForCurrentUser
  ) -> RunShelf {
    RunShelf(StateFolder.url(environment: environment, home: home).appendingPathComponent("runs"))
  }

  /// Where the run of a result's folder is kept: beside it.
  public static func beside(_ out: URL) -> RunShelf {
    RunShelf(
      out.standardizedFileURL.deletingLastPathComponent()
        .appendingPathComponent(out.standardizedFileURL.lastPathComponent + ".runs"))
  }

  public func place(of run: RunID) -> URL { folder.appendingPathComponent(run.name) }

  public func has(_ run: RunID) -> Bool {
    FileManager.default.fileExists(
      atPath: place(of: run).appendingPathComponent(RunDatabase.file).path)
  }

  /// The runs that are here, by name, also those that can't be read.
  public var runs: [RunID] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.sorted().compactMap { try? RunID($0) }.filter { has($0) || lacksDatabase($0) }
  }

  /// Throws where there is no such run, and says which there are.
  public func check(_ run: RunID) throws {
    guard !has(run), !lacksDatabase(run) else { return }
    let names = runs.map(\.name)
    throw PeatError.inputOutput(
      names.isEmpty
        ? "There are no runs in '\(folder.path)'. Runs are kept beside their results (--store RESULT.runs) or where --store said."
        : "There is no run '\(run)' in '\(folder.path)'. "
          + suggestion(for: run.name, among: names))
  }

  /// Opens a run to write.
  public func open(_ run: RunID) throws -> RunDatabase { try RunDatabase(place(of: run)) }

  /// Opens a run to read; another process may write.
  public func read(_ run: RunID) throws -> RunDatabase {
    try check(run)
    try checkDatabase(of: run)
    return try RunDatabase(reading: place(of: run))
  }

  /// Whether a process works on a run.
  public func isUnderWay(_ run: RunID) -> Bool {
    do { return try withExtendedLifetime(FolderLock(place(of: run))) { false } } catch {
      return (error as? PeatError)?.code == .usage
    }
  }

  /// Deletes a run, unless a process works on it.
  ///
  /// - Returns: whether an earlier run of that name, which had been moved aside for it, came back.
  @discardableResult
  public func delete(_ run: RunID) throws -> Bool {
    try check(run)
    let place = place(of: run)
    let lock = try FolderLock(
      place, isBusy: "The run '\(run)' is under way in another process; stop that first.")
    // First what makes it one: what an interruption leaves is no run.
    try withExtendedLifetime(lock) {
      do {
        for name in [RunDatabase.file] + ["-wal", "-shm"].map({ RunDatabase.file + $0 }) {
          let file = place.appendingPathComponent(name)
          guard FileManager.default.fileExists(atPath: file.path) else { continue }
          try FileManager.default.removeItem(at: file)
        }
        try FileManager.default.removeItem(at: place)
      } catch {
        throw PeatError.inputOutput(
          "Can't delete '\(place.path)': \(error.localizedDescription)", cause: error)
      }
    }
    // What was moved aside for it is another run, and comes back.
    let isBack = try putBack(run)
    // The shelf itself goes with its last run, where it is empty.
    rmdir(folder.path)
    return isBack
  }

  /// What a run takes on the disk, in bytes.
  public func bytes(of run: RunID) -> Int {
    guard
      let files = FileManager.default.enumerator(
        at: place(of: run), includingPropertiesForKeys: [.fileSizeKey])
    else { return 0 }
    return files.reduce(0) { sum, file in
      sum
        + (((file as? URL).flatMap { try? $0.resourceValues(forKeys: [.fileSizeKey]) })?.fileSize
          ?? 0)
    }
  }
}
