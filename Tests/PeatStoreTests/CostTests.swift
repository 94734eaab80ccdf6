import Foundation
import PeatFederation
import PeatStore
import PeatTensor
import TestSupport
import Testing

/// What it costs to keep a run. Figures are printed; the bounds are many times what they are on a quiet machine.
@Suite("The cost of keeping a run", .timeLimit(.minutes(10))) struct CostTests {
  @Test func `a commit of an update takes a fraction of a millisecond`() throws {
    try withTemporaryFolder { folder in
      let database = try RunDatabase(folder.appendingPathComponent("run"))
      var start = RunChanges()
      start.machine = RoundStateMachine(rules: RoundRules(rounds: 9))
      start.start = KeptAdapter(adapter: Digest(of: Data()), state: Digest(of: Data()))
      try database.commit(start)
      func seconds(isToSurvivePowerLoss: Bool, count: Int) throws -> Double {
        let begin = ContinuousClock.now
        for number in 0..<count {
          let client = try ClientID("client-\(number)")
          var changes = RunChanges()
          changes.event = .updateReceived(client, round: 1)
          changes.updates = [
            KeptUpdate(
              header: UpdateHeader(run: "run-0", round: 1, client: client, exampleCount: 9),
              payload: BlobReference(digest: Digest(of: Data(client.name.utf8)), bytes: 1_200_000))
          ]
          changes.isToSurvivePowerLoss = isToSurvivePowerLoss
          try database.commit(changes)
        }
        return (ContinuousClock.now - begin) / .seconds(1) / Double(count)
      }
      let quick = try seconds(isToSurvivePowerLoss: false, count: 1000)
      let sure = try seconds(isToSurvivePowerLoss: true, count: 20)
      print("a commit: \(1000 * quick) ms; on the disk: \(1000 * sure) ms")
      #expect(quick < 0.01)
      #expect(try database.load()?.updates.count == 1000)
    }
  }

  @Test(.tags(.long), .onlyWithAll)
  func `rounds of a hundred clients take as long as without`() async throws {
    var federation = MortalFederation()
    federation.rounds = 6
    federation.clients = Dictionary(
      uniqueKeysWithValues: try (0..<100).map { (try ClientID("client-\($0)"), Float($0)) })
    federation.adapter = ["w": Tensor(zeros: [300_000])]
    (federation.steps, federation.updateBytes) = (0, 512 << 10)
    var medians: [Double] = []
    for kind in [nil, StoreKind.sqlite, nil, .sqlite] {
      let outcome = try await withTemporaryFolder { folder in
        try await federation.run(kind, in: folder)
      }
      let seconds = outcome.report.rounds.dropFirst().map(\.seconds).sorted()
      medians.append(seconds[seconds.count / 2])
      print("\(kind?.rawValue ?? "not kept"): \(seconds) s per round, \(outcome.commits) commits")
    }
    #expect(min(medians[1], medians[3]) < 2 * max(medians[0], medians[2]) + 0.5)
  }
}
