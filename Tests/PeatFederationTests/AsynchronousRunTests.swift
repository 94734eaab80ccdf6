import Foundation
import PeatFederation
import PeatTensor
import Testing

@Suite("RoundStateMachine, asynchronous") struct AsynchronousRunTests {
  static func rules(
    rounds: Int = 5, size: Int = 2, concurrency: Int? = nil, staleness: Int = 2, updates: Int = 1,
    clients: Int = 3, attempts: Int = 2
  ) -> RoundRules {
    var rules = RoundStateMachineTests.rules(
      rounds: rounds, clients: clients, updates: updates, attempts: attempts)
    rules.buffer = BufferRules(size: size, concurrency: concurrency)
    rules.staleness = Staleness(maximum: staleness)
    return rules
  }

  /// A machine in which a, b and c came, and the plan that it asked for was made.
  func flowing(_ rules: RoundRules = rules()) -> (machine: RoundStateMachine, sent: [ClientID]) {
    var machine = RoundStateMachine(rules: rules)
    _ = machine.handle(.started)
    var actions: [RoundAction] = []
    for client in ["a", "b", "c"] as [ClientID] {
      actions = machine.handle(.clientJoined(client, restarted: true))
    }
    let sent = plan(&machine, actions)
    return (machine, sent)
  }

  /// Answers a wish for a plan: all take part. Gives those who were sent a task.
  @discardableResult
  func plan(_ machine: inout RoundStateMachine, _ actions: [RoundAction]) -> [ClientID] {
    for case .makePlan(let round, let number, let clients) in actions {
      let sent = machine.handle(
        .planMade(RoundStateMachineTests.plan(clients), round: round, attempt: number))
      return sent.compactMap { if case .sendTask(let client, _, _, _) = $0 { client } else { nil } }
    }
    return []
  }

  let deadline = RoundTimer(.training, round: 1, attempt: 2)

