import Foundation
import PeatFederation
import PeatTensor
import Testing

/// Gives one client no part, and keeps what it was told.
private actor LeavingOut: RoundPlanner {
  private let client: ClientID
  private(set) var states: [FederationState] = []

  init(_ client: ClientID) { self.client = client }

  func plan(_ state: FederationState) async throws -> RoundPlan {
    states.append(state)
    var plan = try await EveryonePlanner().plan(state)
    plan.assignments[client]?.participates = false
    plan.assignments[client]?.reason = "test: too slow,\nby far"
    return plan
  }
}

@Suite("Who is left out, and what is seen of the others", .timeLimit(.minutes(10)))
struct LeftOutTests {
  @Test(arguments: TransportKind.allCases)
  func `a client that is left out hears of each round, and why`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 3, minimumClients: 2),
        planner: LeavingOut("b"))
      let running = Task { try await federation.coordinator.run() }
      let told = Log<ClientProgress>()
      let trainer = ToyTrainer(target: 1)
      let absent = try federation.client("b", trainer) { event in Task { await told.add(event) } }
      // The rounds wait until it has heard.
      var steady = ToyTrainer(target: 1)
      steady.onTrain = { task in
        try await eventually("it heard of round \(task.round)") {
          await absent.report.leftOut == task.round
        }
      }
      let client = try federation.client("a", steady)
      let working = [client, absent].map { client in Task { try await client.run() } }
      #expect(try await running.value.rounds.allSatisfy { $0.delivered == ["a"] })
      #expect(try await working[0].value.leftOut == 0)
      let report = try await working[1].value
      #expect(report.leftOut == 3 && report.updates == 0)
      let notices = await told.values.filter { if case .leftOut = $0 { true } else { false } }
      #expect(Set(notices.map { "\($0)" }).count == 3)
      for round in 1...3 {
        let notice = LeftOut(round: round, reason: "test: too slow, by far")
        #expect(notices.contains(.leftOut(notice, isLast: round == 3)))
      }
      await federation.transport.cut()
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `with the planner idle rounds pass, and nothing is tuned`(kind: TransportKind) async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 3, minimumClients: 2, minimumUpdates: 2),
        planner: IdlePlanner())
      let (run, clients) = try await federation.run([
        "a": ToyTrainer(target: 1), "b": ToyTrainer(target: 2),
      ])
      #expect(run.ending == .completed && run.rounds.count == 3)
      #expect(run.adapter == ToyTrainer.adapter)
      #expect(run.bytesDown == 0 && run.bytesUp == 0)
      #expect(run.rounds.allSatisfy { $0.outcomes.isEmpty && $0.plan.skipped != nil })
      #expect(clients.values.allSatisfy { $0.updates == 0 })
      await federation.transport.cut()
    }
  }

  @Test(arguments: [1e6, 1e-6])
  func `a client is not believed beyond what the coordinator's clock saw`(
    claim: Double
  ) async throws {
    try await withTemporaryFolder { folder in
      let clock = TestClock()
      let planner = LeavingOut("nobody")
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 2), planner: planner, clock: clock)
      var liar = ToyTrainer(target: 1)
      liar.onTrain = { _ in clock.advance(by: .seconds(10)) }
      liar.corrupt = { _, result in result.computeSeconds = claim }
      let run = try await federation.run(["a": liar]).run
      let outcome = try #require(run.rounds.first?.outcomes.first)
      // The record has both: what it said, and what was seen.
      #expect(outcome.telemetry?.computeSeconds == claim)
      #expect(outcome.observed?.seconds == 10)
      #expect(outcome.observed?.bytesDown == outcome.bytesDown)
      let known = try #require(await planner.states.last?.clients.first)
      #expect(known.observed == outcome.observed)
      let believed = try #require(known.telemetry)
      // Its download was measured on another clock, and took next to nothing.
      #expect(abs(believed.computeSeconds + believed.downloadSeconds - (claim > 1 ? 10 : 5)) < 1e-6)
      #expect(believed.bytesDown == outcome.bytesDown)
    }
  }
}
