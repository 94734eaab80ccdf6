import Foundation
import PeatTensor
import Testing

/// A folder with a tiny pretrained model and what belongs to it, made once per test run by the program itself.
///
/// `model` (4 blocks, context 32), `emulator` (blocks 0, 1, 3), `adapter` (tuned on the emulator, with its update),
/// `other` (a model of the same shape with other weights), `text.txt`, `documents.jsonl` (with a field `user`),
/// `choices.jsonl`, `labels.jsonl` and `run.yaml`.
public struct TinyWorkshop: Sendable {
  public let folder: URL

  /// The run's workshop. Tests read it; what they write goes into folders of their own.
  public static func shared() async throws -> TinyWorkshop { try await making.value }

  private static let making = Task { try await TinyWorkshop() }

  /// Where the workshop lies, for the end of the run.
  private static let place = FileManager.default.temporaryDirectory
    .appendingPathComponent("fedpeat-workshop-\(UUID().uuidString)")

  public func url(_ name: String) -> URL { folder.appendingPathComponent(name) }
  public func path(_ name: String) -> String { url(name).path }
  public var model: String { path("model") }
  public var emulator: String { path("emulator") }
  public var adapter: String { path("adapter") }
  public var text: String { path("text.txt") }
  public var documents: String { path("documents.jsonl") }
  public var runFile: String { path("run.yaml") }

  /// Sentences drawn from a few words.
  public static func sentences(_ count: Int, seed: UInt64) -> [String] {
    let words = "the cat dog bird sat ran flew on under over a mat tree hill in rain sun and then"
      .split(separator: " ")
    var random = SeededRandom(seed: seed, "sentences")
    return (0..<count).map { _ in
      (0..<12).map { _ in String(words[random.integer(below: words.count)]) }
        .joined(separator: " ") + "."
    }
  }

  /// One JSON object per line.
  public static func jsonLines(_ records: [[String: Any]]) throws -> Data {
    try records.reduce(into: Data()) { data, record in
      data += try JSONSerialization.data(withJSONObject: record, options: .sortedKeys)
      data += Data("\n".utf8)
    }
  }

  private init() async throws {
    folder = TinyWorkshop.place
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(at: TinyWorkshop.place) }
    let sentences = TinyWorkshop.sentences(300, seed: 1)
    try Data(sentences.joined(separator: "\n").utf8).write(to: url("text.txt"))
    let records = sentences.prefix(60).enumerated().map {
      ["text": $1, "user": "user-\($0 % 4)"]
    }
    try TinyWorkshop.jsonLines(Array(records)).write(to: url("documents.jsonl"))
    try TinyWorkshop.jsonLines([
      ["question": "the cat sat", "choices": ["on a mat", "in rain"], "answer": 0],
      ["question": "a bird", "choices": ["flew over", "under then", "rain"], "answer": 1],
    ]).write(to: url("choices.jsonl"))
    try TinyWorkshop.jsonLines([
      ["text": "the cat", "label": "sat"], ["text": "the dog", "label": "ran"],
    ]).write(to: url("labels.jsonl"))
    try Data(
      """
      model: \(path("model"))
      data: \(path("documents.jsonl"))
      clients: 2
      emulators: [layer-drop=1]
      rounds: 2
      localSteps: 2
      batch: 2
      context: 16
      learningRate: 3e-3
      """.utf8
    ).write(to: url("run.yaml"))
    for (name, seed) in [("model", "1"), ("other", "2")] {
      try await make(
        "pretrain", "--text", text, "--out", path(name), "--vocabulary", "300", "--blocks", "4",
        "--hidden-size", "32", "--heads", "2", "--key-value-heads", "1", "--context", "32",
        "--batch", "8", "--steps", "30", "--seed", seed)
    }
    try await make("compress", model, "--recipe", "layer-drop=1", "--out", emulator)
    try await make(
      "tune", emulator, "--data", text, "--steps", "4", "--batch", "4", "--update", "--out", adapter
    )
  }

  private func make(_ arguments: String...) async throws {
    try await FedpeatCommand.succeed(arguments + ["--threads", "1"], in: folder)
  }
}
