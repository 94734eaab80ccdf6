import PeatFederation
import PeatTensor
import Testing

@Suite("RoundStateMachine") struct RoundStateMachineTests {
  static func rules(
    rounds: Int = 2, clients: Int = 2, updates: Int = 1, attempts: Int = 2
  ) -> RoundRules {
    RoundRules(
      rounds: rounds, minimumClients: clients, minimumUpdates: updates, deadline: .seconds(60),
      gatheringDeadline: .seconds(30), attempts: attempts)
  }

  static func plan(_ clients: [ClientID]) -> RoundPlan {
    RoundPlan(Dictionary(uniqueKeysWithValues: clients.map { ($0, RoundPlan.Assignment()) }))
  }

  /// A machine in the training of round 1 with clients a, b and c.
  func training(
    updates: Int = 1, attempts: Int = 2, rounds: Int = 2, retryPause: Duration? = nil
  ) -> RoundStateMachine {
    var rules = Self.rules(rounds: rounds, clients: 3, updates: updates, attempts: attempts)
    rules.retryPause = retryPause
    var machine = RoundStateMachine(rules: rules)
    _ = machine.handle(.started)
    for client in ["a", "b", "c"] as [ClientID] {
      _ = machine.handle(.clientJoined(client, restarted: true))
    }
    _ = machine.handle(.planMade(Self.plan(["a", "b", "c"]), round: 1, attempt: 1))
    return machine
  }

  let training1 = RoundTimer(.training, round: 1, attempt: 1)

