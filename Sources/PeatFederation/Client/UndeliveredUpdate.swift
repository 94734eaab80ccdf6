import Foundation
import PeatTensor

/// The update that a client made last, until it is given another task: what was trained is not trained again, whatever stops client or coordinator.
///
/// It stays after the coordinator took it: one that lost power may ask for it again. It is written without waiting for the disk: what is not whole is trained anew.
struct UndeliveredUpdate: Sendable {
  private struct Kept: Codable {
    var task: TrainingTask
    var header: Data
    var payload: BlobReference
  }

  private let file: URL
  private let tensors: URL

  init(in folder: URL) {
    file = folder.appendingPathComponent("undelivered.json")
    tensors = folder.appendingPathComponent("undelivered.safetensors")
  }

  /// The update of a task, with the bytes of its header; `nil` where there is none. One of another task is dropped.
  func update(for task: TrainingTask) -> (header: UpdateHeader, json: Data, payload: Data)? {
    guard let data = try? Data(contentsOf: file) else { return nil }
    guard let kept = try? KeptJSON.decode(Kept.self, from: data, file.path),
      kept.task == task.itself, let payload = try? Data(contentsOf: tensors),
      payload.count == kept.payload.bytes, Digest(of: payload) == kept.payload.digest,
      let header = try? UpdateHeader(json: kept.header, from: ClientUpdate.headerFile)
    else {
      forget()
      return nil
    }
    return (header, kept.header, payload)
  }

  func keep(_ payload: Data, header: Data, of task: TrainingTask) throws {
    let kept = Kept(
      task: task.itself, header: header,
      payload: BlobReference(digest: Digest(of: payload), bytes: payload.count))
    do {
      try payload.write(to: tensors, options: .atomic)
      try KeptJSON.encode(kept).write(to: file, options: .atomic)
    } catch {
      throw PeatError.inputOutput(
        "Can't keep the update in '\(tensors.path)' until it is delivered: \(error.localizedDescription)",
        cause: error)
    }
  }

  func forget() {
    for file in [file, tensors] { try? FileManager.default.removeItem(at: file) }
  }
}

extension TrainingTask {
  /// What of a task decides its update: what was done of it goes on where this is the same.
  var itself: TrainingTask {
    var result = self
    (result.attempt, result.refresh, result.deadlineSeconds) = (1, false, 0)
    return result
  }
}
