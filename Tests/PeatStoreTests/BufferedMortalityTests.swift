import Foundation
import PeatFederation
import PeatStore
import PeatTensor
import TestSupport
import Testing

/// Whatever dies in an asynchronous run, and whenever: each update that was taken counts once. The order in which updates arrive decides what they come to, so bits can't be compared.
@Suite("An asynchronous federation that dies", .timeLimit(.minutes(30)))
struct BufferedMortalityTests {
  static let federation: MortalFederation = {
    var federation = MortalFederation()
    federation.rounds = 6
    federation.clients = ["a": 1, "b": -2, "c": 4, "d": 8]
    federation.buffer = BufferRules(size: 3)
    federation.onlyAdds = true
    return federation
  }()

  /// Checks that all rounds were made, of each update that was taken once, and that the adapter is what these make together.
  private func check(_ outcome: MortalFederation.Outcome, _ what: String) throws {
    let federation = Self.federation
    let report = outcome.report
    #expect(report.ending == .completed, "\(what)")
    #expect(report.rounds.map(\.round) == Array(1...federation.rounds), "\(what)")
    var counted: [BufferedUpdate.Key] = []
    // How far each value of the adapter has come.
    var way = 0.0
    for record in report.rounds {
      let delivered = record.outcomes.filter { $0.result == .delivered }
      #expect(delivered.count >= 3, "\(what)")
      var (sum, weights) = (0.0, 0.0)
      for outcome in delivered {
        counted.append(
          .init(
            client: outcome.client, round: record.round - outcome.staleness, number: outcome.number)
        )
        let target = Double(try #require(federation.clients[outcome.client]))
        let examples = 1 + abs(target)
        #expect(outcome.exampleCount == Int(examples), "\(what)")
        sum += examples * target / Double(1 + outcome.staleness).squareRoot()
        weights += examples
      }
      way += sum / weights
    }
    #expect(Set(counted).count == counted.count, "counted twice: \(what)")
    #expect(Set(outcome.taken).count == outcome.taken.count, "taken twice: \(what)")
    #expect(outcome.left.isDisjoint(with: counted), "\(what)")
    #expect(Set(counted).union(outcome.left) == Set(outcome.taken), "\(what)")
    for (name, start) in federation.adapter {
      let end = try #require(report.adapter[name])
      for (old, new) in zip(start.scalars, end.scalars) {
        #expect(abs(Double(new) - Double(old) - way) < 1e-4, "\(name): \(what)")
      }
    }
  }

  /// Checks that nothing was trained twice, and nothing in vain but what came too late, and what the end of the run cut.
  private func checkTrainings(_ outcome: MortalFederation.Outcome, _ what: String) {
    var done = Set(outcome.taken)
    for record in outcome.report.rounds {
      for late in record.outcomes where late.result == .late {
        done.insert(
          .init(client: late.client, round: record.round - late.staleness, number: late.number))
      }
    }
    for (client, tasks) in outcome.trainings {
      #expect(Set(tasks).count == tasks.count, "\(client) trained twice: \(what)")
      for (task, next) in zip(tasks, tasks.dropFirst()) {
        // Others may have made four rounds before it came back.
        let isTooOld = next.round - task.round > 3
        #expect(done.contains(task) || isTooOld, "\(client) trained \(task) in vain: \(what)")
      }
    }
  }

  @Test(arguments: StoreKind.allCases)
  func `a coordinator that dies at any commit loses no update and counts none twice`(
    kind: StoreKind
  ) async throws {
    let commits = try await withTemporaryFolder { folder in
      let outcome = try await Self.federation.run(kind, in: folder)
      try check(outcome, "undisturbed")
      return outcome.commits[0]
    }
    for commit in 1...commits {
      for isKept in [false, true] {
        let outcome = try await withTemporaryFolder { folder in
          try await Self.federation.run(
            kind, in: folder, deaths: [.init(commit: commit, isKept: isKept)])
        }
        let what = "death at commit \(commit), kept: \(isKept)"
        try check(outcome, what)
        checkTrainings(outcome, what)
        #expect(outcome.told == Set(Self.federation.clients.keys), "\(what)")
      }
    }
  }

  @Test(arguments: 0..<24)
  func `both sides die, and each update that was taken counts once`(seed: Int) async throws {
    try await die(seed)
  }

  @Test(.tags(.long), .onlyWithAll)
  func `both sides die at many more points, and each update counts once`() async throws {
    try await fewAtATime(24..<400) { try await self.die($0) }
  }

  /// A run in which the coordinator dies one to four times, and clients up to twice each.
  private func die(_ seed: Int) async throws {
    var random = SeededRandom(seed: UInt64(seed), "deaths of an asynchronous run")
    let deaths = (0...random.integer(below: 4)).map { _ in
      MortalFederation.Death(
        commit: 1 + random.integer(below: 20), isKept: random.integer(below: 2) == 0)
    }
    var clientDeaths: [ClientID: [Int]] = [:]
    for client in Self.federation.clients.keys.sorted() {
      clientDeaths[client] = (0..<random.integer(below: 3)).map { _ in
        1 + random.integer(below: 25)
      }
    }
    let outcome = try await withTemporaryFolder { folder in
      try await Self.federation.run(
        .sqlite, in: folder, deaths: deaths, clientDeaths: clientDeaths)
    }
    try check(outcome, "seed \(seed): deaths \(deaths), of clients \(clientDeaths)")
  }
}
