import Foundation
import PeatFederation
import PeatTensor

/// A run that another of its name takes the place of is moved aside. It goes when the other has begun, and comes back where that came to nothing.
extension RunShelf {
  /// No run has such a name.
  private func aside(of run: RunID) -> URL { folder.appendingPathComponent(run.name + "~") }
  private func gone(_ run: RunID) -> URL { folder.appendingPathComponent(run.name + "~gone") }

  /// Whether there is anything in a run's place, a run or what is left of one.
  public func hasAnything(of run: RunID) -> Bool {
    FileManager.default.fileExists(atPath: place(of: run).path)
  }

  private func blobs(of run: RunID) -> URL { place(of: run).appendingPathComponent("blobs") }

  private func databaseBytes(of run: RunID) -> Int? {
    FolderBlobStore.size(place(of: run).appendingPathComponent(RunDatabase.file))
  }

  /// How many adapters and other files of a run lie in its place while its database does not.
  private func orphans(of run: RunID) -> Int {
    guard databaseBytes(of: run) ?? 0 == 0 else { return 0 }
    return (try? FileManager.default.contentsOfDirectory(atPath: blobs(of: run).path))?.count ?? 0
  }

  /// Whether adapters of a run lie in its place and its database does not.
  func lacksDatabase(_ run: RunID) -> Bool { orphans(of: run) > 0 }

  /// Throws where adapters of a run lie in its place and its database does not: who begins anew there deletes them.
  public func checkDatabase(of run: RunID) throws {
    let count = orphans(of: run)
    guard count > 0 else { return }
    throw PeatError.badData(
      "\(count) adapters and other files of an earlier run lie in '\(blobs(of: run).path)', but its database '\(RunDatabase.file)' is \(databaseBytes(of: run) == nil ? "missing" : "empty"). Put it back to go on with that run, or move '\(place(of: run).path)' away. --anew begins anew and deletes them, as 'runs delete' does."
    )
  }

  /// Moves a run aside.
  ///
  /// - Throws: `usage` where a process works on it.
  public func setAside(_ run: RunID) throws {
    let place = place(of: run)
    let lock = try FolderLock(
      place, isBusy: "The run '\(run)' is under way in another process; stop that first.")
    try withExtendedLifetime(lock) { try AtomicOutput.rename(place, to: aside(of: run)) }
  }

  /// Puts back a run that was moved aside for one that did not begin, as its process was killed. Where there is none nothing happens.
  ///
  /// - Returns: whether there was one.
  @discardableResult
  public func putBack(_ run: RunID) throws -> Bool {
    try? FileManager.default.removeItem(at: gone(run))
    guard FileManager.default.fileExists(atPath: aside(of: run).path) else { return false }
    try putBackOverRest(of: run)
    return true
  }

  private func putBackOverRest(of run: RunID) throws {
    guard hasAnything(of: run) else {
      return try AtomicOutput.rename(aside(of: run), to: place(of: run))
    }
    let lock = try FolderLock(
      place(of: run), isBusy: "The run '\(run)' is under way in another process; stop that first.")
    try withExtendedLifetime(lock) { try giveUp(run) }
  }

  /// Removes a run that did not begin, and puts back the one that was moved aside for it. The caller has it.
  func giveUp(_ run: RunID) throws {
    do { try FileManager.default.removeItem(at: place(of: run)) } catch {
      throw PeatError.inputOutput(
        "Can't delete '\(place(of: run).path)': \(error.localizedDescription)", cause: error)
    }
    if FileManager.default.fileExists(atPath: aside(of: run).path) {
      try AtomicOutput.rename(aside(of: run), to: place(of: run))
    }
    // The shelf itself goes with its last run, where it is empty.
    rmdir(folder.path)
  }

  /// Deletes the run that was moved aside, where there is one.
  func dropAside(of run: RunID) throws {
    let aside = aside(of: run)
    guard FileManager.default.fileExists(atPath: aside.path) else { return }
    // At once: half of it is not to come back.
    try? FileManager.default.removeItem(at: gone(run))
    try AtomicOutput.rename(aside, to: gone(run))
    try? FileManager.default.removeItem(at: gone(run))
  }
}
