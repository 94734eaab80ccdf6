import PeatFederation
import PeatTensor
import Testing

/// Lets a machine live through random events, likely and unlikely, and checks what must always hold.
private struct Walk: MachineWalk {
  var machine: RoundStateMachine
  var random: SeededRandom
  let clients: [ClientID] = (0..<6).map { ClientID(stringLiteral: "c\($0)") }

  // What the world owes the machine.
  var plans: [(round: Int, attempt: Int, clients: [ClientID])] = []
  var timers: Set<RoundTimer> = []
  var aggregating: Int?
  var evaluating: Int?
  // What happened.
  var delivered: Set<ClientID> = []
  var participants: Set<ClientID> = []
  var tasks: Set<ClientID> = []
  var attempts: Set<[Int]> = []
  /// Attempts at the round that all left before another client came.
  var deserted = 0
  var aggregated: Set<Int> = []
  var records: [RoundRecord] = []
  var lateCount = 0
  var ending: RunEnding?

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    var rules = RoundRules(
      rounds: 1 + random.integer(below: 4), minimumClients: 1 + random.integer(below: 4),
      minimumUpdates: 1 + random.integer(below: 3), attempts: 1 + random.integer(below: 3))
    if random.integer(below: 2) == 0 { rules.stillness = .seconds(60) }
    if random.integer(below: 2) == 0 { rules.staleness = Staleness(maximum: 2) }
    machine = RoundStateMachine(rules: rules)
  }

  var isIdle: Bool { plans.isEmpty && aggregating == nil && evaluating == nil }

  mutating func take(_ event: RoundEvent) {
    let before = machine
    if case .updateReceived(let client, let round) = event, !machine.isClosed(round),
      machine.expectsUpdate(from: client, round: round)
    {
      delivered.insert(client)
    }
    let actions = machine.handle(event)
    var isDue = false
    if case .timerFired(let timer) = event { isDue = timers.remove(timer) != nil }
    #expect(ending == nil || actions.isEmpty, "acted after the end")
    if ending != nil { #expect(machine == before) }
    #expect(!isDue || !actions.isEmpty, "nothing followed from a timer that was due")
    for action in actions { check(action) }
    let isAnew = actions.contains { if case .recordFailedAttempt = $0 { true } else { false } }
    if case .clientJoined = event, isAnew,
      timers.contains(where: { $0.purpose == .comingAndGoing })
    {
      deserted += 1
    }
  }

  mutating func check(_ action: RoundAction) {
    switch action {
    case .startTimer(let timer, let duration):
      #expect(duration > .zero)
      #expect(timers.insert(timer).inserted)
    case .cancelTimer(let timer): #expect(timers.remove(timer) != nil)
    case .makePlan(let round, let attempt, let clients):
      #expect(clients == clients.sorted() && Set(clients).isSubset(of: machine.present))
      #expect(clients.count >= machine.rules.minimumUpdates)
      plans.append((round, attempt, clients))
    case .beginRound(let round, let attempt, let plan):
      #expect(attempts.insert([round, attempt]).inserted, "an attempt began twice")
      #expect(round == records.count + 1 && attempt - deserted <= machine.rules.attempts)
      participants = Set(plan.participants)
      delivered = []
      tasks = []
    case .goOn: Issue.record("nothing was restored")
    case .sendTask(let client, let round, _, _):
      #expect(machine.present.contains(client) && round == machine.round)
      tasks.insert(client)
    case .withdrawTask(let client, _): #expect(tasks.remove(client) != nil)
    case .discardUpdates: delivered = []
    case .aggregate(let round, let clients, let late):
      #expect(aggregated.insert(round).inserted, "round \(round) was aggregated twice")
      for update in late {
        let staleness = machine.rules.staleness?.maximum ?? 0
        #expect(
          update.staleness == round - update.round && (1...staleness).contains(update.staleness))
        #expect(Set(late).count == late.count, "an update was taken twice")
      }
      #expect(clients == clients.sorted() && Set(clients) == delivered)
      #expect(clients.count >= machine.rules.minimumUpdates)
      #expect(tasks.isEmpty, "aggregated while somebody was at work")
      #expect(aggregating == nil && evaluating == nil)
      aggregating = round
    case .evaluate(let round):
      #expect(evaluating == nil)
      evaluating = round
    case .record(let record):
      #expect(record.round == records.count + 1)
      let own = record.outcomes.filter { $0.staleness == 0 }
      #expect(own.filter { $0.result == .delivered }.map(\.client) == delivered.sorted())
      #expect(own.map(\.client) == own.map(\.client).sorted())
      #expect(Set(own.map(\.client)).count == own.count)
      lateCount += record.outcomes.count - own.count
      records.append(record)
      deserted = 0
    case .resumeTask: Issue.record("a task of an asynchronous run")
    case .warn(let round, _): #expect(round == machine.round)
    case .waitForParticipants(let record, _):
      #expect(record.plan.participants.count < machine.rules.minimumUpdates + 1)
    case .recordFailedAttempt(let record, _):
      #expect(record.delivered.count < machine.rules.minimumUpdates)
      #expect(Set(record.outcomes.map(\.client)).isSubset(of: participants))
    case .finish(let ending):
      #expect(self.ending == nil)
      if ending == .completed { #expect(records.count == machine.rules.rounds) }
      #expect(timers.isEmpty && tasks.isEmpty)
      self.ending = ending
    }
  }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[random.integer(below: elements.count)]
  }

  mutating func step() {
    let client = pick(clients)
    let round = max(1, machine.round + pick([0, 0, 0, 0, -1, 1]))
    switch random.integer(below: 18) {
    case 14: take(.progressed(client, round: round))
    case 15: take(.clientReady(client))
    case 16, 17:
      let owing = clients.filter { machine.expectsUpdate(from: $0, round: machine.round - 1) }
      if !owing.isEmpty { take(.updateReceived(pick(owing), round: machine.round - 1)) }
    case 0, 1: take(.clientJoined(client, restarted: pick([true, false])))
    case 2: take(.clientLost(client, reason: "gone"))
    case 3, 4, 5: take(.updateReceived(client, round: round))
    case 6: take(.clientFailed(client, round: round, reason: "failed"))
    case 7: take(.updateRefused(client, round: round, UpdateRefusal(.metrics, "no")))
    case 8:
      let timer = RoundTimer(
        pick([.gathering, .training, .replanning]), round: round,
        attempt: 1 + random.integer(below: 3))
      if !timers.contains(timer) { take(.timerFired(timer)) }
    case 9: take(.aggregated(round: machine.round + 1))
    case 10: take(.evaluated(round: machine.round + 1, metrics: [:]))
    case 11: if random.integer(below: 10) == 0 { takeTimer() }
    default: takeOwed()
    }
  }

  mutating func takeTimer() {
    let all = timers.sorted { "\($0)" < "\($1)" }
    if !all.isEmpty { take(.timerFired(pick(all))) }
  }

  /// Answers what the machine asked for.
  mutating func takeOwed() {
    if !plans.isEmpty {
      let (round, attempt, clients) = plans.removeFirst()
      var plan = RoundPlan([:])
      let isShort = random.integer(below: 6) == 0
      for (place, client) in clients.enumerated() {
        let joins =
          !isShort && (place < machine.rules.minimumUpdates || random.integer(below: 3) > 0)
        plan.assignments[client] = .init(participates: joins)
      }
      plan.assignments["stranger"] = .init()
      if random.integer(below: 3) == 0 { plan.enough = 1 + random.integer(below: 3) }
      take(.planMade(plan, round: round, attempt: attempt))
    } else if let round = aggregating {
      aggregating = nil
      take(.aggregated(round: round))
    } else if let round = evaluating {
      evaluating = nil
      take(.evaluated(round: round, metrics: [:]))
    }
  }
}

@Suite("RoundStateMachine, random walk") struct RoundStateMachineWalkTests {
  @Test func `holds its promises in 2000 lives, and each comes to an end`() {
    var ends = WalkEnds()
    var late = 0
    for seed in 0..<2000 {
      var walk = Walk(seed: UInt64(seed))
      walk.live(steps: 200, rest: 200)
      late += walk.lateCount
      ends.count(walk.ending, seed: seed)
    }
    // Both ends are reached often, so the walk goes everywhere.
    #expect(ends.completed > 200 && ends.failed > 200 && late > 50, "\(ends) \(late)")
  }
}
