import PeatTensor

/// Who works on what in an asynchronous run, who waits for work, and what has arrived since the last aggregation.
struct AsynchronousBuffer: Sendable, Equatable, Codable {
  /// A client's task.
  struct Work: Sendable, Equatable, Codable {
    var round: Int
    /// Which of the client's tasks in that round, from 1: each draws other chances.
    var number: Int
    var assignment: RoundPlan.Assignment
    /// The period of time that it was given in.
    var period: Int
  }

  /// An update that waits to be aggregated.
  struct Arrival: Sendable, Equatable, Codable {
    var update: BufferedUpdate
    var assignment: RoundPlan.Assignment
  }

  /// A task that came to nothing.
  struct Failure: Sendable, Equatable, Codable {
    var work: Work
    var result: ClientResult
  }

  /// What is aggregated and evaluated.
  struct Closing: Sendable, Equatable, Codable {
    var round: Int
    var arrivals: [Arrival]
    /// The last of each client.
    var failures: [ClientID: Failure]
    var isAggregated = false
  }

  let rules: BufferRules
  private(set) var working: [ClientID: Work] = [:]
  /// Clients that were lost at work, and may come back to it.
  private var away: [ClientID: Work] = [:]
  /// Who waits for work, longest first.
  private var queue: [ClientID] = []
  /// Those who failed or were left out: they wait for a moment, so that nobody fails in a circle.
  private var paused: [ClientID] = []
  private var isPausing = false
  /// All who wait, are paused or are planned for.
  private var waiting: Set<ClientID> = []
  private var planned: [ClientID] = []
  private(set) var planNumber = 0
  private(set) var isPlanning = false
  /// The last task of each client: of which round, and which in it.
  private var last: [ClientID: [Int]] = [:]
  private(set) var arrivals: [Arrival] = []
  private var failures: [ClientID: Failure] = [:]
  var closing: Closing?
  /// Counts the deadlines that passed.
  private(set) var period = 1
  private(set) var timer: RoundTimer?
  /// Who moved in this period.
  private var moved: Set<ClientID> = []

  init(_ rules: BufferRules) { self.rules = rules }

  /// Begins with updates that are there, and with the tasks that were open in another one: their clients go on with them when they come.
  ///
  /// - Parameter newest: the last round whose tasks' adapter is there, or will be.
  mutating func take(_ arrivals: [Arrival], of other: AsynchronousBuffer, upTo newest: Int) {
    self.arrivals = arrivals
    last = other.last
    (period, planNumber) = (other.period, other.planNumber)
    away = other.away.merging(other.working) { $1 }.filter { $0.value.round <= newest }
    // Nobody could be at work meanwhile: for each of them time begins anew.
    for client in away.keys { away[client]?.period = period + 1 }
  }

  /// What a client is at, or was when it was heard of last.
  func task(of client: ClientID, _ round: Int) -> Work? {
    (working[client] ?? away[client]).flatMap { $0.round == round ? $0 : nil }
  }

  var isFull: Bool { arrivals.count >= rules.size }

  func expects(_ client: ClientID, _ round: Int) -> Bool { working[client]?.round == round }

  /// Which of its tasks in a round a client is at; 0: none.
  func number(of client: ClientID, _ round: Int) -> Int {
    task(of: client, round)?.number ?? 0
  }

  func watches(_ client: ClientID, _ round: Int) -> Bool {
    expects(client, round) && !moved.contains(client)
  }

  mutating func noteMove(of client: ClientID) { moved.insert(client) }

  // MARK: Who waits for work

  mutating func enqueue(_ client: ClientID) {
    guard waiting.insert(client).inserted else { return }
    queue.append(client)
  }

  private mutating func pause(_ client: ClientID) {
    guard waiting.insert(client).inserted else { return }
    paused.append(client)
  }

  /// Begins a pause where somebody waits for one to end.
  mutating func beginPause() -> Bool {
    guard !paused.isEmpty, !isPausing else { return false }
    isPausing = true
    return true
  }

  mutating func endPause() {
    isPausing = false
    queue += paused
    paused = []
  }

  /// How many clients can fill the buffer: those who are at work or wait for it. Not those who fail, whatever they are at now, nor those who are left out: nobody is to
  /// wait for their updates.
  private var able: Int {
    Set(working.keys).union(queue).subtracting(failures.keys).count
  }

  /// Those who are to be planned for next: as many as there is room for, longest waiting first, and nobody who has its share of what is aggregated next.
  mutating func nextCandidates() -> [ClientID] {
    guard !isPlanning else { return [] }
    let most = rules.mostOfOne(among: able)
    let counts = arrivals.reduce(into: [ClientID: Int]()) { $0[$1.update.client, default: 0] += 1 }
    let room = (rules.concurrency ?? .max) - working.count
    let chosen = queue.filter { counts[$0, default: 0] < most }.prefix(max(room, 0))
    guard !chosen.isEmpty else { return [] }
    planned = chosen.sorted()
    queue.removeAll(where: Set(chosen).contains)
    planNumber += 1
    isPlanning = true
    return planned
  }

  /// Takes the plan that was asked for; gives those who are to be sent a task.
  mutating func take(
    _ plan: RoundPlan, round: Int, present: Set<ClientID>, mayBegin: Bool
  ) -> [(client: ClientID, work: Work)] {
    isPlanning = false
    waiting.subtract(planned)
    defer { planned = [] }
    var sent: [(ClientID, Work)] = []
    for client in planned where present.contains(client) {
      guard mayBegin, let assignment = plan.assignments[client], assignment.participates else {
        pause(client)
        continue
      }
      let before = last[client]
      let number = before?.first == round ? (before?.last ?? 0) + 1 : 1
      last[client] = [round, number]
      let work = Work(round: round, number: number, assignment: assignment, period: period)
      working[client] = work
      moved.insert(client)
      sent.append((client, work))
    }
    return sent
  }

