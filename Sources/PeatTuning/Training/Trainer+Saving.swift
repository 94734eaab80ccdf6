import Foundation
import PeatModels
import PeatTensor

extension Trainer {
  /// Saves where it stands as `State.save` does, without a copy in memory.
  public func save(in target: URL, others: [String: ((URL) throws -> Void)?] = [:]) throws {
    try state { $0 }.save(in: target, others: others)
  }

  /// Writes where it stands into a folder, without a copy in memory.
  public func write(to folder: URL) throws { try state { $0 }.write(to: folder) }
}

extension Trainer.State {
  /// Saves it beside what an earlier run wrote into the folder, which stays until this one is finished.
  ///
  /// - Parameter others: further files that belong to the state, by name, each with what writes it; `nil`: there is none any more. All are replaced at once.
  public func save(
    in target: URL, others: [String: ((URL) throws -> Void)?] = [:]
  ) throws {
    let files = FileManager.default
    let names =
      files.fileExists(atPath: target.path)
      ? try files.contentsOfDirectory(atPath: target.path) : []
    try AtomicOutput.folder(at: target, replacing: CheckpointWriter.isOurs) { folder in
      for name in names where !Self.names.contains(name) && others[name] == nil {
        let (old, new) = (
          target.appendingPathComponent(name), folder.appendingPathComponent(name)
        )
        // A second name for the same file, or a copy where the disk has no such thing.
        do { try files.linkItem(at: old, to: new) } catch { try files.copyItem(at: old, to: new) }
      }
      for (name, write) in others { try write?(folder.appendingPathComponent(name)) }
      try write(to: folder)
    }
  }

  /// The state that a command goes on from; `nil` where it begins anew.
  ///
  /// - Throws: where one is there and the command does not say that it goes on, or the other way round.
  public static func read(in target: URL, resume: Bool) throws -> Trainer.State? {
    if !resume, exists(in: target) {
      throw PeatError.usage(
        "'\(target.relativePath)' holds the state of an interrupted run. Go on from it with --resume, or delete "
          + "\(names.joined(separator: " and ")) there.")
    }
    if resume, !exists(in: target) {
      throw PeatError.inputOutput(
        "'\(target.relativePath)' holds no saved state to resume from.")
    }
    return resume ? try Trainer.State(readFrom: target) : nil
  }
}
