import Foundation
import PeatTensor
import Synchronization

/// A run store whose rows are in memory: it survives a coordinator, and not the process.
public final class MemoryRunStore: RunStore {
  public let folder: URL
  public let blobs: FolderBlobStore
  private let state = Mutex(State())

  private struct State {
    var run: KeptRun?
    var notes: [String: Data] = [:]
  }

  /// - Parameter folder: for what is large; made where it is missing.
  public init(_ folder: URL) throws {
    self.folder = folder
    blobs = try FolderBlobStore(folder)
  }

  public func load() -> KeptRun? { state.withLock { $0.run } }

  public func commit(_ changes: RunChanges) throws {
    try state.withLock { state in
      var run: KeptRun
      if let old = state.run {
        run = old
      } else {
        guard let machine = changes.machine, let start = changes.start else {
          throw PeatError(.internalError, "A run is kept from its start on.")
        }
        run = KeptRun(machine: machine, start: start)
      }
      run.take(changes)
      state.run = run
    }
  }

  public func note(_ name: String) -> Data? { state.withLock { $0.notes[name] } }

  public func keep(_ note: Data, as name: String) { state.withLock { $0.notes[name] = note } }
}

extension KeptRun {
  /// What a store has after a commit.
  mutating func take(_ changes: RunChanges) {
    if let event = changes.event { events.append(event) }
    if let whole = changes.machine { (machine, events) = (whole, []) }
    clients.merge(changes.clients) { $1 }
    if changes.forgetsUpdates { updates = [] }
    for update in changes.updates {
      updates.removeAll { $0.key == update.key }
      updates.append(update)
    }
    if let round = changes.round {
      rounds.removeAll { $0.record.round == round.record.round }
      rounds.append(round)
      rounds.sort { $0.record.round < $1.record.round }
    }
    if let attempt = changes.failedAttempt { failedAttempts.append(attempt) }
    if let levels = changes.levels { self.levels = levels }
    if let planner = changes.planner { self.planner = planner }
    seconds = changes.seconds
    ending = changes.ending
    let first = rounds.count - min(changes.keptAdapters, rounds.count)
    for place in rounds.indices.prefix(first)
    where !changes.keptRounds.contains(rounds[place].record.round) {
      rounds[place].adapter = nil
    }
  }
}