  // MARK: Clients come and go

  /// What a client that is here was at, if it can go on with it; else it waits for work.
  ///
  /// - Parameter rounds: those whose tasks count, and whose adapter is there.
  mutating func join(_ client: ClientID, goingOnIn rounds: ClosedRange<Int>) -> Work? {
    guard working[client] == nil else { return nil }
    guard let work = away[client], work.round >= rounds.lowerBound else {
      away[client] = nil
      enqueue(client)
      return nil
    }
    // What it began with is being made again, and will be there in a moment.
    guard rounds.contains(work.round) else { return nil }
    away[client] = nil
    working[client] = work
    failures[client] = nil
    return work
  }

  /// - Returns: whether it was at work.
  mutating func lose(_ client: ClientID, reason: String) -> Bool {
    if waiting.contains(client), !planned.contains(client) {
      waiting.remove(client)
      queue.removeAll { $0 == client }
      paused.removeAll { $0 == client }
    }
    guard let work = working.removeValue(forKey: client) else { return false }
    away[client] = work
    failures[client] = Failure(work: work, result: .lost(reason: reason))
    return true
  }

  /// A client's task ends.
  ///
  /// - Parameters:
  ///   - closes: the round that its update is aggregated in.
  ///   - isThere: whether it waits for work then.
  mutating func end(
    _ client: ClientID, _ result: ClientResult, closes round: Int, isThere: Bool = true
  ) {
    guard let work = working.removeValue(forKey: client) else { return }
    guard result == .delivered else {
      failures[client] = Failure(work: work, result: result)
      if isThere { pause(client) }
      return
    }
    failures[client] = nil
    arrivals.append(
      Arrival(
        update: BufferedUpdate(
          client, round: work.round, number: work.number, staleness: round - work.round),
        assignment: work.assignment))
    enqueue(client)
  }

  // MARK: Aggregation

  /// Puts what is here aside to be aggregated as a round.
  mutating func close(_ round: Int) -> [BufferedUpdate] {
    arrivals.sort { $0.update < $1.update }
    closing = Closing(round: round, arrivals: arrivals, failures: failures)
    arrivals = []
    failures = [:]
    return closing?.arrivals.map(\.update) ?? []
  }

  /// Tasks of rounds before that one no longer count.
  mutating func dropTasks(before oldest: Int) -> [(client: ClientID, round: Int)] {
    away = away.filter { $0.value.round >= oldest }
    let stale = working.filter { $0.value.round < oldest }.sorted { $0.key < $1.key }
    for (client, work) in stale {
      working[client] = nil
      closing?.failures[client] = Failure(work: work, result: .late)
      enqueue(client)
    }
    return stale.map { ($0.key, $0.value.round) }
  }

  /// The record of what was aggregated.
  mutating func record(_ metrics: [String: Double]) -> RoundRecord? {
    guard let closing else { return nil }
    self.closing = nil
    var plan = RoundPlan([:])
    var outcomes: [ClientOutcome] = []
    for arrival in closing.arrivals {
      let update = arrival.update
      plan.assignments[update.client] = arrival.assignment
      var outcome = ClientOutcome(
        client: update.client, emulatorLevel: arrival.assignment.emulatorLevel ?? 0,
        result: .delivered)
      (outcome.staleness, outcome.number) = (update.staleness, update.number)
      outcomes.append(outcome)
    }
    for (client, failure) in closing.failures.sorted(by: { $0.key < $1.key }) {
      let assignment = failure.work.assignment
      plan.assignments[client] = plan.assignments[client] ?? assignment
      var outcome = ClientOutcome(
        client: client, emulatorLevel: assignment.emulatorLevel ?? 0, result: failure.result)
      (outcome.staleness, outcome.number) =
        (max(closing.round - failure.work.round, 0), failure.work.number)
      outcomes.append(outcome)
    }
    return RoundRecord(
      round: closing.round, attempt: 1, plan: plan, outcomes: outcomes, metrics: metrics)
  }

  // MARK: Time

  /// Begins a period; gives its timer, and the one that it takes the place of.
  mutating func beginPeriod(_ round: Int) -> (start: RoundTimer, cancel: RoundTimer?) {
    let old = timer
    period += 1
    moved = []
    let new = RoundTimer(.training, round: round, attempt: period)
    timer = new
    return (new, old)
  }

  /// The period's timer has fired. Gives those who have been at work since before it, and, where progress counts, did not move in it.
  mutating func endPeriod(progressCounts: Bool) -> [(client: ClientID, round: Int)] {
    timer = nil
    return working.filter { client, work in
      work.period < period && !(progressCounts && moved.contains(client))
    }.sorted { $0.key < $1.key }.map { ($0.key, $0.value.round) }
  }

  /// What the end of the run ends.
  func end() -> [RoundAction] {
    var actions: [RoundAction] = timer.map { [.cancelTimer($0)] } ?? []
    if isPausing { actions.append(.cancelTimer(Self.pauseTimer)) }
    return actions
      + working.sorted { $0.key < $1.key }.map { .withdrawTask($0.key, round: $0.value.round) }
  }

  static let pauseTimer = RoundTimer(.replanning, round: 0, attempt: 0)
}
