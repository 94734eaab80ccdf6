import Foundation
import PeatTensor

/// What a trainer carries from one of its tasks to the next, on the disk of its side. Of the last round both are kept, from before and after, as only the next task
/// says whether the update counted: one that did not leaves the trainer as it was.
package struct CarriedState: Sendable {
  private var kept: UnsentRest

  package init(in folder: URL) {
    kept = UnsentRest(in: folder, name: "carried.safetensors")
  }

  /// Reads what an earlier process left.
  ///
  /// - Throws: `badData` where that is damaged.
  package mutating func restore() throws { try kept.restore() }

  /// Drops what is kept.
  package mutating func forget() throws { try kept.forget() }

  /// What a task's training begins with; empty where there is nothing, or what is kept belongs to another run.
  package func own(for task: TrainingTask) -> NamedTensors { kept.rest(for: task) }

  /// Keeps what a training gave back, before its update is sent.
  ///
  /// - Parameter before: what it began with.
  package mutating func keep(_ new: NamedTensors, before: NamedTensors, of task: TrainingTask)
    throws
  {
    try kept.keep(new, before: before, of: task)
  }
}
