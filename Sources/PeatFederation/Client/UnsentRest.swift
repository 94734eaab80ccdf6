import Foundation
import PeatTensor

/// What a client's updates lack of what was tuned, as rounding and `top-k` kept it back: the client adds it to its next update, so that nothing is lost
/// for good (error feedback).
///
///     sent = rounded(tuned + rest);  rest ← tuned + rest − sent
///
/// SCAFFOLD's control variates and what trainers carry from task to task change with an update that counts, too, and are kept the same way, in files of their own.
///
/// Whether an update counts is decided by the coordinator: it may be refused, arrive too late, or be dropped with its round, and the verdict may get
/// lost. So both rests are kept, the one before a round and the one after; the next task says in which round the client's last update
/// counted, and by that one of both goes on. They lie in the client's folder, and survive a restart.
///
/// Sources: Seide et al. 2014, *1-Bit Stochastic Gradient Descent*; Karimireddy et al. 2019, <https://arxiv.org/abs/1901.09847>.
package struct UnsentRest: Sendable {
  /// Of the last round that the client sent an update in.
  private struct Kept {
    var run: RunID
    var round: Int
    var baseDigest: Digest
    /// What the task said then.
    var countedRound: Int
    var before: NamedTensors
    var after: NamedTensors
  }

  private static let before = "before."
  private static let after = "after."

  private let file: URL
  private var kept: Kept?

  /// The name of the file of what trainers carry on, on either side.
  package static let carried = "carried.safetensors"

  /// - Parameters:
  ///   - folder: the client's own.
  ///   - name: of the file in it.
  package init(in folder: URL, name: String = "unsent-rest.safetensors") {
    file = folder.appendingPathComponent(name)
  }

  /// Whether nothing is kept.
  package var isEmpty: Bool { kept == nil }

  /// Reads what an earlier process left.
  ///
  /// - Throws: `badData` where that is damaged.
  package mutating func restore() throws {
    guard FileManager.default.fileExists(atPath: file.path) else { return }
    let stored = try SafeTensorsFile(contentsOf: file)
    func part(_ prefix: String) throws -> NamedTensors {
      try stored.names.filter { $0.hasPrefix(prefix) }.reduce(into: [:]) {
        $0[String($1.dropFirst(prefix.count))] = try stored.tensor(named: $1)
      }
    }
    let facts = stored.metadata
    guard let run = facts["run"], let round = facts["round"].flatMap(Int.init),
      let counted = facts["countedRound"].flatMap(Int.init),
      let digest = facts["baseDigest"].flatMap(Digest.init(hex:))
    else { throw PeatError.badData("'\(file.path)' does not say which round it is of.") }
    let (old, new) = (try part(Self.before), try part(Self.after))
    guard (Array(old.values) + Array(new.values)).allSatisfy(\.isFinite) else {
      throw PeatError.badData("'\(file.path)' holds values that are not finite numbers.")
    }
    kept = Kept(
      run: try RunID(run), round: round, baseDigest: digest, countedRound: counted, before: old,
      after: new)
  }

  /// The same; what is damaged is told of, and dropped.
  package mutating func restore(onLoss: (_ reason: String) -> Void) throws {
    do { try restore() } catch {
      onLoss(failureReason(error))
      try forget()
    }
  }

  /// What to add to this task's update; empty where there is nothing, or what is kept belongs to another run, or to other tensors.
  package func rest(for task: TrainingTask, tensors: NamedTensors) -> NamedTensors {
    let rest = rest(for: task)
    return rest.allSatisfy { tensors[$0.key]?.shape == $0.value.shape } ? rest : [:]
  }

  /// The same, whatever the task's tensors are.
  package func rest(for task: TrainingTask) -> NamedTensors {
    guard let counted = task.countedRound, let kept, kept.run == task.run,
      task.round >= kept.round, kept.countedRound <= counted, counted <= kept.round
    else { return [:] }
    if task.round == kept.round {
      // The round is tried again: from the same adapter, or it is another run of the same name.
      guard task.baseDigest == kept.baseDigest, counted < kept.round else { return [:] }
      return kept.before
    }
    return counted == kept.round ? kept.after : kept.before
  }

  /// Keeps what this task's update lacks, before it is sent.
  ///
  /// - Parameters:
  ///   - after: what it lacks.
  ///   - before: what was added to it.
  package mutating func keep(
    _ after: NamedTensors, before: NamedTensors, of task: TrainingTask
  ) throws {
    guard let counted = task.countedRound else { return try forget() }
    if isEmpty, after.isEmpty, before.isEmpty { return }
    var tensors: NamedTensors = [:]
    for (name, tensor) in before { tensors[Self.before + name] = tensor }
    for (name, tensor) in after { tensors[Self.after + name] = tensor }
    try SafeTensors.write(
      tensors, to: file,
      metadata: [
        "run": task.run.name, "round": "\(task.round)", "countedRound": "\(counted)",
        "baseDigest": task.baseDigest.hex,
      ])
    kept = Kept(
      run: task.run, round: task.round, baseDigest: task.baseDigest, countedRound: counted,
      before: before, after: after)
  }

  /// Drops what is kept.
  package mutating func forget() throws {
    kept = nil
    guard FileManager.default.fileExists(atPath: file.path) else { return }
    do { try FileManager.default.removeItem(at: file) } catch {
      throw PeatError.inputOutput(
        "Can't remove '\(file.path)': \(error.localizedDescription)", cause: error)
    }
  }
}
