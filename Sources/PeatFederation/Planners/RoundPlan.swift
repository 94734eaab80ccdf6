import PeatTensor

/// The decisions of one round: for each client whether it takes part, and how.
public struct RoundPlan: Sendable, Equatable {
  public struct Assignment: Sendable, Equatable {
    /// Who takes no part has no emulator and no work.
    public var participates: Bool {
      didSet { if !participates { dropWork() } }
    }
    /// The emulator the client trains on: an index into the run's levels, 0 the first; `nil` where it takes no part.
    public var emulatorLevel: Int?
    /// Whether the client fetches the emulator again although it holds it.
    public var refresh: Bool
    /// Local steps of this client in this round; `nil` leaves the run's own number.
    public var localSteps: Int?
    /// What the learning rate is multiplied with; how many of the adapter's rank components train, the first ones; and in how many bits each
    /// value of the update is sent: 32, 16 or 8. `nil` leaves the run's own.
    public var learningRateScale: Double?
    public var trainedRank: Int?
    public var uploadBits: Int?
    /// Transmit power in watts and bandwidth in hertz, where a radio link is planned; recorded with the round.
    public var transmitPower: Double?
    public var bandwidth: Double?
    /// Whether it takes part only because a round needs so many updates: the planner itself left it out.
    public var isAdded = false
    /// Why it was decided so, for the run's log.
    public var reason: String?
    /// How much dearer the round becomes by this decision than by what an exact search would decide for this client, in the
    /// planner's objective; negative where it becomes cheaper.
    public var regret: Double?

    public init(
      participates: Bool = true, emulatorLevel: Int = 0, refresh: Bool = false,
      localSteps: Int? = nil, transmitPower: Double? = nil, bandwidth: Double? = nil
    ) {
      guard participates else {
        self = .leftOut(because: nil)
        return
      }
      self.participates = true
      self.emulatorLevel = emulatorLevel
      self.refresh = refresh
      self.localSteps = localSteps
      self.transmitPower = transmitPower
      self.bandwidth = bandwidth
    }

    private init(reason: String?) {
      participates = false
      refresh = false
      self.reason = reason
    }

    /// Takes no part.
    public static func leftOut(because reason: String?) -> Assignment { Assignment(reason: reason) }

    private mutating func dropWork() {
      let regret = regret
      self = .leftOut(because: reason)
      self.regret = regret
    }
  }

  /// A client that is not named does not take part.
  public var assignments: [ClientID: Assignment]
  /// How much dearer the round is than the one an exact search would plan, in the planner's objective, where that was computed.
  public var regret: Double?
  /// What the round costs in that objective, as it was planned: no unit, 1 is what the whole gap to the final loss costs in a round.
  public var cost: Double?
  /// Why nobody is asked, where that is what the planner wants: the round passes without clients. `nil`: a round in which too few take part
  /// is planned again.
  public var skipped: String?
  /// The round closes when so many updates are there, as more clients are asked than needed: whoever is slowest is not waited for. `nil`: all are.
  public var enough: Int?

  public init(_ assignments: [ClientID: Assignment]) { self.assignments = assignments }

  /// A round without clients.
  public static func skipping(_ clients: [ClientID], because reason: String) -> RoundPlan {
    var plan = RoundPlan(
      Dictionary(uniqueKeysWithValues: clients.map { ($0, .leftOut(because: reason)) }))
    plan.skipped = reason
    return plan
  }

  /// The clients that take part, in the order of their names.
  public var participants: [ClientID] {
    assignments.filter(\.value.participates).keys.sorted()
  }
}

/// Decides a round from the state of the federation.
public protocol RoundPlanner: Sendable {
  /// The plan of `state.round`. Asked again with a higher attempt if the round has to be repeated.
  func plan(_ state: FederationState) async throws -> RoundPlan
}

/// What a planner sees before each round.
public struct FederationState: Sendable, Equatable {
  /// An emulator that clients can be given.
  public struct Level: Sendable, Equatable {
    public var level: Int
    /// Size of the package in bytes.
    public var bytes: Int
    /// What a process takes that trains through it, in bytes, by estimate; `nil`: that is not known.
    public var memoryBytes: Int? = nil
  }

