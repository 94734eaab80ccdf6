import PeatFederation
import Testing

@Suite("A plan in which too few take part") struct WaitingForParticipantsTests {
  private let gathering = RoundTimer(.gathering, round: 1, attempt: 1)
  private let replanning = RoundTimer(.replanning, round: 1, attempt: 1)

  /// A machine that waits: one of two clients may take part, and both are needed.
  private func waiting() -> (RoundStateMachine, [RoundAction]) {
    var machine = RoundStateMachine(rules: RoundStateMachineTests.rules(clients: 2, updates: 2))
    _ = machine.handle(.started)
    _ = machine.handle(.clientJoined("a", restarted: true))
    _ = machine.handle(.clientJoined("b", restarted: true))
    let actions = machine.handle(plan("a", "stranger"))
    return (machine, actions)
  }

  private func plan(_ clients: ClientID...) -> RoundEvent {
    .planMade(RoundStateMachineTests.plan(clients), round: 1, attempt: 1)
  }

  private let again = RoundAction.makePlan(round: 1, attempt: 1, clients: ["a", "b"])

  @Test func `is made again after a while, and it is said why`() {
    let (_, actions) = waiting()
    #expect(
      actions.prefix(2) == [
        .startTimer(replanning, after: .seconds(5)), .startTimer(gathering, after: .seconds(30)),
      ])
    guard case .waitForParticipants(let record, let reason) = actions.last else {
      Issue.record("\(actions)")
      return
    }
    #expect(record.round == 1 && record.outcomes.isEmpty)
    #expect(reason.contains("lets 1 of 2 clients take part") && reason.contains("needs 2 updates"))
  }

  @Test func `gives way to one in which enough take part`() {
    var (machine, _) = waiting()
    #expect(machine.handle(.timerFired(replanning)) == [again])
    // Said once.
    #expect(machine.handle(plan("a")) == [.startTimer(replanning, after: .seconds(5))])
    #expect(machine.handle(.timerFired(replanning)) == [again])
    let actions = machine.handle(plan("a", "b"))
    #expect(actions.first == .cancelTimer(gathering))
    #expect(actions.last == .sendTask("b", round: 1, attempt: 1, .init()))
    // No attempt was lost.
    _ = machine.handle(.updateReceived("a", round: 1))
    #expect(
      machine.handle(.updateReceived("b", round: 1)).last
        == .aggregate(round: 1, clients: ["a", "b"]))
  }

  @Test func `ends the run when the gathering is over`() {
    let (still, _) = waiting()
    var planning = still
    _ = planning.handle(.timerFired(replanning))
    for (machine, cancelled) in [(still, [RoundAction.cancelTimer(replanning)]), (planning, [])] {
      var machine = machine
      let actions = machine.handle(.timerFired(gathering))
      guard case .finish(.failed(let reason)) = actions.last else {
        Issue.record("\(actions)")
        return
      }
      #expect(actions.dropLast() == cancelled[...])
      #expect(reason.contains("1 of 2 clients") && reason.contains("minimumUpdates"))
    }
  }

  @Test func `waits for clients that left meanwhile, and counts who came`() {
    var (machine, _) = waiting()
    #expect(machine.handle(.clientLost("b", reason: "gone")).isEmpty)
    #expect(
      machine.handle(.timerFired(replanning)) == [.startTimer(replanning, after: .seconds(5))])
    #expect(machine.handle(.clientJoined("c", restarted: true)).isEmpty)
    #expect(
      machine.handle(.timerFired(replanning)) == [
        .makePlan(round: 1, attempt: 1, clients: ["a", "c"])
      ])
  }

  @Test func `leaves no timer behind when the run is cancelled`() {
    var (machine, _) = waiting()
    var planning = machine
    _ = planning.handle(.timerFired(replanning))
    let end = RoundAction.finish(.cancelled(reason: "x"))
    #expect(
      machine.handle(.cancelled(reason: "x")) == [
        .cancelTimer(gathering), .cancelTimer(replanning), end,
      ])
    #expect(planning.handle(.cancelled(reason: "x")) == [.cancelTimer(gathering), end])
  }
}