  @Test func `waits for enough clients, then plans, then hands out the tasks`() {
    var machine = RoundStateMachine(rules: Self.rules())
    let gathering = RoundTimer(.gathering, round: 1, attempt: 1)
    #expect(machine.handle(.started) == [.startTimer(gathering, after: .seconds(30))])
    #expect(machine.handle(.clientJoined("b", restarted: true)).isEmpty)
    #expect(
      machine.handle(.clientJoined("a", restarted: true)) == [
        .cancelTimer(gathering), .makePlan(round: 1, attempt: 1, clients: ["a", "b"]),
      ])
    let plan = Self.plan(["a", "b"])
    #expect(
      machine.handle(.planMade(plan, round: 1, attempt: 1)) == [
        .beginRound(round: 1, attempt: 1, plan: plan),
        .startTimer(training1, after: .seconds(60)),
        .sendTask("a", round: 1, attempt: 1, .init()),
        .sendTask("b", round: 1, attempt: 1, .init()),
      ])
  }

  @Test func `a run goes through its rounds and is completed`() {
    var machine = training(updates: 3, rounds: 1)
    #expect(machine.handle(.updateReceived("c", round: 1)) == [.withdrawTask("c", round: 1)])
    #expect(machine.handle(.updateReceived("a", round: 1)) == [.withdrawTask("a", round: 1)])
    #expect(
      machine.handle(.updateReceived("b", round: 1)) == [
        .withdrawTask("b", round: 1), .cancelTimer(training1),
        .aggregate(round: 1, clients: ["a", "b", "c"]),
      ])
    #expect(machine.handle(.aggregated(round: 1)) == [.evaluate(round: 1)])
    let actions = machine.handle(.evaluated(round: 1, metrics: ["perplexity": 9]))
    guard case .record(let record) = actions.first else {
      Issue.record("\(actions)")
      return
    }
    #expect(record.delivered == ["a", "b", "c"])
    #expect(record.metrics == ["perplexity": 9])
    #expect(actions.last == .finish(.completed))
    #expect(machine.ending == .completed)
    #expect(machine.handle(.clientJoined("z", restarted: true)).isEmpty)
  }

  @Test func `the next round begins with who is there, though fewer than the first needed`() {
    var machine = training()
    _ = machine.handle(.updateReceived("a", round: 1))
    _ = machine.handle(.clientLost("b", reason: "gone"))
    _ = machine.handle(.updateReceived("c", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    let actions = machine.handle(.evaluated(round: 1, metrics: [:]))
    #expect(actions.last == .makePlan(round: 2, attempt: 1, clients: ["a", "c"]))
  }

  @Test func `failures are recorded and the round goes on with the others`() {
    var machine = training()
    let refusal = UpdateRefusal(.notFinite, "NaN")
    _ = machine.handle(.clientFailed("a", round: 1, reason: "out of memory"))
    _ = machine.handle(.updateRefused("b", round: 1, refusal))
    #expect(
      machine.handle(.updateReceived("c", round: 1)).last == .aggregate(round: 1, clients: ["c"]))
    _ = machine.handle(.aggregated(round: 1))
    guard case .record(let record) = machine.handle(.evaluated(round: 1, metrics: [:])).first else {
      Issue.record("no record")
      return
    }
    #expect(
      record.outcomes.map(\.result) == [
        .failed(reason: "out of memory"), .refused(refusal), .delivered,
      ])
  }

  @Test func `a lost client does not hold up the others`() {
    var machine = training()
    _ = machine.handle(.clientLost("a", reason: "gone"))
    _ = machine.handle(.updateReceived("b", round: 1))
    #expect(
      machine.handle(.updateReceived("c", round: 1)).last
        == .aggregate(round: 1, clients: ["b", "c"]))
  }

  @Test func `a lost client that comes back within the round gets its task again`() {
    var machine = training()
    _ = machine.handle(.clientLost("a", reason: "gone"))
    #expect(!machine.expectsUpdate(from: "a", round: 1))
    #expect(
      machine.handle(.clientJoined("a", restarted: true)) == [
        .sendTask("a", round: 1, attempt: 1, .init())
      ])
    #expect(machine.expectsUpdate(from: "a", round: 1))
    _ = machine.handle(.updateReceived("b", round: 1))
    _ = machine.handle(.updateReceived("c", round: 1))
    #expect(
      machine.handle(.updateReceived("a", round: 1)).last
        == .aggregate(round: 1, clients: ["a", "b", "c"]))
  }

  @Test func `a client that restarts without having been missed gets its task again`() {
    var machine = training()
    #expect(
      machine.handle(.clientJoined("b", restarted: true)) == [
        .sendTask("b", round: 1, attempt: 1, .init())
      ])
    #expect(machine.handle(.clientJoined("b", restarted: false)).isEmpty)
    _ = machine.handle(.updateReceived("b", round: 1))
    #expect(machine.handle(.clientJoined("b", restarted: true)).isEmpty)
  }

  @Test func `a newcomer waits for the next round`() {
    var machine = training()
    #expect(machine.handle(.clientJoined("new", restarted: true)).isEmpty)
    #expect(machine.handle(.updateReceived("new", round: 1)).isEmpty)
    for client in ["a", "b", "c"] as [ClientID] {
      _ = machine.handle(.updateReceived(client, round: 1))
    }
    _ = machine.handle(.aggregated(round: 1))
    #expect(
      machine.handle(.evaluated(round: 1, metrics: [:])).last
        == .makePlan(round: 2, attempt: 1, clients: ["a", "b", "c", "new"]))
  }

  @Test func `the deadline closes the round with what has arrived`() {
    var machine = training()
    _ = machine.handle(.updateReceived("b", round: 1))
    #expect(
      machine.handle(.timerFired(training1)) == [
        .withdrawTask("a", round: 1), .withdrawTask("c", round: 1),
        .aggregate(round: 1, clients: ["b"]),
      ])
    #expect(machine.handle(.updateReceived("a", round: 1)).isEmpty)
    // Those that were late are planned again once they ask for work.
    #expect(machine.present == ["b"])
    #expect(machine.handle(.clientJoined("a", restarted: false)).isEmpty)
    #expect(machine.present == ["a", "b"])
  }

  @Test func `a deadline of another round or attempt changes nothing`() {
    var machine = training()
    let before = machine
    #expect(machine.handle(.timerFired(RoundTimer(.training, round: 2, attempt: 1))).isEmpty)
    #expect(machine.handle(.timerFired(RoundTimer(.training, round: 1, attempt: 2))).isEmpty)
    #expect(machine.handle(.timerFired(RoundTimer(.gathering, round: 1, attempt: 1))).isEmpty)
    #expect(machine == before)
  }

  @Test func `each update counts once`() {
    var machine = training(updates: 2)
    _ = machine.handle(.updateReceived("a", round: 1))
    let before = machine
    #expect(machine.handle(.updateReceived("a", round: 1)).isEmpty)
    #expect(machine.handle(.clientFailed("a", round: 1, reason: "x")).isEmpty)
    #expect(machine.handle(.updateReceived("b", round: 2)).isEmpty)
    #expect(machine == before)
  }

  @Test func `an update that arrived counts although its client is lost later`() {
    var machine = training(updates: 2)
    _ = machine.handle(.updateReceived("a", round: 1))
    _ = machine.handle(.clientLost("a", reason: "gone"))
    _ = machine.handle(.clientLost("b", reason: "gone"))
    #expect(
      machine.handle(.updateReceived("c", round: 1)).last
        == .aggregate(round: 1, clients: ["a", "c"]))
  }

  @Test func `when all fail the round is tried again, and then the run ends with the reasons`() {
    var machine = training(attempts: 2)
    for attempt in 1...2 {
      if attempt == 2 {
        _ = machine.handle(.planMade(Self.plan(["a", "b", "c"]), round: 1, attempt: 2))
      }
      _ = machine.handle(.clientFailed("a", round: 1, reason: "bad data"))
      _ = machine.handle(.clientFailed("b", round: 1, reason: "no memory"))
      let actions = machine.handle(.clientFailed("c", round: 1, reason: "broken"))
      if attempt == 1 {
        #expect(actions.contains(.discardUpdates(round: 1)))
        // Others are waited for first.
        let gathering = RoundTimer(.gathering, round: 1, attempt: 2)
        let retrying = RoundTimer(.retrying, round: 1, attempt: 2)
        #expect(
          actions.suffix(2) == [
            .startTimer(gathering, after: .seconds(30)), .startTimer(retrying, after: .seconds(3)),
          ])
        #expect(
          machine.handle(.timerFired(retrying)) == [
            .cancelTimer(gathering), .makePlan(round: 1, attempt: 2, clients: ["a", "b", "c"]),
          ])
      } else {
        guard case .finish(.failed(let reason)) = actions.last else {
          Issue.record("\(actions)")
          return
        }
        #expect(reason.contains("tried 2 times"))
        #expect(reason.contains("bad data") && reason.contains("broken"))
      }
    }
  }

  /// Two updates are needed; a and c fail.
  private func failedOnce(retryPause: Duration? = nil) -> (RoundStateMachine, [RoundAction]) {
    var machine = training(updates: 2, attempts: 3, retryPause: retryPause)
    _ = machine.handle(.clientFailed("a", round: 1, reason: "no memory"))
    _ = machine.handle(.updateReceived("b", round: 1))
    let actions = machine.handle(
      .updateRefused("c", round: 1, UpdateRefusal(.notFinite, "NaN")))
    return (machine, actions)
  }

  @Test func `who failed is asked again only where too few others are there`() {
    var (machine, actions) = failedOnce()
    let gathering = RoundTimer(.gathering, round: 1, attempt: 2)
    let retrying = RoundTimer(.retrying, round: 1, attempt: 2)
    #expect(actions.last == .startTimer(retrying, after: .seconds(3)))
    // One that failed and comes again is no other.
    #expect(machine.handle(.clientJoined("a", restarted: true)).isEmpty)
    #expect(
      machine.handle(.clientJoined("d", restarted: true)) == [
        .cancelTimer(gathering), .cancelTimer(retrying),
        .makePlan(round: 1, attempt: 2, clients: ["b", "d"]),
      ])
    // Out of date.
    #expect(machine.handle(.timerFired(retrying)).isEmpty)
    _ = machine.handle(.planMade(Self.plan(["b", "d"]), round: 1, attempt: 2))
    _ = machine.handle(.updateReceived("b", round: 1))
    _ = machine.handle(.updateReceived("d", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    // In the next round it may have mended.
    let next = machine.handle(.evaluated(round: 1, metrics: [:]))
    #expect(next.last == .makePlan(round: 2, attempt: 1, clients: ["a", "b", "c", "d"]))
  }

  @Test func `where nobody else can come, nobody is waited for`() {
    let (_, actions) = failedOnce(retryPause: .zero)
    #expect(actions.last == .makePlan(round: 1, attempt: 2, clients: ["a", "b", "c"]))
  }

  @Test func `with too few there while others are waited for, clients are gathered`() {
    var (machine, _) = failedOnce()
    let gathering = RoundTimer(.gathering, round: 1, attempt: 2)
    #expect(machine.handle(.clientLost("a", reason: "gone")).isEmpty)
    #expect(
      machine.handle(.clientLost("c", reason: "gone")) == [
        .cancelTimer(RoundTimer(.retrying, round: 1, attempt: 2))
      ])
    // One that failed and is back so soon waits as before.
    let retrying = RoundTimer(.retrying, round: 1, attempt: 2)
    #expect(
      machine.handle(.clientJoined("c", restarted: true)) == [
        .startTimer(retrying, after: .seconds(3))
      ])
    #expect(
      machine.handle(.timerFired(retrying)) == [
        .cancelTimer(gathering), .makePlan(round: 1, attempt: 2, clients: ["b", "c"]),
      ])
  }

  @Test func `with all clients lost it waits for one to return, at most until the deadline`() {
    var machine = training(attempts: 2)
    for client in ["a", "b", "c"] as [ClientID] {
      let actions = machine.handle(.clientLost(client, reason: "gone"))
      #expect(actions == [.withdrawTask(client, round: 1)])
    }
    var returned = machine
    #expect(
      returned.handle(.clientJoined("b", restarted: true)) == [
        .sendTask("b", round: 1, attempt: 1, .init())
      ])
    #expect(
      returned.handle(.updateReceived("b", round: 1)).last == .aggregate(round: 1, clients: ["b"]))

    let actions = machine.handle(.timerFired(training1))
    let gathering = RoundTimer(.gathering, round: 1, attempt: 2)
    #expect(actions.last == .startTimer(gathering, after: .seconds(30)))
    guard case .finish(.failed(let reason)) = machine.handle(.timerFired(gathering)).last else {
      Issue.record("did not end")
      return
    }
    #expect(reason.contains("only 0 were there"))
  }

  /// Each leaves without an update, and another comes; returns what followed on the last one.
  private func comeAndGo(
    _ machine: inout RoundStateMachine, attempts: ClosedRange<Int>
  ) -> [RoundAction] {
    var actions: [RoundAction] = []
    for attempt in attempts {
      for client in machine.present { _ = machine.handle(.clientLost(client, reason: "gone")) }
      let next = ClientID(stringLiteral: "new-\(attempt)")
      actions = machine.handle(.clientJoined(next, restarted: true))
      _ = machine.handle(.planMade(Self.plan([next]), round: 1, attempt: attempt + 1))
    }
    return actions
  }

  @Test func `an attempt that all left before another came does not count, for a while`() {
    var machine = training(attempts: 2, retryPause: .zero)
    let patience = RoundTimer(.comingAndGoing, round: 1, attempt: 1)
    var first = machine
    let actions = comeAndGo(&first, attempts: 1...1)
    #expect(actions.contains(.startTimer(patience, after: .seconds(30))))
    #expect(actions.last == .makePlan(round: 1, attempt: 2, clients: ["new-1"]))

    // Far more than the two attempts that there are.
    #expect(
      comeAndGo(&machine, attempts: 1...20).last
        == .makePlan(round: 1, attempt: 21, clients: ["new-20"]))
    var delivered = machine
    let end = delivered.handle(.updateReceived("new-20", round: 1))
    #expect(end.contains(.cancelTimer(patience)))
    #expect(end.last == .aggregate(round: 1, clients: ["new-20"]))

    // What fails counts all the while.
    var failing = machine
    #expect(
      failing.handle(.clientFailed("new-20", round: 1, reason: "x")).last
        == .makePlan(round: 1, attempt: 22, clients: ["new-20"]))
    _ = failing.handle(.planMade(Self.plan(["new-20"]), round: 1, attempt: 22))
    guard
      case .finish(.failed(let reason)) = failing.handle(
        .clientFailed("new-20", round: 1, reason: "x")
      ).last
    else {
      Issue.record("did not end")
      return
    }
    #expect(reason.contains("tried 22 times"))

    // After the time for gathering the others count, too.
    guard case .warn(round: 1, let text) = machine.handle(.timerFired(patience)).first else {
      Issue.record("it was not said")
      return
    }
    #expect(text.contains("30.0 seconds"))
    #expect(
      comeAndGo(&machine, attempts: 21...21).last
        == .makePlan(round: 1, attempt: 22, clients: ["new-21"]))
    guard case .finish(.failed) = comeAndGo(&machine, attempts: 22...22).last else {
      Issue.record("did not end")
      return
    }
  }

  @Test func `a client that left while the plan was made is lost, not waited for`() {
    var machine = RoundStateMachine(rules: Self.rules())
    _ = machine.handle(.started)
    _ = machine.handle(.clientJoined("a", restarted: true))
    _ = machine.handle(.clientJoined("b", restarted: true))
    _ = machine.handle(.clientLost("b", reason: "gone"))
    let actions = machine.handle(.planMade(Self.plan(["a", "b"]), round: 1, attempt: 1))
    #expect(actions.last == .sendTask("a", round: 1, attempt: 1, .init()))
    #expect(
      machine.handle(.updateReceived("a", round: 1)).last == .aggregate(round: 1, clients: ["a"]))
  }

  @Test func `cancelling ends the run from anywhere`() {
    var machine = training()
    let actions = machine.handle(.cancelled(reason: "Ctrl-C"))
    #expect(actions.first == .cancelTimer(training1))
    #expect(actions.contains(.withdrawTask("b", round: 1)))
    #expect(actions.last == .finish(.cancelled(reason: "Ctrl-C")))
    #expect(machine.handle(.cancelled(reason: "again")).isEmpty)
  }

  @Test func `what goes wrong on the coordinator's side ends the run with the reason`() {
    var planning = RoundStateMachine(rules: Self.rules(clients: 1))
    _ = planning.handle(.started)
    _ = planning.handle(.clientJoined("a", restarted: true))
    #expect(
      planning.handle(.planFailed(reason: "no level 7")).last
        == .finish(.failed(reason: "Round 1 could not be planned: no level 7")))

    var aggregating = training()
    _ = aggregating.handle(.updateReceived("a", round: 1))
    _ = aggregating.handle(.timerFired(training1))
    var evaluating = aggregating
    #expect(
      aggregating.handle(.aggregationFailed(reason: "disk full")).last
        == .finish(.failed(reason: "Round 1 could not be aggregated: disk full")))
    _ = evaluating.handle(.aggregated(round: 1))
    #expect(
      evaluating.handle(.evaluationFailed(reason: "no text")).last
        == .finish(.failed(reason: "Round 1 could not be evaluated: no text")))
  }

  @Test(arguments: [
    RoundRules(rounds: 0), RoundRules(rounds: 1, minimumClients: 0),
    RoundRules(rounds: 1, minimumUpdates: 0), RoundRules(rounds: 1, deadline: .zero),
    RoundRules(rounds: 1, attempts: 0),
  ])
  func `rules that make no sense are refused`(rules: RoundRules) {
    #expect(throws: PeatError.self) { try rules.validate() }
  }
}
