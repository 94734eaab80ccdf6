import PeatFederation
import PeatTensor
import Testing

@Suite("Over-selection") struct OverSelectionTests {
  /// A machine in the training of round 1, in which two of the three asked are enough.
  func training(
    staleness: Staleness? = nil, updates: Int = 1, rounds: Int = 3
  ) -> RoundStateMachine {
    var rules = RoundStateMachineTests.rules(rounds: rounds, clients: 3, updates: updates)
    rules.staleness = staleness
    var machine = RoundStateMachine(rules: rules)
    _ = machine.handle(.started)
    for client in ["a", "b", "c"] as [ClientID] {
      _ = machine.handle(.clientJoined(client, restarted: true))
    }
    _ = machine.handle(.planMade(plan(["a", "b", "c"]), round: 1, attempt: 1))
    return machine
  }

  func plan(_ clients: [ClientID], enough: Int? = 2) -> RoundPlan {
    var plan = RoundStateMachineTests.plan(clients)
    plan.enough = enough
    return plan
  }

  let training1 = RoundTimer(.training, round: 1, attempt: 1)

  @Test func `the round closes when enough have delivered`() {
    var machine = training()
    #expect(machine.handle(.updateReceived("c", round: 1)) == [.withdrawTask("c", round: 1)])
    #expect(
      machine.handle(.updateReceived("a", round: 1)) == [
        .withdrawTask("a", round: 1), .cancelTimer(training1), .withdrawTask("b", round: 1),
        .aggregate(round: 1, clients: ["a", "c"]),
      ])
    #expect(!machine.expectsUpdate(from: "b", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    guard case .record(let record) = machine.handle(.evaluated(round: 1, metrics: [:])).first else {
      Issue.record("no record")
      return
    }
    #expect(record.outcomes.map(\.result) == [.delivered, .surplus, .delivered])
  }

  @Test func `a round needs its least number of updates, whatever the plan says is enough`() {
    var machine = training(updates: 3)
    _ = machine.handle(.updateReceived("c", round: 1))
    #expect(machine.handle(.updateReceived("a", round: 1)) == [.withdrawTask("a", round: 1)])
  }

  @Test func `who is still at work is not planned again until it asks for work`() {
    var machine = training()
    _ = machine.handle(.updateReceived("c", round: 1))
    _ = machine.handle(.updateReceived("a", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    #expect(
      machine.handle(.evaluated(round: 1, metrics: [:])).last
        == .makePlan(round: 2, attempt: 1, clients: ["a", "c"]))
    #expect(machine.isUnfinished("b"))
    _ = machine.handle(.planMade(plan(["a", "c"], enough: nil), round: 2, attempt: 1))
    #expect(machine.handle(.clientReady("b")).isEmpty)
    _ = machine.handle(.updateReceived("c", round: 2))
    _ = machine.handle(.updateReceived("a", round: 2))
    _ = machine.handle(.aggregated(round: 2))
    #expect(
      machine.handle(.evaluated(round: 2, metrics: [:])).last
        == .makePlan(round: 3, attempt: 1, clients: ["a", "b", "c"]))
  }

  @Test func `it is planned again where there are too few others`() {
    var machine = training(updates: 2)
    _ = machine.handle(.updateReceived("c", round: 1))
    _ = machine.handle(.updateReceived("a", round: 1))
    _ = machine.handle(.clientLost("c", reason: "gone"))
    _ = machine.handle(.aggregated(round: 1))
    #expect(
      machine.handle(.evaluated(round: 1, metrics: [:])).last
        == .makePlan(round: 2, attempt: 1, clients: ["a", "b"]))
  }

  // MARK: Late updates

  @Test func `a late update is taken in the next round, with its staleness`() {
    var machine = training(staleness: Staleness(maximum: 2))
    _ = machine.handle(.updateReceived("c", round: 1))
    _ = machine.handle(.updateReceived("a", round: 1))
    #expect(machine.expectsUpdate(from: "b", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    _ = machine.handle(.evaluated(round: 1, metrics: [:]))
    _ = machine.handle(.planMade(plan(["a", "c"], enough: nil), round: 2, attempt: 1))
    #expect(machine.handle(.updateReceived("b", round: 1)).isEmpty)
    // Once.
    #expect(!machine.expectsUpdate(from: "b", round: 1) && !machine.isUnfinished("b"))
    _ = machine.handle(.updateReceived("a", round: 2))
    #expect(
      machine.handle(.updateReceived("c", round: 2)).last
        == .aggregate(
          round: 2, clients: ["a", "c"],
          buffered: [BufferedUpdate("b", round: 1, staleness: 1)]))
    _ = machine.handle(.aggregated(round: 2))
    guard case .record(let record) = machine.handle(.evaluated(round: 2, metrics: [:])).first else {
      Issue.record("no record")
      return
    }
    #expect(record.outcomes.map(\.client) == ["a", "c", "b"])
    #expect(record.outcomes.map(\.staleness) == [0, 0, 1])
    #expect(record.delivered == ["a", "c", "b"])
  }

  @Test func `one that arrives while a round is aggregated is for the next`() {
    var machine = training(staleness: Staleness(maximum: 1))
    _ = machine.handle(.updateReceived("c", round: 1))
    _ = machine.handle(.updateReceived("a", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    _ = machine.handle(.evaluated(round: 1, metrics: [:]))
    _ = machine.handle(.planMade(plan(["a", "c"], enough: nil), round: 2, attempt: 1))
    _ = machine.handle(.updateReceived("a", round: 2))
    _ = machine.handle(.updateReceived("c", round: 2))
    // It would be two rounds late.
    #expect(!machine.expectsUpdate(from: "b", round: 1))
    #expect(machine.handle(.updateReceived("b", round: 1)).isEmpty)
    _ = machine.handle(.aggregated(round: 2))
    _ = machine.handle(.evaluated(round: 2, metrics: [:]))
    _ = machine.handle(.planMade(plan(["a"], enough: nil), round: 3, attempt: 1))
    #expect(
      machine.handle(.updateReceived("a", round: 3)).last
        == .aggregate(round: 3, clients: ["a"]))
  }

  @Test func `a late one that is refused, or gives up, is not expected any more`() {
    for event in [
      RoundEvent.updateRefused("b", round: 1, UpdateRefusal(.notFinite, "NaN")),
      .clientFailed("b", round: 1, reason: "out of memory"), .clientReady("b"),
      .clientJoined("b", restarted: true),
    ] {
      var machine = training(staleness: Staleness(maximum: 2))
      _ = machine.handle(.updateReceived("c", round: 1))
      _ = machine.handle(.updateReceived("a", round: 1))
      _ = machine.handle(.aggregated(round: 1))
      _ = machine.handle(.evaluated(round: 1, metrics: [:]))
      #expect(machine.expectsUpdate(from: "b", round: 1))
      _ = machine.handle(event)
      #expect(!machine.expectsUpdate(from: "b", round: 1), "\(event)")
    }
  }

  @Test func `the discount is one over a power of the rounds and one`() {
    #expect(Staleness(maximum: 5).discount(0) == 1)
    #expect(Staleness(maximum: 5).discount(3) == 0.5)
    #expect(Staleness(maximum: 5, exponent: 1).discount(3) == 0.25)
    #expect(Staleness(maximum: 5, exponent: 0).discount(3) == 1)
  }

  @Test func `a late update's weight is discounted`() throws {
    // (1 · 2 · 4 + 0.5 · 2 · 10) / (2 + 1) = 18 / 3
    var late = ClientUpdate(["w": [10]], exampleCount: 2)
    late.discount = 0.5
    let next = try FedAvg().aggregate(
      [ClientUpdate(["w": [4]], exampleCount: 2), late], into: ["w": [0]]
    ).state
    #expect(next == ["w": [6]])
  }
}
