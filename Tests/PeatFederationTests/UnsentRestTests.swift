import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("What updates keep back") struct UnsentRestTests {
  private let tensors: NamedTensors = ["w": [0, 0]]
  private let first: NamedTensors = ["w": [1, 2]]
  private let second: NamedTensors = ["w": [3, 4]]

  private func task(
    _ round: Int, counted: Int?, run: RunID = "r", base: String = "base"
  ) -> TrainingTask {
    var task = TrainingTask(
      run: run, round: round, client: "c",
      adapter: BlobReference(digest: Digest(of: Data()), bytes: 0),
      baseDigest: Digest(of: Data("\(base) \(round)".utf8)), seed: 0)
    task.countedRound = counted
    return task
  }

  /// After rounds 1 and 2, of which the first counted.
  private func afterTwo(_ body: (UnsentRest, URL) throws -> Void) throws {
    try inTemporaryFolder { folder in
      var unsent = UnsentRest(in: folder)
      try unsent.keep(first, before: [:], of: task(1, counted: 0))
      let rest = unsent.rest(for: task(2, counted: 1), tensors: tensors)
      #expect(rest == first)
      try unsent.keep(second, before: rest, of: task(2, counted: 1))
      try body(unsent, folder)
      // The next process has the same.
      var again = UnsentRest(in: folder)
      try again.restore()
      try body(again, folder)
    }
  }

  @Test func `of an update that counted what it lacks goes on`() throws {
    try afterTwo { unsent, _ in
      #expect(unsent.rest(for: task(3, counted: 2), tensors: tensors) == second)
      #expect(unsent.rest(for: task(9, counted: 2), tensors: tensors) == second)
    }
  }

  @Test func `of one that did not count, what was added to it`() throws {
    try afterTwo { unsent, _ in
      #expect(unsent.rest(for: task(3, counted: 1), tensors: tensors) == first)
      // The same round once more.
      #expect(unsent.rest(for: task(2, counted: 1), tensors: tensors) == first)
    }
  }

  @Test func `what belongs to another run or another adapter is not used`() throws {
    try afterTwo { unsent, _ in
      for other in [
        task(3, counted: 2, run: "other"), task(1, counted: 0), task(3, counted: 0),
        task(2, counted: 1, base: "of another run of the same name"), task(5, counted: 4),
        task(3, counted: nil),
      ] {
        #expect(unsent.rest(for: other, tensors: tensors).isEmpty)
      }
      let others: [NamedTensors] = [["w": [0, 0, 0]], ["v": [0, 0]]]
      for other in others {
        #expect(unsent.rest(for: task(3, counted: 2), tensors: other).isEmpty)
      }
    }
  }

  @Test func `where nothing is kept back nothing is written`() throws {
    try inTemporaryFolder { folder in
      var unsent = UnsentRest(in: folder)
      try unsent.keep([:], before: [:], of: task(1, counted: 0))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
      try unsent.keep(first, before: [:], of: task(2, counted: 1))
      // Rules that make factors anew have no use for it.
      try unsent.keep(second, before: [:], of: task(3, counted: nil))
      #expect(unsent.isEmpty)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }
  }

  @Test func `a damaged file is told, not believed`() throws {
    try afterTwo { _, folder in
      let name = try #require(
        FileManager.default.contentsOfDirectory(atPath: folder.path).first)
      let file = folder.appendingPathComponent(name)
      let good = try Data(contentsOf: file)
      try good.dropLast(3).write(to: file)
      var unsent = UnsentRest(in: folder)
      expectError(.badData, "damaged") { try unsent.restore() }
      try SafeTensors.encode(first).write(to: file)
      expectError(.badData, "which round") { try unsent.restore() }
      try good.write(to: file)
    }
  }
}
