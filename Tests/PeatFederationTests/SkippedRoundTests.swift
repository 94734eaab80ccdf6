import Foundation
import PeatFederation
import Testing

@Suite("A round in which nobody is asked") struct SkippedRoundTests {
  @Test func `passes without clients, and is no round of too few`() {
    var machine = RoundStateMachine(rules: RoundStateMachineTests.rules(clients: 1, updates: 1))
    _ = machine.handle(.started)
    _ = machine.handle(.clientJoined("a", restarted: true))
    for round in 1...2 {
      let plan = RoundPlan.skipping(["a"], because: "test")
      #expect(
        machine.handle(.planMade(plan, round: round, attempt: 1)) == [
          .beginRound(round: round, attempt: 1, plan: plan), .aggregate(round: round, clients: []),
        ])
      #expect(machine.handle(.aggregated(round: round)) == [.evaluate(round: round)])
      let actions = machine.handle(.evaluated(round: round, metrics: ["m": 1]))
      let record = RoundRecord(
        round: round, attempt: 1, plan: plan, outcomes: [], metrics: ["m": 1])
      #expect(actions.first == .record(record))
    }
    #expect(machine.ending == .completed)
  }

  @Test func `ends the wait of a plan in which too few could take part`() {
    var machine = RoundStateMachine(rules: RoundStateMachineTests.rules(clients: 1, updates: 1))
    _ = machine.handle(.started)
    _ = machine.handle(.clientJoined("a", restarted: true))
    // Nobody takes part, but not because that is wanted.
    _ = machine.handle(.planMade(RoundPlan([:]), round: 1, attempt: 1))
    _ = machine.handle(.timerFired(RoundTimer(.replanning, round: 1, attempt: 1)))
    let actions = machine.handle(
      .planMade(.skipping(["a"], because: "test"), round: 1, attempt: 1))
    #expect(actions.first == .cancelTimer(RoundTimer(.gathering, round: 1, attempt: 1)))
    #expect(actions.last == .aggregate(round: 1, clients: []))
  }

  @Test func `idle asks nobody, and says so`() async throws {
    let state = FederationState(
      run: "r", round: 1, attempt: 1, rounds: 10,
      clients: ["a", "b"].map { .init($0, allowedLevels: [0]) }, levels: [.init(0, bytes: 1)],
      minimumUpdates: 2)
    let plan = try await Planners.named("idle", seed: 0).plan(state)
    #expect(plan.participants.isEmpty && plan.skipped?.contains("idle") == true)
    #expect(plan.assignments.count == 2)
  }
}

@Suite("What a plan says of a client") struct AssignmentTests {
  @Test func `who is left out has no emulator and no work`() throws {
    var assignment = RoundPlan.Assignment(emulatorLevel: 2, localSteps: 5)
    assignment.uploadBits = 8
    assignment.reason = "slow"
    assignment.regret = 0.5
    assignment.participates = false
    var expected = RoundPlan.Assignment.leftOut(because: "slow")
    expected.regret = 0.5
    #expect(assignment == expected)
    #expect(assignment.emulatorLevel == nil && assignment.localSteps == nil)
    #expect(RoundPlan.Assignment(participates: false, emulatorLevel: 1).emulatorLevel == nil)
  }

  @Test func `every key is written, null where it says nothing`() throws {
    var plan = RoundPlan(["a": .leftOut(because: "slow"), "b": .init(emulatorLevel: 1)])
    plan.assignments["b"]?.isAdded = true
    let data = try JSONEncoder().encode(plan)
    let table = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(table["skipped"] is NSNull && table["regret"] is NSNull)
    let assignments = try #require(table["assignments"] as? [String: [String: Any]])
    let keys: Set = [
      "participates", "emulatorLevel", "refresh", "localSteps", "learningRateScale",
      "trainedRank", "uploadBits", "transmitPower", "bandwidth", "added", "reason", "regret",
    ]
    for (client, own) in assignments { #expect(Set(own.keys) == keys, "\(client)") }
    #expect(assignments["a"]?["emulatorLevel"] is NSNull)
    #expect(assignments["b"]?["emulatorLevel"] as? Int == 1)
    #expect(assignments["b"]?["added"] as? Bool == true)
    #expect(try JSONDecoder().decode(RoundPlan.self, from: data) == plan)
  }

  @Test func `a record says null where there is nothing to say, and is read again`() throws {
    let outcome = ClientOutcome(client: "a", emulatorLevel: 0, result: .late)
    let record = RoundRecord(
      round: 1, attempt: 1, plan: RoundPlan(["a": .init()]), outcomes: [outcome])
    let data = try JSONEncoder().encode(record)
    let table = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(table["serverFailure"] is NSNull)
    let own = try #require((table["outcomes"] as? [[String: Any]])?.first)
    for key in ["telemetry", "observed", "exampleCount"] { #expect(own[key] is NSNull, "\(key)") }
    #expect(try JSONDecoder().decode(RoundRecord.self, from: data) == record)
  }
}