  /// A client that is there now.
  public struct ClientState: Sendable, Equatable {
    public var client: ClientID
    /// The levels whose packages the client holds, whole and unchanged.
    public var holds: Set<Int>
    /// Free memory in bytes, as last reported.
    public var freeMemoryBytes: Int?
    /// What it measured of itself before it joined.
    public var rates: DeviceRates
    /// What it measured in the last round whose update arrived, as far as the coordinator's own clock and count of bytes allow.
    public var telemetry: Telemetry?
    /// What the coordinator itself saw of it then.
    public var observed: ObservedTrip?
    public var exampleCount: Int?
    /// The levels that it may be sent: others would show it more of the middle than is allowed.
    public var allowedLevels: Set<Int>
    /// The share of the middle's weights that it could put together from all it was sent.
    public var exposure: Double
    /// Rounds it delivered in, and rounds it was asked in and did not.
    public var delivered: Int
    public var failed: Int
    /// What the coordinator saw of its last part until that ended, where it came to nothing: the whole would have taken longer.
    public var missed: ObservedTrip?
    /// How often a round waited for it in vain, until the deadline or for most of the time, and which one did last.
    public var late = 0
    public var lastLate: Int?
    /// Rounds that it was there for when they were planned, with this one, and the first one since it came.
    public var presences = 0
    public var firstRound = 1
    /// The last round that it was asked in, and the last one whose task it delivered.
    public var lastAsked: Int?
    public var lastDelivered: Int?
    /// The loss that its last update said its training ended with.
    public var loss: Double?
    /// Its number among all that ever came, from 0, where not all that are there are planned together.
    public var place: Int?
  }

  public var run: RunID
  /// From 1.
  public var round: Int
  public var attempt: Int
  /// How many rounds the run has.
  public var rounds: Int
  /// In the order of their names.
  public var clients: [ClientState]
  public var levels: [Level]
  /// Updates that a round needs.
  public var minimumUpdates: Int
  /// Which blocks of the middle each client has seen.
  public var exposure: ExposureLedger
  /// What the evaluation after the last round gave.
  public var metrics: [String: Double]

  public init(
    run: RunID, round: Int, attempt: Int, rounds: Int, clients: [ClientState], levels: [Level],
    minimumUpdates: Int = 1,
    exposure: ExposureLedger? = nil, metrics: [String: Double] = [:]
  ) {
    self.run = run
    self.round = round
    self.attempt = attempt
    self.rounds = rounds
    self.clients = clients
    self.levels = levels
    self.minimumUpdates = minimumUpdates
    self.exposure = exposure ?? .empty(levels: levels.count)
    self.metrics = metrics
  }
}

extension FederationState.Level {
  public init(_ level: Int, bytes: Int, memoryBytes: Int? = nil) {
    self.init(level: level, bytes: bytes, memoryBytes: memoryBytes)
  }

  /// Whether training through it fits into a client's free memory, as far as both are known.
  func fits(_ client: FederationState.ClientState) -> Bool {
    guard let memoryBytes, let free = client.freeMemoryBytes else { return true }
    return memoryBytes <= free
  }
}

extension FederationState.ClientState {
  /// A client of which nothing is known but the levels that it may be sent.
  public init(_ client: ClientID, allowedLevels: Set<Int>) {
    self.init(
      client: client, holds: [], rates: DeviceRates(), allowedLevels: allowedLevels, exposure: 0,
      delivered: 0, failed: 0)
  }
}

extension FederationState {
  /// A client takes part on a level; where it may not see that, or has no memory for it, on the largest that it may and has; where it may see none, not at all.
  ///
  /// Where it has memory for none, on the smallest: it looks at what training takes itself, and may have means of its own, before it downloads.
  package func assignment(of client: ClientState, wanting level: Int) -> RoundPlan.Assignment {
    let wanted = levels.first { $0.level == level }
    let mayHave = client.allowedLevels.contains(level)
    if mayHave, wanted?.fits(client) ?? true { return .init(emulatorLevel: level) }
    var assignment = fittingAssignment(of: client)
    guard let own = assignment.emulatorLevel else { return assignment }
    if own == level { return .init(emulatorLevel: level) }
    let why =
      mayHave
      ? "would take \(wanted?.memoryBytes ?? 0) bytes of memory, and \(client.freeMemoryBytes ?? 0) are free"
      : "would pass maxExposure"
    assignment.reason = "level \(level) \(why); level \(own) instead"
    return assignment
  }

  /// A client takes part on the largest level that it may see and has memory for; where it has memory for none, on the smallest.
  func fittingAssignment(of client: ClientState) -> RoundPlan.Assignment {
    let allowed = levels.filter { client.allowedLevels.contains($0.level) }
    let largest = allowed.filter { $0.fits(client) }
      .max { ($0.bytes, $1.level) < ($1.bytes, $0.level) }
    let smallest = allowed.min { ($0.bytes, $0.level) < ($1.bytes, $1.level) }
    guard let level = largest ?? smallest else {
      return .leftOut(because: "every level would pass maxExposure")
    }
    return .init(emulatorLevel: level.level)
  }
}

/// In JSON every key is there: null where it says nothing.
extension RoundPlan: Codable {
  private enum CodingKeys: String, CodingKey { case assignments, regret, cost, skipped, enough }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(assignments, forKey: .assignments)
    try table.encode(regret, forKey: .regret)
    try table.encode(cost, forKey: .cost)
    try table.encode(skipped, forKey: .skipped)
    try table.encode(enough, forKey: .enough)
  }
}
