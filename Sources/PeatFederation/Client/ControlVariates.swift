import Foundation
import PeatTensor

/// SCAFFOLD's cₖ, a client's own, in its work folder. Of the last round both are kept, from before and after, as only the next task says whether the update counted.
package struct ControlVariates: Sendable {
  private var kept: UnsentRest

  package init(in folder: URL) {
    kept = UnsentRest(in: folder, name: "control-variates.safetensors")
  }

  /// Reads what an earlier process left; what is damaged is told of, and dropped.
  package mutating func restore(onLoss: (_ reason: String) -> Void) throws {
    try kept.restore(onLoss: onLoss)
  }

  /// cₖ for a task: zeros for a client of which none was ever counted, and c for one that has lost its own.
  ///
  /// - Parameter shared: c, by the names of what it is for.
  package func own(for task: TrainingTask, _ shared: NamedTensors) -> NamedTensors {
    let found = kept.rest(for: task, tensors: shared)
    if found.count == shared.count { return found }
    return (task.countedRound ?? 0) > 0 ? shared : shared.mapValues { Tensor(zeros: $0.shape) }
  }

  /// Keeps what a round made of cₖ, before its update is sent.
  package mutating func keep(_ new: NamedTensors, before: NamedTensors, of task: TrainingTask)
    throws
  {
    try kept.keep(new, before: before, of: task)
  }
}
