import Foundation
import PeatFederation
import PeatStore
import PeatTensor
import TestSupport
import Testing

/// Whatever dies, and whenever: the run comes to the same, to the last bit.
@Suite("A federation that dies", .timeLimit(.minutes(30))) struct MortalityTests {
  /// Federations that remember different things from round to round.
  static func federation(_ number: Int) throws -> MortalFederation {
    var federation = MortalFederation()
    switch number % 4 {
    case 0: break
    case 1:
      federation.strategy = try Strategies.named("fedadam")
      federation.serverWeight = 0.3
    case 2:
      federation.upload = try UpdateEncoding(word: "top-k=0.4,int8")
      federation.download = try UpdateEncoding(word: "int8")
    default:
      federation.strategy = try Strategies.named("median")
      federation.download = try UpdateEncoding(word: "f16")
    }
    return federation
  }

  private func expectSame(_ found: RunReport, _ expected: RunReport, _ what: String) {
    #expect(found.adapter.digest == expected.adapter.digest, "\(what)")
    #expect(found.strategyState == expected.strategyState, "\(what)")
    #expect(found.rounds.count == expected.rounds.count, "\(what)")
    for (own, other) in zip(found.rounds, expected.rounds) {
      #expect(own.round == other.round && own.plan == other.plan, "\(what)")
      #expect(own.outcomes.map(\.client) == other.outcomes.map(\.client), "\(what)")
      #expect(own.outcomes.map(\.result) == other.outcomes.map(\.result), "\(what)")
      #expect(own.outcomes.map(\.exampleCount) == other.outcomes.map(\.exampleCount), "\(what)")
      #expect(own.aggregation == other.aggregation, "\(what)")
      #expect(own.aggregationError == other.aggregationError, "\(what)")
    }
    #expect(found.ending == .completed, "\(what)")
  }

  @Test(arguments: StoreKind.allCases)
  func `a coordinator that dies at any commit goes on`(kind: StoreKind) async throws {
    let federation = MortalFederation()
    let (expected, commits) = try await withTemporaryFolder { folder in
      let plain = try await federation.run(nil, in: folder.appendingPathComponent("plain"))
      let kept = try await federation.run(kind, in: folder.appendingPathComponent("kept"))
      expectSame(kept.report, plain.report, "a run that is kept")
      return (plain.report, kept.commits[0])
    }
    // One transaction for each update, and a few for a round.
    #expect(commits < federation.rounds * (federation.clients.count + 6) + 12)
    for commit in 1...commits {
      for isKept in [false, true] {
        let outcome = try await withTemporaryFolder { folder in
          try await federation.run(
            kind, in: folder, deaths: [.init(commit: commit, isKept: isKept)])
        }
        expectSame(outcome.report, expected, "death at commit \(commit), kept: \(isKept)")
        // None is left behind, trying to reach one that is gone.
        #expect(
          outcome.told == Set(federation.clients.keys), "commit \(commit), kept: \(isKept)")
        // What was taken is not asked again, and what was trained is not trained again.
        for (client, tasks) in outcome.trainings {
          #expect(
            tasks.map(\.round) == Array(1...federation.rounds),
            "\(client) at commit \(commit), \(isKept)")
        }
      }
    }
  }

  @Test(arguments: 0..<24)
  func `both sides die, and the adapter is the same`(seed: Int) async throws {
    try await die(seed)
  }

  @Test(.tags(.long), .onlyWithAll)
  func `both sides die at many more points, and the adapter is the same`() async throws {
    try await fewAtATime(24..<600) { try await self.die($0) }
  }

  /// A run in which the coordinator dies one to three times, and clients up to twice each.
  private func die(_ seed: Int) async throws {
    var random = SeededRandom(seed: UInt64(seed), "deaths")
    let federation = try Self.federation(seed)
    let expected = try await withTemporaryFolder { folder in
      try await federation.run(nil, in: folder).report
    }
    let deaths = (0...random.integer(below: 3)).map { _ in
      MortalFederation.Death(
        commit: 1 + random.integer(below: 14), isKept: random.integer(below: 2) == 0)
    }
    var clientDeaths: [ClientID: [Int]] = [:]
    for client in federation.clients.keys.sorted() {
      clientDeaths[client] = (0..<random.integer(below: 3)).map { _ in
        1 + random.integer(below: 25)
      }
    }
    let outcome = try await withTemporaryFolder { folder in
      try await federation.run(.sqlite, in: folder, deaths: deaths, clientDeaths: clientDeaths)
    }
    expectSame(
      outcome.report, expected, "seed \(seed): deaths \(deaths), of clients \(clientDeaths)")
  }

  @Test func `transfers go on where they stopped, up and down`() async throws {
    try await withTemporaryFolder { folder in
      var federation = MortalFederation()
      federation.rounds = 1
      federation.clients = ["a": 1]
      let whole = try await federation.run(nil, in: folder.appendingPathComponent("whole"))
      let all = try #require(whole.report.traffic["a"])
      // The client dies after each of its steps; what had arrived on either side is not sent again.
      let outcome = try await federation.run(
        .sqlite, in: folder.appendingPathComponent("cut"),
        clientDeaths: ["a": Array(4..<20)])
      #expect(outcome.clientLives > 4)
      let traffic = try #require(outcome.report.traffic["a"])
      #expect(outcome.report.adapter.digest == whole.report.adapter.digest)
      // A piece of 64 bytes that was on its way may be sent twice.
      #expect(traffic.bytesDown <= all.bytesDown + 16 * 64, "\(traffic), \(all)")
    }
  }
}