  @Test func `a quick client fills only its share of the buffer while others are there`() {
    var rules = Self.rules(size: 4)
    rules.buffer = BufferRules(size: 4, share: 0.5)
    var (machine, sent) = flowing(rules)
    #expect(sent == ["a", "b", "c"])
    #expect(plan(&machine, machine.handle(.updateReceived("a", round: 1))) == ["a"])
    // Half of four: it waits now.
    #expect(machine.handle(.updateReceived("a", round: 1)) == [.withdrawTask("a", round: 1)])
    #expect(plan(&machine, machine.handle(.updateReceived("b", round: 1))) == ["b"])
    let full = machine.handle(.updateReceived("c", round: 1))
    #expect(
      full.contains(
        .aggregate(
          round: 1, clients: [],
          buffered: [
            BufferedUpdate("a", round: 1, staleness: 0),
            BufferedUpdate("a", round: 1, number: 2, staleness: 0),
            BufferedUpdate("b", round: 1, staleness: 0),
            BufferedUpdate("c", round: 1, staleness: 0),
          ])))
    // What it has there counts no more: with the new adapter all who wait get work.
    #expect(plan(&machine, machine.handle(.aggregated(round: 1))) == ["a", "c"])
  }

  /// Nobody waits for those who can't deliver: failing ones, and such as are gone.
  @Test func `it has the share of those who fail`() {
    var rules = Self.rules(size: 4)
    rules.buffer = BufferRules(size: 4, share: 0.5)
    var (machine, _) = flowing(rules)
    for client in ["b", "c"] as [ClientID] {
      plan(
        &machine,
        machine.handle(
          .updateRefused(client, round: 1, UpdateRefusal(.notFinite, "NaN"))))
    }
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    // Two of four places are its own by now, and it goes on.
    let third = machine.handle(.updateReceived("a", round: 1))
    #expect(plan(&machine, third) == ["a"])
    // Failing ones that are at work again are no others either.
    plan(&machine, machine.handle(.timerFired(RoundTimer(.replanning, round: 0, attempt: 0))))
    #expect(
      machine.handle(.updateReceived("a", round: 1)).contains {
        if case .aggregate = $0 { true } else { false }
      })
  }

  @Test func `a client that has its share goes on when the others fail`() {
    var rules = Self.rules(size: 4)
    rules.buffer = BufferRules(size: 4, share: 0.5)
    var (machine, _) = flowing(rules)
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    #expect(plan(&machine, machine.handle(.updateReceived("a", round: 1))) == [])
    #expect(
      plan(&machine, machine.handle(.clientFailed("b", round: 1, reason: "no memory"))) == [])
    #expect(plan(&machine, machine.handle(.clientLost("c", reason: "gone"))) == ["a"])
  }

  @Test func `alone it fills all of the buffer`() {
    var rules = Self.rules(size: 3, clients: 1)
    rules.buffer = BufferRules(size: 3, share: 0.5)
    var machine = RoundStateMachine(rules: rules)
    _ = machine.handle(.started)
    plan(&machine, machine.handle(.clientJoined("a", restarted: true)))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    #expect(plan(&machine, machine.handle(.updateReceived("a", round: 1))) == ["a"])
    // With another one there are two for three places: two are its share.
    var other = machine
    plan(&other, other.handle(.clientJoined("b", restarted: true)))
    let end = machine.handle(.updateReceived("a", round: 1))
    #expect(end.contains { if case .aggregate = $0 { true } else { false } })
  }

  /// Of round 2, with an update to a task of round 1 and one of its own.
  private static let aggregationOfLateAndNew = RoundAction.aggregate(
    round: 2, clients: [],
    buffered: [
      BufferedUpdate("b", round: 1, staleness: 1), BufferedUpdate("c", round: 2, staleness: 0),
    ])

  @Test func `work is given to all who are there, and the first round is open`() {
    var machine = RoundStateMachine(rules: Self.rules())
    let gathering = RoundTimer(.gathering, round: 1, attempt: 1)
    #expect(machine.handle(.started) == [.startTimer(gathering, after: .seconds(30))])
    _ = machine.handle(.clientJoined("b", restarted: true))
    _ = machine.handle(.clientJoined("a", restarted: true))
    #expect(
      machine.handle(.clientJoined("c", restarted: true)) == [
        .cancelTimer(gathering), .beginRound(round: 1, attempt: 1, plan: RoundPlan([:])),
        .startTimer(deadline, after: .seconds(60)),
        .makePlan(round: 1, attempt: 1, clients: ["a", "b", "c"]),
      ])
    #expect(
      machine.handle(
        .planMade(RoundStateMachineTests.plan(["a", "b", "c"]), round: 1, attempt: 1)) == [
          .sendTask("a", round: 1, attempt: 1, .init()),
          .sendTask("b", round: 1, attempt: 1, .init()),
          .sendTask("c", round: 1, attempt: 1, .init()),
        ])
  }

  @Test func `the buffer is aggregated when it is full, and work goes on with the new adapter`() {
    var (machine, sent) = flowing()
    #expect(sent == ["a", "b", "c"])
    // a is free, and gets work again: another task of the same round.
    let freed = machine.handle(.updateReceived("a", round: 1))
    #expect(
      freed == [.withdrawTask("a", round: 1), .makePlan(round: 1, attempt: 2, clients: ["a"])])
    #expect(plan(&machine, freed) == ["a"])
    #expect(machine.taskNumber(of: "a", round: 1) == 2)
    #expect(machine.mayBeOf(attempt: 2, round: 1, from: "a"))
    #expect(!machine.mayBeOf(attempt: 1, round: 1, from: "a"))
    // The buffer is full; nobody gets work on an adapter that is about to be replaced.
    #expect(
      machine.handle(.updateReceived("c", round: 1)) == [
        .withdrawTask("c", round: 1),
        .aggregate(
          round: 1, clients: [],
          buffered: [
            BufferedUpdate("a", round: 1, staleness: 0),
            BufferedUpdate("c", round: 1, staleness: 0),
          ]),
      ])
    let next = machine.handle(.aggregated(round: 1))
    #expect(next == [.evaluate(round: 1), .makePlan(round: 2, attempt: 3, clients: ["c"])])
    #expect(machine.round == 2)
    #expect(plan(&machine, next) == ["c"])
    // b began with the old adapter.
    #expect(
      machine.expectsUpdate(from: "b", round: 1) && !machine.expectsUpdate(from: "b", round: 2))
    // While the first round is evaluated the buffer fills up again.
    plan(&machine, machine.handle(.updateReceived("b", round: 1)))
    plan(&machine, machine.handle(.updateReceived("c", round: 2)))
    let closed = machine.handle(.evaluated(round: 1, metrics: ["plugIn": 5]))
    guard case .record(let record) = closed.first else {
      Issue.record("\(closed)")
      return
    }
    #expect(record.round == 1 && record.delivered == ["a", "c"] && record.metrics["plugIn"] == 5)
    #expect(closed.contains(Self.aggregationOfLateAndNew))
  }

  @Test func `no more are at work than may be, and those who wait longest come first`() {
    var (machine, sent) = flowing(Self.rules(size: 4, concurrency: 2))
    #expect(sent == ["a", "b"])
    #expect(plan(&machine, machine.handle(.updateReceived("b", round: 1))) == ["c"])
    #expect(plan(&machine, machine.handle(.updateReceived("a", round: 1))) == ["b"])
    #expect(plan(&machine, machine.handle(.updateReceived("c", round: 1))) == ["a"])
    #expect(machine.taskNumber(of: "b", round: 1) == 2)
  }

  @Test func `a task that can only come too late is withdrawn`() {
    var (machine, _) = flowing(Self.rules(size: 1, staleness: 1))
    for round in 1...2 {
      let full = machine.handle(.updateReceived("a", round: round))
      #expect(
        full.contains(
          .aggregate(
            round: round, clients: [],
            buffered: [BufferedUpdate("a", round: round, staleness: 0)])))
      // What comes while the second round is aggregated would be two rounds late.
      for late in ["b", "c"] as [ClientID] {
        #expect(full.contains(.withdrawTask(late, round: 1)) == (round == 2))
      }
      let actions = machine.handle(.aggregated(round: round))
      #expect(machine.expectsUpdate(from: "b", round: 1) == (round == 1))
      plan(&machine, actions)
      let closed = machine.handle(.evaluated(round: round, metrics: [:]))
      guard round == 2, case .record(let record) = closed.first else { continue }
      #expect(record.outcomes.map(\.result) == [.delivered, .late, .late])
      #expect(record.outcomes.map(\.staleness) == [0, 1, 1])
    }
    #expect(!machine.expectsUpdate(from: "b", round: 1))
    #expect(machine.expectsUpdate(from: "b", round: 3))
  }

  @Test func `a lost client's place is given to another, and if it returns it goes on`() {
    var (machine, _) = flowing(Self.rules(size: 3, concurrency: 2))
    let lost = machine.handle(.clientLost("a", reason: "asleep"))
    #expect(lost.first == .withdrawTask("a", round: 1))
    #expect(plan(&machine, lost) == ["c"])
    #expect(!machine.expectsUpdate(from: "a", round: 1))
    #expect(
      machine.handle(.clientJoined("a", restarted: false)) == [.resumeTask("a", round: 1)])
    #expect(machine.expectsUpdate(from: "a", round: 1))
    // So does one that was started again, lost before or not: it keeps what it has done.
    _ = machine.handle(.clientLost("b", reason: "crashed"))
    for _ in 0..<2 {
      #expect(
        machine.handle(.clientJoined("b", restarted: true)) == [.resumeTask("b", round: 1)])
    }
    #expect(machine.expectsUpdate(from: "b", round: 1))
  }

  @Test func `who fails waits a moment before it gets work again`() {
    var (machine, _) = flowing(Self.rules(size: 3))
    let pause = RoundTimer(.replanning, round: 0, attempt: 0)
    #expect(
      machine.handle(.clientFailed("a", round: 1, reason: "no memory")) == [
        .withdrawTask("a", round: 1), .startTimer(pause, after: .seconds(5)),
      ])
    #expect(
      machine.handle(.timerFired(pause)) == [.makePlan(round: 1, attempt: 2, clients: ["a"])])
  }

  @Test func `when the deadline passes a part of a buffer counts`() {
    var (machine, _) = flowing(Self.rules(size: 3))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    let actions = machine.handle(.timerFired(deadline))
    #expect(
      actions.contains(
        .aggregate(
          round: 1, clients: [], buffered: [BufferedUpdate("a", round: 1, staleness: 0)])))
    // Nobody has been at work for a whole one.
    #expect(machine.expectsUpdate(from: "b", round: 1))
    _ = machine.handle(.aggregated(round: 1))
    _ = machine.handle(.evaluated(round: 1, metrics: [:]))
    let second = machine.handle(.timerFired(RoundTimer(.training, round: 2, attempt: 4)))
    #expect(second.contains(.withdrawTask("b", round: 1)))
    #expect(machine.present.isEmpty, "all had been at work since before it")
  }

  @Test func `without an update for all attempts the run ends with the reason`() {
    var (machine, _) = flowing(Self.rules(attempts: 2))
    let first = machine.handle(.timerFired(deadline))
    let again = RoundTimer(.training, round: 1, attempt: 3)
    #expect(first.contains(.startTimer(again, after: .seconds(60))))
    _ = machine.handle(.timerFired(again))
    guard case .failed(let reason) = machine.ending else {
      Issue.record("\(String(describing: machine.ending))")
      return
    }
    #expect(reason.contains("0 of the 1 updates"))
  }

  @Test func `who moves is not let go at the deadline`() {
    var rules = Self.rules(size: 3)
    rules.stillness = .seconds(20)
    var (machine, _) = flowing(rules)
    // Whoever was given work in this period moved by that.
    _ = machine.handle(.timerFired(deadline))
    let second = RoundTimer(.training, round: 1, attempt: 3)
    _ = machine.handle(.progressed("b", round: 1))
    let actions = machine.handle(.timerFired(second))
    #expect(actions.contains(.finish(machine.ending ?? .completed)), "\(actions)")
    var (other, _) = flowing(rules)
    plan(&other, other.handle(.updateReceived("a", round: 1)))
    _ = other.handle(.progressed("b", round: 1))
    let end = other.handle(.timerFired(deadline))
    #expect(!end.contains(.withdrawTask("b", round: 1)))
  }

  @Test func `a run ends after its last round, whoever is still at work`() {
    var (machine, _) = flowing(Self.rules(rounds: 1, size: 1))
    _ = machine.handle(.updateReceived("b", round: 1))
    #expect(machine.handle(.aggregated(round: 1)) == [.evaluate(round: 1)])
    let actions = machine.handle(.evaluated(round: 1, metrics: [:]))
    #expect(actions.contains(.withdrawTask("a", round: 1)))
    #expect(actions.contains(.withdrawTask("c", round: 1)))
    #expect(actions.last == .finish(.completed))
  }

  @Test func `a buffer that can't hold what a round needs is refused`() {
    #expect(throws: PeatError.self) { try Self.rules(size: 2, updates: 3).validate() }
    var rules = Self.rules()
    rules.staleness = nil
    #expect(throws: PeatError.self) { try rules.validate() }
    #expect(throws: PeatError.self) { try Self.rules(concurrency: 0).validate() }
    #expect(throws: Never.self) { try Self.rules().validate() }
  }

  @Test func `what it knows can be written down, and it goes on from there`() throws {
    var (machine, _) = flowing()
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    _ = machine.handle(.clientLost("b", reason: "asleep"))
    let data = try JSONEncoder().encode(machine)
    var again = try JSONDecoder().decode(RoundStateMachine.self, from: data)
    #expect(again == machine)
    #expect(
      again.handle(.updateReceived("c", round: 1)) == machine.handle(.updateReceived("c", round: 1))
    )
    #expect(again == machine)
  }

  /// A machine that goes on after a restart, and what it does when all three are back.
  private func restarted(
    _ machine: RoundStateMachine, missing: Set<BufferedUpdate.Key> = []
  ) -> (machine: RoundStateMachine, actions: [RoundAction]) {
    var again = machine.restored(machine.rules, missing: missing)
    _ = again.handle(.started)
    var actions: [RoundAction] = []
    for client in ["a", "b", "c"] as [ClientID] {
      actions += again.handle(.clientJoined(client, restarted: true))
    }
    return (again, actions)
  }

  private let first = [
    BufferedUpdate("a", round: 1, staleness: 0), BufferedUpdate("c", round: 1, staleness: 0),
  ]

  /// One in which the updates of a and c were aggregated, c delivered one of the new adapter and b one of the old, and the round does not count yet.
  private func aggregated() -> RoundStateMachine {
    var (machine, _) = flowing(Self.rules(size: 2))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    plan(&machine, machine.handle(.updateReceived("c", round: 1)))
    plan(&machine, machine.handle(.aggregated(round: 1)))
    plan(&machine, machine.handle(.updateReceived("c", round: 2)))
    plan(&machine, machine.handle(.updateReceived("b", round: 1)))
    return machine
  }

  @Test
  func `after a restart the same updates are aggregated, and what was made of them since counts`() {
    var (machine, actions) = restarted(aggregated())
    #expect(machine.round == 1)
    #expect(actions.contains(.aggregate(round: 1, clients: [], buffered: first)))
    // Nobody gets work on an adapter that is about to be replaced.
    #expect(!actions.contains { if case .makePlan = $0 { true } else { false } })
    plan(&machine, machine.handle(.aggregated(round: 1)))
    let closed = machine.handle(.evaluated(round: 1, metrics: [:]))
    guard case .record(let record) = closed.first else {
      Issue.record("\(closed)")
      return
    }
    #expect(record.delivered == ["a", "c"])
    #expect(closed.contains(Self.aggregationOfLateAndNew))
  }

  @Test func `after a restart clients go on with the tasks that they were at`() {
    var (machine, _) = flowing(Self.rules(size: 3))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    #expect(machine.taskNumber(of: "a", round: 1) == 2)
    let (again, actions) = restarted(machine)
    let resumed = ["a", "b", "c"].map { RoundAction.resumeTask($0, round: 1) }
    #expect(actions.filter { if case .resumeTask = $0 { true } else { false } } == resumed)
    #expect(!actions.contains { if case .makePlan = $0 { true } else { false } })
    #expect(again.taskNumber(of: "a", round: 1) == 2)
    // Time begins anew for them: the first deadline that passes lets go of nobody.
    var late = again
    let times = [3, 4].map { RoundTimer(.training, round: 1, attempt: $0) }
    #expect(late.handle(.timerFired(times[0])).allSatisfy { !$0.isWithdrawal })
    #expect(late.handle(.timerFired(times[1])).filter(\.isWithdrawal).count == 3)
  }

  @Test
  func `after a restart a task of an adapter that is made again waits for it`() {
    var (machine, _) = flowing(Self.rules(size: 2))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    plan(&machine, machine.handle(.updateReceived("c", round: 1)))
    // c is at a task of the new adapter, a and b at ones of the old.
    plan(&machine, machine.handle(.aggregated(round: 1)))
    var (again, actions) = restarted(machine)
    #expect(actions.contains(.aggregate(round: 1, clients: [], buffered: first)))
    #expect(actions.contains(.resumeTask("b", round: 1)))
    #expect(!actions.contains(.resumeTask("c", round: 2)))
    #expect(!again.expectsUpdate(from: "c", round: 2))
    #expect(again.handle(.aggregated(round: 1)).contains(.resumeTask("c", round: 2)))
    #expect(again.expectsUpdate(from: "c", round: 2))
    // Where that adapter comes out otherwise, there is no such task any more.
    (again, actions) = restarted(machine, missing: [first[1].id])
    plan(&again, actions)
    #expect(again.handle(.updateReceived("a", round: 1)).contains { $0.isAggregation })
    #expect(!again.handle(.aggregated(round: 1)).contains(.resumeTask("c", round: 2)))
  }

  @Test func `after a restart a buffer that is full is aggregated at once`() {
    var (machine, _) = flowing(Self.rules(size: 2))
    plan(&machine, machine.handle(.updateReceived("a", round: 1)))
    _ = machine.handle(.updateReceived("c", round: 1))
    let (_, actions) = restarted(machine)
    #expect(actions.filter { $0 == .aggregate(round: 1, clients: [], buffered: first) }.count == 1)
  }

  @Test func `where an update is damaged, those of the adapter that it was in are asked again`() {
    // Without a's the adapter comes out otherwise: c's second update, which began with it, can't be read.
    let (_, actions) = restarted(
      aggregated(), missing: [BufferedUpdate("a", round: 1, staleness: 0).id])
    #expect(
      actions.contains(
        .aggregate(
          round: 1, clients: [],
          buffered: [
            BufferedUpdate("b", round: 1, staleness: 0),
            BufferedUpdate("c", round: 1, staleness: 0),
          ])))
  }
}

