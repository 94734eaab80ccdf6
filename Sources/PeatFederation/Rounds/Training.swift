import PeatTensor

/// The training of one attempt at a round: who is at work, who is done, and how long it may go on.
struct Training: Sendable, Equatable, Codable {
  /// Where a participant stands.
  enum Standing: Sendable, Equatable, Codable {
    case working
    case ended(ClientResult)
  }

  /// What of a round's time is running.
  enum Stretch: Sendable, Equatable, Codable {
    /// Nobody is let go before it ends.
    case early
    /// Whoever does not move in it is let go at its end.
    case watched
  }

  let plan: RoundPlan
  private(set) var standings: [ClientID: Standing]
  /// How many are at work, how many have delivered, and how many are lost.
  private(set) var working = 0
  private(set) var deliveredCount = 0
  private(set) var lostCount = 0
  private(set) var stretch = Stretch.early
  /// Who moved in this stretch.
  private(set) var moved: Set<ClientID> = []
  /// When the stretch ends, from the beginning of the round.
  private(set) var end: Duration

  /// - Parameter first: how long the first stretch is.
  init(plan: RoundPlan, standings: [ClientID: Standing], rules: RoundRules) {
    self.plan = plan
    self.standings = standings
    end = rules.stillness.map { max(rules.deadline - $0, .zero) } ?? rules.deadline
    for standing in standings.values { count(standing, 1) }
    if end == .zero { watch(rules) }
  }

  private mutating func count(_ standing: Standing, _ change: Int) {
    switch standing {
    case .working: working += change
    case .ended(.delivered): deliveredCount += change
    case .ended(.lost): lostCount += change
    case .ended: break
    }
  }

  subscript(client: ClientID) -> Standing? { standings[client] }

  /// Sets where a participant stands.
  mutating func set(_ client: ClientID, _ standing: Standing) {
    if let old = standings.updateValue(standing, forKey: client) { count(old, -1) }
    count(standing, 1)
  }

  var isAnyoneWorking: Bool { working > 0 }
  /// Lost clients may come back until the deadline.
  var mayReturn: Bool { lostCount > 0 }
  /// Whom a round waits for in which nobody is left at work; `nil` where that is not so.
  var waitedFor: [ClientID]? {
    guard !isAnyoneWorking, mayReturn else { return nil }
    return standings.filter { if case .ended(.lost) = $0.value { true } else { false } }.keys
      .sorted()
  }
  /// Those who are at work, in the order of their names.
  var atWork: [ClientID] { standings.filter { $0.value == .working }.keys.sorted() }
  var delivered: [ClientID] {
    standings.filter { $0.value == .ended(.delivered) }.keys.sorted()
  }

  /// Whether so many have delivered that the others are not waited for.
  func hasEnough(_ rules: RoundRules) -> Bool {
    guard let enough = plan.enough else { return false }
    return deliveredCount >= max(enough, rules.minimumUpdates)
  }

  // MARK: Time

  /// The coordinator was started again: nobody could move meanwhile.
  mutating func beginTimeAnew(_ rules: RoundRules) {
    self = Training(plan: plan, standings: standings, rules: rules)
  }

  /// Whether it is to be noted that a participant moves.
  func watches(_ client: ClientID) -> Bool {
    stretch == .watched && standings[client] == .working && !moved.contains(client)
  }

  mutating func noteMove(of client: ClientID) { moved.insert(client) }

  /// What a stretch's end brings: who is let go now, and how long the next one is; `nil`: there is none.
  mutating func endStretch(_ rules: RoundRules) -> (late: [ClientID], next: Duration?) {
    guard rules.stillness != nil, end < rules.longest else { return (atWork, nil) }
    if stretch == .early {
      let length = watch(rules)
      return ([], length)
    }
    let late = atWork.filter { !moved.contains($0) }
    guard late.count < working else { return (late, nil) }
    return (late, watch(rules))
  }

  @discardableResult
  private mutating func watch(_ rules: RoundRules) -> Duration {
    let length = min(rules.stillness ?? .zero, rules.longest - end)
    stretch = .watched
    moved = []
    end += length
    return length
  }

  // MARK: What it came to

  func record(round: Int, attempt: Int) -> RoundRecord {
    let outcomes = standings.sorted { $0.key < $1.key }.map { client, standing in
      let result: ClientResult = if case .ended(let result) = standing { result } else { .late }
      return ClientOutcome(
        client: client, emulatorLevel: plan.assignments[client]?.emulatorLevel ?? 0,
        result: result)
    }
    return RoundRecord(round: round, attempt: attempt, plan: plan, outcomes: outcomes)
  }
}
