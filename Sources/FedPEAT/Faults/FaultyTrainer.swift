import Foundation
import Synchronization

/// A client's trainer of which now and then, or always, something else comes than what it trained.
package final class FaultyTrainer: LocalTrainer {
  private let trainer: any LocalTrainer
  private let faults: SimulatedFaults
  /// Which of the hostile clients it is; `nil`: none.
  private let number: Int?
  private let seed: UInt64
  /// What its first training made.
  private let first = Mutex<NamedTensors?>(nil)
  /// Where that is kept, for the process that goes on after this one; `nil`: nowhere.
  private let folder: URL?
  private static let firstFile = "first-update.safetensors"

  package init(
    _ trainer: any LocalTrainer, _ faults: SimulatedFaults, number: Int?, seed: UInt64,
    keepingIn folder: URL? = nil
  ) {
    (self.trainer, self.faults, self.number, self.seed) = (trainer, faults, number, seed)
    self.folder = folder
  }

  /// What its first training made, where this is a later one.
  private func earliest(_ new: NamedTensors) throws -> NamedTensors {
    try first.withLock { first in
      if let first { return first }
      let file = folder?.appendingPathComponent(Self.firstFile)
      if let file, FileManager.default.fileExists(atPath: file.path) {
        let kept = try SafeTensorsFile(contentsOf: file).tensors().copied()
        first = kept
        return kept
      }
      if let file { try SafeTensors.write(new, to: file) }
      first = new
      return new
    }
  }

  package func prepare(package folder: URL, level: Int) async throws {
    try await trainer.prepare(package: folder, level: level)
  }

  package func check(outline folder: URL, level: Int, for task: TrainingTask) async throws {
    try await trainer.check(outline: folder, level: level, for: task)
  }

  package func measureCompute() async -> Double? { await trainer.measureCompute() }

  package func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    try await train(task, adapter: adapter, carried: [:], unfinished: nil) { _ in }
  }

  package func train(
    _ task: TrainingTask, adapter: NamedTensors, carried: NamedTensors,
    unfinished: UnfinishedTraining?, onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> LocalResult {
    guard let number else {
      guard !faults.dropsOut(task.client, in: task.round, attempt: task.attempt, seed: seed) else {
        throw PeatError(.interrupted, "It dropped out, as clientDropouts wants some to.")
      }
      return try await trainer.train(
        task, adapter: adapter, carried: carried, unfinished: unfinished, onStep: onStep)
    }
    var result = try await trainer.train(
      task, adapter: adapter, carried: carried, unfinished: unfinished, onStep: onStep)
    let earliest = try earliest(result.tensors)
    switch faults.attacks[(number + task.round) % faults.attacks.count] {
    case .signFlip(let scale): result.tensors.step(from: adapter, by: -scale)
    case .scaled(let scale): result.tensors.step(from: adapter, by: scale)
    case .nan: result.tensors = result.tensors.mapValues { $0.map { _ in .nan } }
    case .stale: result.tensors = earliest
    }
    return result
  }
}

extension NamedTensors {
  /// Puts these so many times as far from where they began.
  fileprivate mutating func step(from start: NamedTensors, by scale: Float) {
    for (name, tensor) in self {
      guard let old = start[name], old.shape == tensor.shape else { continue }
      let before = old.scalars
      self[name] = Tensor(
        zip(tensor.scalars, before).map { $1 + scale * ($0 - $1) }, shape: tensor.shape)
    }
  }
}
