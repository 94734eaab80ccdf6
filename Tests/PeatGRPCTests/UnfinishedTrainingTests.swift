import Foundation
import PeatFederation
import PeatTensor
import Testing

/// A trainer that is cut in the middle, and goes on from what it kept.
private struct CutTrainer: LocalTrainer {
  /// Whether it waits to be cut once half is done.
  var stopsHalfway = false
  /// Where its training began, in each of its lives.
  let beginnings = Log<String>()
  let isHalfway = Door()

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    try await train(task, adapter: adapter, carried: [:], unfinished: nil) { _ in }
  }

  func train(
    _ task: TrainingTask, adapter: NamedTensors, carried: NamedTensors,
    unfinished: UnfinishedTraining?, onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> LocalResult {
    let kept = unfinished?.restored().flatMap {
      try? String(contentsOf: $0.appendingPathComponent("half"), encoding: .utf8)
    }
    await beginnings.add(kept ?? "start")
    // What is kept last counts.
    for part in ["first", "half"] {
      try unfinished?.keep { folder in
        try Data("\(part) of \(task.round)".utf8).write(
          to: folder.appendingPathComponent("half"))
      }
    }
    if stopsHalfway {
      await isHalfway.open()
      try await Task.sleep(for: .seconds(1000))
    }
    return LocalResult(
      tensors: adapter.mapValues { $0.map { $0 + 1 } }, exampleCount: 1)
  }
}

@Suite("A client's unfinished training", .timeLimit(.minutes(10))) struct UnfinishedTrainingTests {
  @Test(arguments: TransportKind.allCases)
  func `a client that is stopped in the middle of its training goes on with it`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(kind, in: folder, rules: RoundRules(rounds: 2))
      let running = Task { try await federation.coordinator.run() }
      let place = folder.appendingPathComponent("client-a/unfinished")
      for life in 1...2 {
        var cut = CutTrainer()
        cut.stopsHalfway = true
        let client = try federation.client("a", cut)
        let working = Task { try await client.run() }
        await cut.isHalfway.pass()
        working.cancel()
        await #expect(throws: CancellationError.self) { try await working.value }
        #expect(await cut.beginnings.values == [life == 1 ? "start" : "half of 1"])
        #expect(FileManager.default.fileExists(atPath: place.path))
      }
      let whole = CutTrainer()
      let report = try await federation.client("a", whole).run()
      #expect(try await running.value.ending == .completed && report.updates == 2)
      // What is kept is of one task.
      #expect(await whole.beginnings.values == ["half of 1", "start"])
      #expect(!FileManager.default.fileExists(atPath: place.path))
      await federation.transport.cut()
    }
  }

  private let task = TrainingTask(
    run: "test-run", round: 3, client: "a",
    adapter: BlobReference(digest: Digest(of: Data()), bytes: 0),
    baseDigest: Digest(of: Data("base".utf8)), seed: 5)

  /// Keeps a file of a task in a folder, and gives that file's place.
  private func keep(_ text: String, of task: TrainingTask, in folder: URL) throws -> URL {
    let unfinished = UnfinishedTraining(of: task, in: folder)
    try unfinished.keep { try Data(text.utf8).write(to: $0.appendingPathComponent("state")) }
    return try #require(unfinished.restored()).appendingPathComponent("state")
  }

  @Test func `what is kept is there for the same task, whatever attempt it is`() async throws {
    try await withTemporaryFolder { folder in
      let file = try keep("one", of: task, in: folder)
      var again = task
      (again.attempt, again.deadlineSeconds, again.refresh) = (4, 9, true)
      #expect(
        UnfinishedTraining(of: again, in: folder).restored() == file.deletingLastPathComponent())
      // A new state takes the old one's place; one that can't be written leaves it.
      let second = try keep("two", of: task, in: folder)
      #expect(!FileManager.default.fileExists(atPath: file.path))
      #expect(throws: PeatError.self) {
        try UnfinishedTraining(of: task, in: folder).keep { folder in
          try Data("three".utf8).write(to: folder.appendingPathComponent("state"))
          throw PeatError.inputOutput("no room")
        }
      }
      #expect(UnfinishedTraining(of: task, in: folder).restored() != nil)
      #expect(try String(contentsOf: second, encoding: .utf8) == "two")
    }
  }

  @Test func `what is of another task, or damaged, is dropped`() async throws {
    var others = Array(repeating: task, count: 4)
    others[0].round = 4
    others[1].baseDigest = Digest(of: Data("another".utf8))
    others[2].seed = 6
    others[3].localSteps = 9
    for other in others {
      try await withTemporaryFolder { folder in
        _ = try keep("one", of: task, in: folder)
        #expect(UnfinishedTraining(of: other, in: folder).restored() == nil)
        #expect(UnfinishedTraining(of: task, in: folder).restored() == nil)
      }
    }
    for damage in 0..<4 {
      try await withTemporaryFolder { folder in
        let file = try keep("one", of: task, in: folder)
        let note = folder.appendingPathComponent("unfinished/task.json")
        switch damage {
        case 0: try Data("onf".utf8).write(to: file)
        case 1: try FileManager.default.removeItem(at: file)
        case 2: try Data(try Data(contentsOf: note).dropLast(9)).write(to: note)
        default: try Data().write(to: file.deletingLastPathComponent().appendingPathComponent("x"))
        }
        #expect(UnfinishedTraining(of: task, in: folder).restored() == nil, "\(damage)")
        #expect(
          !FileManager.default.fileExists(atPath: folder.appendingPathComponent("unfinished").path))
      }
    }
  }
}
