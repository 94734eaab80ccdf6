import PeatTensor

/// What a store has of a run.
public struct KeptRun: Sendable {
  /// The machine as it was when it was last kept whole, and what happened since.
  public var machine: RoundStateMachine
  public var events: [RoundEvent]
  /// The adapter that the first round began with.
  public var start: KeptAdapter
  public var clients: [ClientID: KeptClient]
  /// Updates that were taken in the round that is under way.
  public var updates: [KeptUpdate]
  /// The rounds that counted, in order.
  public var rounds: [KeptRound]
  public var failedAttempts: [RoundRecord]
  public var levels: KeptLevels?
  /// What the planner remembers.
  public var planner: [UInt8]?
  /// How long the run has taken.
  public var seconds: Double
  public var ending: RunEnding?

  public init(
    machine: RoundStateMachine, events: [RoundEvent] = [], start: KeptAdapter,
    clients: [ClientID: KeptClient] = [:], updates: [KeptUpdate] = [], rounds: [KeptRound] = [],
    failedAttempts: [RoundRecord] = [], levels: KeptLevels? = nil, planner: [UInt8]? = nil,
    seconds: Double = 0, ending: RunEnding? = nil
  ) {
    self.machine = machine
    self.events = events
    self.start = start
    self.clients = clients
    self.updates = updates
    self.rounds = rounds
    self.failedAttempts = failedAttempts
    self.levels = levels
    self.planner = planner
    self.seconds = seconds
    self.ending = ending
  }

  /// The machine as it was in the end.
  public var lastMachine: RoundStateMachine {
    var machine = machine
    for event in events { _ = machine.handle(event) }
    return machine
  }

  /// Updates that are still to be aggregated: none of a run that is over.
  public var neededUpdates: [KeptUpdate] {
    let machine = lastMachine
    switch machine.ending ?? ending {
    case .completed?, .stopped?: return []
    default: return updates.filter { machine.needs($0.key) }
    }
  }

  /// The adapter after the last round that counted; `nil` where it is kept no longer.
  public var last: KeptAdapter? { adapter(after: rounds.last?.record.round ?? 0) }

  /// The adapter after a round, 0: before the first; `nil` where that was not made, or its adapter is kept no longer.
  public func adapter(after round: Int) -> KeptAdapter? {
    round == 0 ? start : rounds.first { $0.record.round == round }?.adapter
  }

  /// The rounds whose adapters are kept, with 0.
  public var roundsWithAdapter: [Int] {
    [0] + rounds.filter { $0.adapter != nil }.map(\.record.round)
  }
}

/// An adapter, and what the strategy remembers beside it, as blobs.
public struct KeptAdapter: Sendable, Codable, Equatable {
  public var adapter: Digest
  public var state: Digest

  public init(adapter: Digest, state: Digest) {
    self.adapter = adapter
    self.state = state
  }
}

/// A round that counted.
public struct KeptRound: Sendable {
  public var record: RoundRecord
  /// The adapter after it; `nil` where it is kept no longer.
  public var adapter: KeptAdapter?

  public init(record: RoundRecord, adapter: KeptAdapter?) {
    self.record = record
    self.adapter = adapter
  }
}

/// What is remembered of a client.
public struct KeptClient: Sendable, Codable {
  var history: Coordinator.History
  var sights: ExposureLedger.Sights

  /// The payload to and from it, over the whole run.
  public var traffic: Traffic { history.traffic }

  /// As it is where a run goes back: what it was sent it has seen.
  ///
  /// - Parameter countedRound: the last round that counted with an update of its own.
  package func rolledBack(to countedRound: Int) -> KeptClient {
    var result = self
    result.history.countedRound = countedRound
    result.history.lastTaken = nil
    result.history.late = Lateness()
    return result
  }
}

/// An update that was taken; its tensors lie in the run's folder.
public struct KeptUpdate: Sendable, Codable, Equatable {
  public var header: UpdateHeader
  public var payload: BlobReference
  public var signature: UpdateSignature?
  /// Which of the client's tasks in its round it is the answer to.
  public var number: Int
  /// The level that it was trained on, and what was seen of the client's part.
  public var level: Int
  public var observed: ObservedTrip?
  /// From the adapter that its round began with.
  public var distance: Double?

  public init(
    header: UpdateHeader, payload: BlobReference, signature: UpdateSignature? = nil,
    number: Int = 1, level: Int = 0, observed: ObservedTrip? = nil, distance: Double? = nil
  ) {
    self.header = header
    self.payload = payload
    self.signature = signature
    self.number = number
    self.level = level
    self.observed = observed
    self.distance = distance
  }

  public var client: ClientID { header.client }
  public var key: BufferedUpdate.Key {
    .init(client: header.client, round: header.round, number: number)
  }
}

/// The levels as they are, where some were made anew.
public struct KeptLevels: Sendable, Codable {
  public var packages: [Package]
  var exposure: ExposureLedger.Levels
  /// The round after which it was last looked whether levels are to be made anew.
  public var renewedAfter: Int
}

/// What an event changed.
public struct RunChanges: Sendable {
  /// What happened: it follows on the machine that was kept whole before.
  public var event: RoundEvent?
  /// The machine, whole: events before it are needed no more.
  public var machine: RoundStateMachine?
  /// Of a new run.
  public var start: KeptAdapter?
  public var clients: [ClientID: KeptClient] = [:]
  /// Whether the updates taken before are needed no more.
  public var forgetsUpdates = false
  /// Taken now.
  public var updates: [KeptUpdate] = []
  /// A round that counted; one that was there before is replaced.
  public var round: KeptRound?
  /// Of how many rounds, the last ones, the adapters stay.
  public var keptAdapters = Int.max
  /// Rounds whose adapters stay beside those.
  public var keptRounds: Set<Int> = []
  public var failedAttempt: RoundRecord?
  public var levels: KeptLevels?
  public var planner: [UInt8]?
  public var seconds = 0.0
  public var ending: RunEnding?
  /// Whether it must also survive a loss of power: it is on the disk, with all before it, when the commit returns. What is not is there for any process, whatever becomes of
  /// this one.
  public var isToSurvivePowerLoss = false

  public init() {}
}

/// A planner that remembers what it saw and decided.
public protocol RememberingPlanner: RoundPlanner {
  /// All that it goes on from.
  func memory() async throws -> [UInt8]

  /// Goes on from what one of its kind remembered.
  ///
  /// - Parameter isCarriedOut: whether an attempt at a round was carried out by its plan: what is remembered of others is dropped.
  /// - Throws: `badData` where it is no memory of such a planner.
  func restore(
    _ memory: [UInt8], where isCarriedOut: @Sendable (_ round: Int, _ attempt: Int) -> Bool
  ) async throws
}