extension RoundAction {
  fileprivate var isWithdrawal: Bool { if case .withdrawTask = self { true } else { false } }
  fileprivate var isAggregation: Bool { if case .aggregate = self { true } else { false } }
}

/// Lets a machine live through random events and checks what must always hold.
private struct FlowWalk: MachineWalk {
  var machine: RoundStateMachine
  var random: SeededRandom
  let clients: [ClientID] = (0..<6).map { ClientID(stringLiteral: "c\($0)") }
  var plans: [(round: Int, number: Int, clients: [ClientID])] = []
  var timers: Set<RoundTimer> = []
  var aggregating: Int?
  var evaluating: Int?
  /// What each client is at.
  var tasks: [ClientID: Int] = [:]
  var away: [ClientID: Int] = [:]
  /// Updates that were taken and not aggregated.
  var taken: [ClientID: [Int]] = [:]
  var records = 0
  var stale = 0
  /// Whether one came back to a task whose place was given to another.
  var hasResumed = false
  var ending: RunEnding?

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    var rules = AsynchronousRunTests.rules(
      rounds: 1 + random.integer(below: 6), size: 2 + random.integer(below: 3),
      concurrency: random.integer(below: 2) == 0 ? nil : 1 + random.integer(below: 4),
      staleness: 1 + random.integer(below: 3), updates: 1 + random.integer(below: 2),
      clients: 1 + random.integer(below: 3), attempts: 1 + random.integer(below: 3))
    if random.integer(below: 2) == 0 { rules.stillness = .seconds(20) }
    machine = RoundStateMachine(rules: rules)
  }

  var isIdle: Bool { plans.isEmpty && aggregating == nil && evaluating == nil }

  mutating func take(_ event: RoundEvent) {
    let before = machine
    if case .updateReceived(let client, let round) = event,
      machine.expectsUpdate(from: client, round: round)
    {
      #expect(tasks[client] == round)
      taken[client, default: []].append(round)
    }
    if case .timerFired(let timer) = event { timers.remove(timer) }
    let actions = machine.handle(event)
    if ending != nil { #expect(actions.isEmpty && machine == before) }
    for action in actions { check(action) }
  }

  mutating func check(_ action: RoundAction) {
    let rules = machine.rules
    switch action {
    case .startTimer(let timer, let duration):
      #expect(duration > .zero && timers.insert(timer).inserted)
    case .cancelTimer(let timer): #expect(timers.remove(timer) != nil)
    case .makePlan(let round, let number, let clients):
      #expect(plans.isEmpty && !clients.isEmpty && clients == clients.sorted())
      #expect(Set(clients).isDisjoint(with: tasks.keys), "planned for one at work")
      plans.append((round, number, clients))
    case .sendTask(let client, let round, _, _):
      #expect(tasks.updateValue(round, forKey: client) == nil && round == machine.round)
      #expect(machine.present.contains(client))
      away[client] = nil
    case .resumeTask(let client, let round):
      // One that was not missed is told again what it is at.
      if tasks[client] == round { return }
      hasResumed = true
      #expect(away.removeValue(forKey: client) == round)
      #expect(tasks.updateValue(round, forKey: client) == nil)
    case .withdrawTask(let client, let round):
      #expect(tasks.removeValue(forKey: client) == round)
      away[client] = round
    case .aggregate(let round, let clients, let buffered):
      #expect(clients.isEmpty && aggregating == nil && evaluating == nil)
      #expect(round == machine.round && buffered.count >= rules.minimumUpdates)
      for update in buffered {
        let place = taken[update.client]?.firstIndex(of: update.round)
        #expect(place != nil, "aggregates what was not taken")
        if let place { taken[update.client]?.remove(at: place) }
        #expect(update.staleness == round - update.round)
        let longest = rules.staleness?.maximum ?? 0
        #expect(update.staleness >= 0 && update.staleness <= longest)
        stale += update.staleness > 0 ? 1 : 0
      }
      #expect(!taken.values.contains { !$0.isEmpty }, "left one out")
      aggregating = round
    case .evaluate(let round):
      #expect(evaluating == nil)
      evaluating = round
    case .record(let record):
      records += 1
      #expect(record.round == records)
    case .beginRound(let round, _, _): #expect(round == records + 1)
    case .finish(let ending):
      #expect(self.ending == nil && tasks.isEmpty && timers.isEmpty)
      if ending == .completed { #expect(records == rules.rounds) }
      self.ending = ending
    case .discardUpdates, .recordFailedAttempt, .warn, .waitForParticipants, .goOn:
      Issue.record("\(action) of a run in rounds")
    }
    if !hasResumed { #expect(tasks.count <= rules.buffer?.concurrency ?? 6) }
  }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[random.integer(below: elements.count)]
  }

  mutating func step() {
    let client = pick(clients)
    let round = max(1, (tasks[client] ?? machine.round) + pick([0, 0, 0, 0, -1, 1]))
    switch random.integer(below: 14) {
    case 0, 1: take(.clientJoined(client, restarted: pick([true, false])))
    case 2: take(.clientLost(client, reason: "gone"))
    case 3, 4, 5, 6: take(.updateReceived(client, round: round))
    case 7: take(.clientFailed(client, round: round, reason: "failed"))
    case 8: take(.updateRefused(client, round: round, UpdateRefusal(.metrics, "no")))
    case 9: take(.progressed(client, round: round))
    case 10: if random.integer(below: 6) == 0 { takeTimer() }
    default: takeOwed()
    }
  }

  mutating func takeTimer() {
    let all = timers.sorted { "\($0)" < "\($1)" }
    if !all.isEmpty { take(.timerFired(pick(all))) }
  }

  mutating func takeOwed() {
    if !plans.isEmpty {
      let (round, number, clients) = plans.removeFirst()
      var plan = RoundPlan([:])
      for client in clients {
        plan.assignments[client] = .init(participates: random.integer(below: 4) > 0)
      }
      take(.planMade(plan, round: round, attempt: number))
    } else if let round = aggregating {
      aggregating = nil
      take(.aggregated(round: round))
    } else if let round = evaluating {
      evaluating = nil
      take(.evaluated(round: round, metrics: [:]))
    }
  }
}

@Suite("RoundStateMachine, asynchronous, random walk") struct AsynchronousWalkTests {
  @Test func `holds its promises in 500 lives, and each comes to an end`() {
    var ends = WalkEnds()
    var stale = 0
    for seed in 0..<500 {
      var walk = FlowWalk(seed: UInt64(seed))
      walk.live(steps: 300, rest: 400)
      stale += walk.stale
      ends.count(walk.ending, seed: seed)
    }
    #expect(ends.completed > 50 && ends.failed > 50 && stale > 50, "\(ends) \(stale)")
  }
}
