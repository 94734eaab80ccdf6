import PeatFederation
import PeatTensor
import Testing

/// Deadlines that wait for who makes progress: 60 s, at most 100 s, and 20 s without a move are too many.
@Suite("Deadlines by progress") struct ProgressDeadlineTests {
  func training(updates: Int = 1) -> (RoundStateMachine, [RoundAction]) {
    var rules = RoundStateMachineTests.rules(clients: 3, updates: updates)
    rules.stillness = .seconds(20)
    rules.longest = .seconds(100)
    var machine = RoundStateMachine(rules: rules)
    _ = machine.handle(.started)
    for client in ["a", "b", "c"] as [ClientID] {
      _ = machine.handle(.clientJoined(client, restarted: true))
    }
    let plan = RoundStateMachineTests.plan(["a", "b", "c"])
    let actions = machine.handle(.planMade(plan, round: 1, attempt: 1))
    return (machine, actions)
  }

  let timer = RoundTimer(.training, round: 1, attempt: 1)

  @Test func `nobody is let go before the deadline, however still`() {
    var (machine, actions) = training()
    #expect(actions.contains(.startTimer(timer, after: .seconds(40))))
    #expect(!machine.watches("a", round: 1))
    #expect(machine.handle(.timerFired(timer)) == [.startTimer(timer, after: .seconds(20))])
    #expect(machine.watches("a", round: 1))
  }

  @Test func `who moves is waited for, the others are let go`() {
    var (machine, _) = training()
    _ = machine.handle(.timerFired(timer))
    #expect(machine.handle(.progressed("a", round: 1)).isEmpty)
    // It is known already.
    #expect(!machine.watches("a", round: 1))
    _ = machine.handle(.progressed("b", round: 1))
    #expect(
      machine.handle(.timerFired(timer)) == [
        .withdrawTask("c", round: 1), .startTimer(timer, after: .seconds(20)),
      ])
    // At 80 s: a moved again, b did not.
    _ = machine.handle(.progressed("a", round: 1))
    #expect(
      machine.handle(.timerFired(timer)) == [
        .withdrawTask("b", round: 1), .startTimer(timer, after: .seconds(20)),
      ])
    #expect(
      machine.handle(.updateReceived("a", round: 1)) == [
        .withdrawTask("a", round: 1), .cancelTimer(timer),
        .aggregate(round: 1, clients: ["a"]),
      ])
    _ = machine.handle(.aggregated(round: 1))
    guard case .record(let record) = machine.handle(.evaluated(round: 1, metrics: [:])).first else {
      Issue.record("no record")
      return
    }
    #expect(record.outcomes.map(\.result) == [.delivered, .late, .late])
  }

  @Test func `nobody is waited for longer than the longest time`() {
    var (machine, _) = training()
    _ = machine.handle(.updateReceived("c", round: 1))
    _ = machine.handle(.timerFired(timer))
    for _ in 0..<2 {
      _ = machine.handle(.progressed("a", round: 1))
      #expect(machine.handle(.timerFired(timer)).last == .startTimer(timer, after: .seconds(20)))
      _ = machine.handle(.progressed("a", round: 1))
    }
    // 100 s have passed.
    #expect(
      machine.handle(.timerFired(timer)) == [
        .withdrawTask("a", round: 1), .aggregate(round: 1, clients: ["c"]),
      ])
  }

  @Test func `where nobody moved the round closes at its deadline`() {
    var (machine, _) = training()
    _ = machine.handle(.updateReceived("b", round: 1))
    _ = machine.handle(.timerFired(timer))
    #expect(
      machine.handle(.timerFired(timer)) == [
        .withdrawTask("a", round: 1), .withdrawTask("c", round: 1),
        .aggregate(round: 1, clients: ["b"]),
      ])
  }

  @Test func `what moves in another round, or of one that is done, counts for nothing`() {
    var (machine, _) = training()
    _ = machine.handle(.timerFired(timer))
    _ = machine.handle(.updateReceived("b", round: 1))
    for (client, round) in [("a", 2), ("b", 1), ("stranger", 1)] as [(ClientID, Int)] {
      #expect(!machine.watches(client, round: round))
      _ = machine.handle(.progressed(client, round: round))
    }
    #expect(
      machine.handle(.timerFired(timer)).last == .aggregate(round: 1, clients: ["b"]))
  }

  @Test func `a phone that slept goes on in the same round, also beyond the deadline`() {
    var (machine, _) = training()
    _ = machine.handle(.clientLost("a", reason: "asleep"))
    _ = machine.handle(.timerFired(timer))
    _ = machine.handle(.progressed("b", round: 1))
    _ = machine.handle(.timerFired(timer))
    #expect(
      machine.handle(.clientJoined("a", restarted: false)) == [
        .sendTask("a", round: 1, attempt: 1, .init())
      ])
    _ = machine.handle(.updateReceived("b", round: 1))
    #expect(
      machine.handle(.updateReceived("a", round: 1)).last
        == .aggregate(round: 1, clients: ["a", "b"]))
  }

  @Test func `a stillness beyond the deadline, or a longest time before it, is refused`() {
    var rules = RoundRules(rounds: 1, deadline: .seconds(10))
    rules.stillness = .seconds(11)
    #expect(throws: PeatError.self) { try rules.validate() }
    rules.stillness = .seconds(5)
    rules.longest = .seconds(9)
    #expect(throws: PeatError.self) { try rules.validate() }
    rules.longest = .seconds(10)
    #expect(throws: Never.self) { try rules.validate() }
  }
}
