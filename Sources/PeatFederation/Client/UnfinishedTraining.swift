import Foundation
import PeatTensor

/// How far a client is with the task that it is at: its trainer keeps that in the client's folder from time to time, and goes on from there where a stop,
/// of whatever kind, came between.
///
/// What is kept is a folder of files that only the trainer understands. A new one is written beside the old, and takes its place in one step.
public struct UnfinishedTraining: Sendable {
  private struct Kept: Codable {
    var task: TrainingTask
    /// Which of the folders holds it, and what its files are.
    var folder: Int
    var files: [String: Digest]
  }

  private let task: TrainingTask
  private let folder: URL

  /// - Parameter folder: the client's own.
  package init(of task: TrainingTask, in folder: URL) {
    self.task = task.itself
    self.folder = Self.place(in: folder)
  }

  private static func place(in folder: URL) -> URL {
    folder.appendingPathComponent("unfinished")
  }

  private var note: URL { folder.appendingPathComponent("task.json") }
  private func place(_ number: Int) -> URL { folder.appendingPathComponent("\(number)") }

  /// The folder with what is kept of this very task; `nil` where there is none. What is damaged, or of another task, is dropped.
  public func restored() -> URL? {
    guard let data = try? Data(contentsOf: note) else { return nil }
    guard let kept = try? KeptJSON.decode(Kept.self, from: data, note.path), kept.task == task,
      let files = try? Self.digests(of: place(kept.folder)), files == kept.files
    else {
      forget()
      return nil
    }
    return place(kept.folder)
  }

  /// Keeps what a trainer writes into a folder, in the place of what was kept before.
  public func keep(_ write: (URL) throws -> Void) throws {
    let files = FileManager.default
    do {
      try files.createDirectory(at: folder, withIntermediateDirectories: true)
      let old = try files.contentsOfDirectory(atPath: folder.path).compactMap { Int($0) }
      let number = (old.max() ?? 0) + 1
      do {
        try files.createDirectory(at: place(number), withIntermediateDirectories: false)
        try write(place(number))
        let kept = Kept(
          task: task, folder: number, files: try Self.digests(of: place(number)))
        try AtomicOutput.write(try KeptJSON.encode(kept), to: note)
      } catch {
        try? files.removeItem(at: place(number))
        throw error
      }
      for number in old { try? files.removeItem(at: place(number)) }
    } catch let error as PeatError { throw error } catch {
      throw PeatError.inputOutput(
        "Can't keep how far the training is in '\(folder.path)': \(error.localizedDescription)",
        cause: error)
    }
  }

  /// Drops what is kept, of whatever task.
  public func forget() { try? FileManager.default.removeItem(at: folder) }

  static func forget(in folder: URL) {
    try? FileManager.default.removeItem(at: place(in: folder))
  }

  private static func digests(of folder: URL) throws -> [String: Digest] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).reduce(into: [:]) {
      $0[$1] = try FolderBlobStore.digest(of: folder.appendingPathComponent($1))
    }
  }
}
