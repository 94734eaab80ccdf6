import FedPEAT
import Foundation

/// Where the levels of a ladder lie: `level-0`, `level-1`, … of one folder. They are made in `unfinished` beside them and take their places together, so that
/// levels of two ladders never lie side by side.
struct LadderFolder {
  private let url: URL
  private let count: Int
  private var unfinished: URL { url.appendingPathComponent("unfinished") }

  /// - Parameter count: how many levels there will be.
  init(_ url: URL, count: Int) {
    self.url = url
    self.count = count
  }

  /// Where each will lie.
  var places: [URL] { (0..<count).map { url.appendingPathComponent("level-\($0)") } }

  /// Where each is made.
  var workshops: [URL] { (0..<count).map { unfinished.appendingPathComponent("level-\($0)") } }

  /// Throws where something would be lost that is no level of ours, or a saved state that nobody asked to go on with.
  ///
  /// - Parameter resumes: what an interrupted command left is gone on with; else it is removed, where nothing of it can be.
  func prepare(inputs: [URL], resumes: Bool) throws {
    let left = levels(in: unfinished)
    for folder in levels(in: url) + left + places {
      try CheckpointWriter.checkOutput(folder, inputs: inputs)
    }
    guard !resumes else { return }
    for folder in left { _ = try Trainer.State.read(in: folder, resume: false) }
    for folder in left { try FileManager.default.removeItem(at: folder) }
  }

  /// Puts all levels into their places, instead of all those that were there.
  func finish() throws {
    let files = FileManager.default
    do {
      for (number, old) in levels(in: url).enumerated() {
        try files.moveItem(at: old, to: unfinished.appendingPathComponent("replaced-\(number)"))
      }
      for (workshop, place) in zip(workshops, places) {
        try files.moveItem(at: workshop, to: place)
      }
      try files.removeItem(at: unfinished)
    } catch {
      throw PeatError.inputOutput(
        "Can't put the levels into '\(url.relativePath)': \(error.localizedDescription) They lie in '\(unfinished.relativePath)'.",
        cause: error)
    }
  }

  private func levels(in folder: URL) -> [URL] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { name in
      name.hasPrefix("level-") && Int(name.dropFirst("level-".count)) != nil
    }.sorted().map { folder.appendingPathComponent($0) }
  }
}
