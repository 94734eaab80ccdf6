import PeatFederation
import PeatTensor
import Testing

@Suite("How a run ends") struct RunEndTests {
  /// Lives through rounds of one client with these evaluations; gives the ending.
  func ending(
    _ values: [Double], bytes: [Int] = [], _ change: (inout RoundRules) -> Void
  ) -> (ending: RunEnding?, round: Int) {
    var rules = RoundStateMachineTests.rules(rounds: 20, clients: 1)
    change(&rules)
    var machine = RoundStateMachine(rules: rules)
    _ = machine.handle(.started)
    _ = machine.handle(.clientJoined("a", restarted: true))
    for (place, value) in values.enumerated() where machine.ending == nil {
      let round = place + 1
      _ = machine.handle(.planMade(RoundStateMachineTests.plan(["a"]), round: round, attempt: 1))
      _ = machine.handle(.updateReceived("a", round: round))
      _ = machine.handle(.aggregated(round: round))
      _ = machine.handle(
        .evaluated(
          round: round, metrics: ["plugIn": value],
          spent: RunCost(bytes: place < bytes.count ? bytes[place] : 0)))
    }
    return (machine.ending, machine.round)
  }

  func cause(_ ending: RunEnding?) -> RunStop.Cause? {
    if case .stopped(let stop) = ending { stop.cause } else { nil }
  }

  @Test func `it is completed after all rounds`() {
    let end = ending([5, 4, 3]) { $0.rounds = 3 }
    #expect(end.ending == .completed && end.round == 3)
  }

  @Test func `it stops when a metric reaches its target`() {
    let end = ending([9, 8, 7, 6]) { $0.target = .init("plugIn", atMost: 7.5) }
    #expect(cause(end.ending) == .target && end.round == 3)
  }

  @Test func `it stops when nothing has become better for as many rounds as are said`() {
    // The best is of round 2; rounds 3 and 4 are none the better.
    let end = ending([9, 8, 8, 8.5, 7]) { $0.plateau = .init("plugIn", rounds: 2) }
    #expect(cause(end.ending) == .plateau && end.round == 4)
  }

  @Test func `what is better by less than the gain does not count`() {
    // 10 → 9.95 → 9.9 is less than 2 % each, and in all.
    let slow = ending([10, 9.95, 9.9, 9.85]) {
      $0.plateau = .init("plugIn", gain: 0.02, rounds: 2)
    }
    #expect(cause(slow.ending) == .plateau && slow.round == 3)
    let quick = ending([10, 9.7, 9.4, 9.1]) {
      $0.plateau = .init("plugIn", gain: 0.02, rounds: 2)
    }
    #expect(quick.ending == nil)
  }

  @Test func `an accuracy must rise`() {
    let end = ending([0.5, 0.6, 0.55, 0.6]) {
      $0.plateau = .init("plugIn", higherIsBetter: true, rounds: 2)
    }
    #expect(cause(end.ending) == .plateau && end.round == 4)
  }

  @Test func `no number is no improvement, and the first number is one`() {
    let end = ending([.nan, .infinity, 9, .nan, .nan]) { $0.plateau = .init("plugIn", rounds: 3) }
    #expect(end.ending == nil)
  }

  @Test func `it stops when its bytes are spent`() {
    let end = ending([1, 1, 1], bytes: [40, 80, 120]) { $0.budget.bytes = 80 }
    #expect(cause(end.ending) == .bytes && end.round == 2)
  }

  // MARK: Time

  let budget = RoundTimer(.budget, round: 0, attempt: 0)

  func timed(updates: Int = 1) -> RoundStateMachine {
    var rules = RoundStateMachineTests.rules(clients: 2, updates: updates)
    rules.budget.time = .seconds(30)
    var machine = RoundStateMachine(rules: rules)
    #expect(machine.handle(.started).first == .startTimer(budget, after: .seconds(30)))
    for client in ["a", "b"] as [ClientID] {
      _ = machine.handle(.clientJoined(client, restarted: true))
    }
    _ = machine.handle(
      .planMade(RoundStateMachineTests.plan(["a", "b"]), round: 1, attempt: 1))
    return machine
  }

  @Test func `a round that is under way when the time is over closes with what is there`() {
    var machine = timed()
    _ = machine.handle(.updateReceived("a", round: 1))
    #expect(
      machine.handle(.timerFired(budget)) == [
        .cancelTimer(RoundTimer(.training, round: 1, attempt: 1)),
        .withdrawTask("b", round: 1), .aggregate(round: 1, clients: ["a"]),
      ])
    _ = machine.handle(.aggregated(round: 1))
    _ = machine.handle(.evaluated(round: 1, metrics: [:]))
    #expect(cause(machine.ending) == .time)
  }

  @Test func `without a round that counted the run has failed`() {
    var machine = timed()
    _ = machine.handle(.timerFired(budget))
    guard case .failed(let reason) = machine.ending else {
      Issue.record("\(String(describing: machine.ending))")
      return
    }
    #expect(reason.contains("No round counted"))
  }

  @Test func `between rounds it stops at once`() {
    var machine = timed(updates: 2)
    for client in ["a", "b"] as [ClientID] {
      _ = machine.handle(.updateReceived(client, round: 1))
    }
    _ = machine.handle(.aggregated(round: 1))
    _ = machine.handle(.clientLost("a", reason: "gone"))
    _ = machine.handle(.evaluated(round: 1, metrics: [:]))
    #expect(machine.handle(.timerFired(budget)).last.map { "\($0)" }?.contains("time") == true)
    #expect(cause(machine.ending) == .time)
  }
}
