import Foundation
import Logging
import PeatTensor

/// Runs a federation: plans rounds, hands out work, takes updates, aggregates.
///
/// The course of the run is decided by `RoundStateMachine`; this actor carries its actions out. How clients reach it is
/// a transport's affair: see `CoordinatorEndpoint`, which it conforms to in `Coordinator+Endpoint.swift`.
///
///     let coordinator = try await Coordinator(configuration, adapter: adapter, levels: levels, store: store, …)
///     let report = try await coordinator.run()
public actor Coordinator {
  /// Called after each round with the new adapter; what it gives is recorded with the round.
  public typealias Evaluation =
    @Sendable (_ round: Int, _ adapter: NamedTensors) async throws ->
    [String: Double]

  /// Which levels are to be given anew, after a round's number and the adapter that it gave; only those in use need be: on which clients that
  /// are here were last told to train.
  public typealias Renewal =
    @Sendable (_ round: Int, _ adapter: NamedTensors, _ inUse: Set<Int>) async throws ->
    [Int: RenewedLevel]

  /// A client's stay, from joining to leaving.
  struct Stay {
    var session: String
    /// Calls of `attend` and for work that are open now.
    var attendances = 0
    /// Rises when an attendance begins, so that a grace that began before it comes to nothing.
    var arrivals = 0
    /// Rises with each piece that travels and each step that is done.
    var moves = 0
    var heardTheEnd = false
    /// Why the transport turned it away.
    var turnedAway: String?
    var freeMemoryBytes: Int?
    var holds: Set<Digest>
    var rates = DeviceRates()
    /// Steps that it said are done of its task.
    var steps = 0
    /// The most components of low-rank pairs that it trains.
    var rankLimit: Int?
    /// The round, and the attempt at it, that it was last told goes on without it.
    var toldOf: (round: Int, attempt: Int)?
  }

  /// What is remembered of a client over its stays.
  struct History: Sendable, Codable {
    /// Which update was taken: its header's digest and its tensors.
    struct Taken: Sendable, Codable, Equatable {
      var header: Digest
      var payload: BlobReference
    }

    /// Of its last update, as far as it is believed, and what was seen of it here.
    var telemetry: Telemetry?
    var observed: ObservedTrip?
    var exampleCount: Int?
    var delivered = 0
    /// Rounds that it was there for when they were planned, and the one before the first.
    var presences = 0
    var firstRound = 0
    /// The last round that it was asked in, and the last task that it delivered.
    var lastAsked: Int?
    var lastDelivered: Int?
    /// The loss that its last update said its training ended with.
    var loss: Double?
    /// Its number among all that ever came, from 0.
    var place = 0
    /// The last round that counted and that its update is in.
    var countedRound = 0
    var failed = 0
    var late = Lateness()
    /// The level that it was last told to train on.
    var level: Int?
    /// What was seen of its last part, where that came to nothing.
    var missed: ObservedTrip?
    var traffic = Traffic()
    var trafficBeforeRound = Traffic()
    /// The last update that was taken.
    var lastTaken: Taken?
  }

  typealias UpdateKey = BufferedUpdate.Key

  /// What is known of an update that was taken.
  struct Accepted: Sendable {
    var header: UpdateHeader
    /// Its tensors.
    var payload: BlobReference
    var level: Int
    var signature: UpdateSignature?
    var observed: ObservedTrip?
    /// From the adapter that its round began with.
    var distance: Double?
  }

  /// What a round's tasks begin with, as long as updates to it may be taken.
  struct Base: Sendable {
    /// The adapter as bytes in the store, and what an update to it must be like.
    var broadcast: BlobReference
    var policy: UpdatePolicy
  }

  /// An update whose bytes are arriving.
  struct Upload {
    var ticket: String
    var header: UpdateHeader
    var headerDigest: Digest
    var payload: BlobReference
    var signature: UpdateSignature?
    /// Since it was offered.
    var watch: Stopwatch
    var received = 0
    var digest = IncrementalDigest()
    /// Whether it began to arrive before the coordinator was started again.
    var isOfBefore = false
    /// From the adapter that its round began with, once it was looked at.
    var distance: Double?
  }

  let configuration: CoordinatorConfiguration
  package var levels: [Package]
  nonisolated let store: any BlobStore
  let planner: any RoundPlanner
  let strategy: any AggregationStrategy
  let server: ServerParticipation?
  nonisolated let clock: any Clock<Duration>
  let spool: UpdateSpool
  /// Where the run is kept; `nil`: it ends with this coordinator.
  nonisolated let runStore: (any RunStore)?
  let logger: Logger
  let updateSizeLimit: Int
  /// By how much another writer's safetensors header may be longer than ours.
  private static let headerRoom = 64 * 1024
  private let makeSession: @Sendable () -> String
  private let onRound: Evaluation
  let onRenewal: Renewal
  let onProgress: @Sendable (CoordinatorProgress) -> Void

  var machine: RoundStateMachine
  var adapter: NamedTensors
  /// The same as clients read it from `broadcast`.
  var sent: NamedTensors
  /// How far the low-rank products of what was sent are from the exact mean of the last round's updates.
  var aggregationError = 0.0
  /// The digests of what the last round that was aggregated began with and gave.
  var installed: (base: Digest?, adapter: Digest?)
  /// What the strategy said of it beside that.
  var aggregationNotes: [String: Double] = [:]
  /// What the strategy remembers, after the round that gave `adapter`; and as of `counted`.
  var strategyState: StrategyState
  var countedState: StrategyState
  /// The adapter after the last round that counted: `adapter` may be of one that is still evaluated.
  var counted: NamedTensors
  /// The adapter of the current round, and what an update to it must be like; those of earlier rounds whose updates are still taken.
  var base: Base
  var earlierBases: [Int: Base] = [:]
  var stays: [ClientID: Stay] = [:]
  var histories: [ClientID: History] = [:]
  var uploads: [ClientID: Upload] = [:]
  /// Whose each of them is, by its ticket.
  var tickets: [String: ClientID] = [:]
  /// The parts in a round that are under way.
  var trips: [ClientID: Trip] = [:]
  /// The updates that were taken and are not aggregated yet.
  var accepted: [UpdateKey: Accepted] = [:]
  /// The one that was taken last, until it is kept.
  var newlyTaken: UpdateKey?
  /// The tensors of updates that are needed no more.
  var discarded: [BlobReference] = []
  /// The tasks that clients are to do or are doing.
  var tasks: [ClientID: TrainingTask] = [:]
  /// The last task of each client that was withdrawn before it was done; only where its update may still count.
  var withdrawn: [ClientID: TrainingTask] = [:]
  /// The round that is under way.
  var current: (round: Int, attempt: Int, plan: RoundPlan)?
  /// What was planned last.
  var planned: (round: Int, attempt: Int)?

  var timers: [RoundTimer: Task<Void, Never>] = [:]
  var jobs: [Task<Void, Never>] = []
  var serverPart: ServerPart?
  /// What the server's own training carries from round to round.
  var serverCarried: UnsentRest
  var waiters = Waiters()
  var alarms = Alarms<Alarm>()
  let alarmWatch: Stopwatch
  /// Sleeps until the next alarm, and when that is.
  var sleeper: Task<Void, Never>?
  var sleepsUntil: Duration?
  var completion: CheckedContinuation<Void, Never>?
  var failure: (any Error)?
  /// Why the run can't be kept any more: it stops as if it were killed.
  package internal(set) var keepingFailure: PeatError?
  private var started = false
  var watch: Stopwatch
  /// How long the run took before this coordinator was started.
  var earlierSeconds = 0.0
  var roundWatch: Stopwatch
  /// How long the run took, once it has ended.
  var seconds: Double?
  var rounds: [RoundRecord] = []
  /// Since this coordinator was started.
  var acceptedCount = 0
  var refusedCounts: [UpdateRefusal.Code: Int] = [:]
  var exposure: ExposureLedger
  var failedAttempts: [RoundRecord] = []
  static let rememberedAttempts = 1000
  /// The round after which levels were last given anew, or it was seen that none need be.
  var renewedAfter = 0
  /// `adapter` and `strategyState` as blobs, where the run is kept.
  var keptAdapter: KeptAdapter?
  /// What the planner remembers now, where that is to be kept.
  var plannerMemory: [UInt8]?
  /// Events since the machine was kept whole.
  var keptEvents = 0
  /// Clients that may not have heard that the run has ended, as the coordinator was killed then.
  var unaware: Set<ClientID> = []
  /// Whether updates of an earlier coordinator may still be arriving.
  var hasLeftovers = false
  /// Whether clients have had long enough to hear of the end.
  var patienceExpired = false

  /// - Parameters:
  ///   - adapter: what the first round begins with.
  ///   - levels: the emulators that clients can be given, their files in `store`.
  ///   - store: where clients' downloads come from.
  ///   - workFolder: a folder of the coordinator's own for incoming updates; made where missing, removed at the end.
  ///   - state: what the strategy remembers of rounds before these.
  ///   - runStore: where the run is kept. What it has of a run that was stopped is gone on with.
  ///   - server: the coordinator's own part in the training.
  ///   - makeSession: makes the names of sessions; they must not repeat or be guessed.
  ///   - onRound: evaluates the adapter after each round.
  ///   - onRenewal: asked before the next round is planned which levels are to be given anew from it on: a client that holds an old one
  ///     fetches the new one when it next trains on that level.
  public init(
    _ configuration: CoordinatorConfiguration, adapter: NamedTensors, levels: [Package],
    store: any BlobStore, workFolder: URL, planner: any RoundPlanner = EveryonePlanner(),
    strategy: any AggregationStrategy = .fedAvg, state: StrategyState = StrategyState(),
    runStore: (any RunStore)? = nil,
    server: ServerParticipation? = nil,
    clock: any Clock<Duration> = ContinuousClock(),
    logger: Logger = Logger(label: "fedpeat.coordinator"),
    makeSession: @escaping @Sendable () -> String = { UUID().uuidString },
    onRound: @escaping Evaluation = { _, _ in [:] },
    onRenewal: @escaping Renewal = { _, _, _ in [:] },
    onProgress: @escaping @Sendable (CoordinatorProgress) -> Void = { _ in }
  ) async throws {
    try Self.check(configuration.rules, strategy, server)
    guard !adapter.isEmpty else { throw PeatError.badData("The adapter has no tensors to tune.") }
    guard !levels.isEmpty else {
      throw PeatError.usage("A run needs at least one emulator to give to clients.")
    }
    for level in levels { try level.validate(sizeLimit: .max) }
    exposure = configuration.exposure ?? .empty(levels: levels.count)
    guard exposure.contents.count == levels.count else {
      throw PeatError.usage(
        "Contents of \(exposure.contents.count) levels are given for \(levels.count) levels.")
    }
    self.configuration = configuration
    self.adapter = adapter
    counted = adapter
    strategyState = state
    countedState = state
    self.levels = levels
    self.store = store
    self.planner = planner
    self.strategy = strategy
    self.server = server
    self.clock = clock
    self.logger = logger
    self.makeSession = makeSession
    self.onRound = onRound
    self.onRenewal = onRenewal
    self.onProgress = onProgress
    self.runStore = runStore
    serverCarried = UnsentRest(in: runStore?.folder ?? workFolder, name: UnsentRest.carried)
    spool = try UpdateSpool(
      runStore.map { $0.folder.appendingPathComponent("updates") } ?? workFolder,
      isKept: runStore != nil)
    machine = RoundStateMachine(rules: configuration.rules)
    watch = Stopwatch(clock)
    alarmWatch = watch
    roundWatch = watch
    guard configuration.download.share == nil, configuration.download.rank == nil else {
      throw PeatError.usage("The adapter is sent whole: 'download' can't be top-k.")
    }
    let whole = strategy.broadcast(adapter, state)
    let bytes = max(
      UpdateEncoding.plain.byteCount(whole.mapValues(\.shape)),
      configuration.upload.byteCount(whole.mapValues(\.shape)))
    updateSizeLimit = configuration.updateSizeLimit ?? bytes + Self.headerRoom
    guard bytes <= updateSizeLimit else {
      throw PeatError.usage(
        "The adapter takes \(bytes) bytes, more than the \(updateSizeLimit) that an update "
          + "may take. Raise updateSizeLimit, or leave it out.")
    }
    let data: Data
    (data, sent) = try Self.broadcast(whole, configuration, after: 0)
    base = Base(
      broadcast: BlobReference(digest: Digest(of: data), bytes: data.count),
      policy: Self.policy(configuration, round: 1, sent, strategy, updateSizeLimit))
    if server != nil { restoreServerPart() }
    if try await restore() { return }
    try await store.put(data)
    try await keepStart()
  }

  /// Throws where what is asked of the rounds does not go with the strategy.
  private static func check(
    _ rules: RoundRules, _ strategy: any AggregationStrategy, _ server: ServerParticipation?
  ) throws {
    try rules.validate()
    if rules.staleness != nil, let reason = strategy.staleRefusal {
      throw PeatError.usage(
        "The strategy '\(strategy.name)' can't take updates that began with an older adapter: \(reason)"
      )
    }
    if rules.buffer != nil, server != nil {
      throw PeatError.usage(
        "The coordinator has no part of its own in an asynchronous run: that is a share of a round in which all train."
      )
    }
  }

  /// Runs all rounds and stays until the clients have heard of the end.
  ///
  /// Throws `PeatError` where the run can't go on, `CancellationError` where it was cancelled; `report` tells how far it
  /// came.
  public func run() async throws -> RunReport {
    precondition(!started, "Coordinator: run() can be called once")
    started = true
    watch = Stopwatch(clock)
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        completion = continuation
        process(.started)
        // It may have failed before.
        if keepingFailure != nil { stopWaiting() }
      }
    } onCancel: {
      Task { await self.cancel(reason: "The coordinator was interrupted.") }
    }
    if let keepingFailure { throw keepingFailure }
    // In a task of its own: saying goodbye must work although this one may be cancelled.
    await Task { await self.sayGoodbye() }.value
    dropAlarms()
    let report = self.report
    switch machine.ending {
    case .completed, .stopped: return report
    case .cancelled: throw CancellationError()
    case .failed(let reason):
      let code = (failure as? PeatError)?.code ?? .unavailable
      throw PeatError(code, "The run '\(configuration.run)' ended early. \(reason)", cause: failure)
    case nil: throw PeatError(.internalError, "The run stopped without an ending.")
    }
  }

  var secondsSoFar: Double { seconds ?? (earlierSeconds + watch.seconds) }

  /// What the run did so far.
  public var report: RunReport {
    RunReport(
      run: configuration.run, rounds: rounds, failedAttempts: failedAttempts,
      traffic: histories.mapValues(\.traffic),
      exposures: Dictionary(
        uniqueKeysWithValues: histories.keys.map { ($0, exposure.exposure(of: $0)) }),
      exposureTogether: exposure.exposureTogether,
      exposureOfColluders: exposure.exposureOfColluders,
      adapter: counted, strategyState: countedState, seconds: secondsSoFar,
      ending: machine.ending)
  }

  func newSession() -> String { makeSession() }

  func tell(_ progress: CoordinatorProgress) { onProgress(progress) }

  // MARK: Events and actions

  /// Lets the state machine decide and does what it says.
  ///
  /// What that changes is kept before this returns, and the coordinator's callers wait for that: nobody hears of what may be forgotten.
  package func process(_ event: RoundEvent) {
    guard keepingFailure == nil else { return }
    logger.debug("event", metadata: ["event": "\(event)"])
    let before = machine
    let actions = machine.handle(event)
    for action in actions { perform(action) }
    tellOfWaiting(before)
    keep(event, actions, before)
  }

  /// Says what is waited for now and was not before.
  private func tellOfWaiting(_ before: RoundStateMachine) {
    let (rules, round) = (machine.rules, machine.round)
    // Nobody else comes to a simulation.
    guard rules.usedRetryPause > .zero else { return }
    let progress: CoordinatorProgress
    if machine.isWaitingForOthers == true, before.isWaitingForOthers != true {
      progress = .waitsForOthers(round: round, atMost: rules.usedRetryPause)
    } else if machine.isShortOfClients, !before.isShortOfClients {
      progress = .waitsForClients(
        round: round, present: machine.present.count, needed: machine.needed,
        atMost: rules.gatheringDeadline)
    } else if let lost = machine.training?.waitedFor, before.training?.waitedFor != lost {
      progress = .waitsForLost(round: round, lost, atMost: rules.deadline)
    } else {
      return
    }
    onProgress(progress)
    logger.info("waiting: \(progress)")
  }

  private func perform(_ action: RoundAction) {
    switch action {
    case .startTimer(let timer, let duration): start(timer, duration)
    case .cancelTimer(let timer): timers.removeValue(forKey: timer)?.cancel()
    case .makePlan(let round, let attempt, let clients): plan(round, attempt, clients)
    case .beginRound(let round, let attempt, let plan): begin(round, attempt, plan)
    case .goOn(let round, let attempt, let plan): goOn(round, attempt, plan)
    case .sendTask(let client, let round, let attempt, let assignment):
      send(client, round, attempt, assignment)
    case .resumeTask(let client, let round): resume(client, round)
    case .withdrawTask(let client, _):
      endTrip(of: client)
      let task = tasks.removeValue(forKey: client)
      if configuration.rules.staleness != nil, let task { withdrawn[client] = task }
    case .discardUpdates(let round): discardUpdates(of: round)
    case .aggregate(let round, let clients, let buffered):
      aggregate(
        round,
        clients.map { BufferedUpdate($0, round: round, staleness: 0) } + buffered)
    case .evaluate(let round): evaluate(round)
    case .record(let record): close(record)
    case .recordFailedAttempt(let record, let reason):
      let record = completed(record)
      current = nil
      // Clients that come and go can make many.
      if failedAttempts.count >= Self.rememberedAttempts { failedAttempts.removeFirst() }
      failedAttempts.append(record)
      let isLast = machine.ending != nil
      onProgress(
        isLast ? .roundGivenUp(record, reason: reason) : .roundRepeated(record, reason: reason))
      logger.warning("round \(record.round) does not count: \(reason)")
    case .waitForParticipants(let record, let reason):
      onProgress(.roundWaits(record, reason: reason))
      logger.warning("round \(record.round) is planned again: \(reason)")
    case .warn(let round, let text): logger.warning("round \(round): \(text)")
    case .finish(let ending): finish(ending)
    }
  }

  private func begin(_ round: Int, _ attempt: Int, _ plan: RoundPlan) {
    logger.info("round \(round), attempt \(attempt)", metadata: ["clients": "\(plan.participants)"])
    roundWatch = Stopwatch(clock)
    // In an asynchronous run nobody is left out of a round.
    current = configuration.rules.buffer == nil ? (round, attempt, plan) : nil
    for (client, history) in histories { histories[client]?.trafficBeforeRound = history.traffic }
    onProgress(.roundBegan(round: round, attempt: attempt, plan: plan))
    // Those who are left out hear of it.
    wakeAll()
    startServerPart(round, attempt)
  }

  /// A round that was under way when an earlier coordinator stopped.
  private func goOn(_ round: Int, _ attempt: Int, _ plan: RoundPlan) {
    logger.info("round \(round), attempt \(attempt) goes on")
    roundWatch = Stopwatch(clock)
    current = (round, attempt, plan)
    onProgress(.roundGoesOn(round: round, attempt: attempt, plan: plan))
    startServerPart(round, attempt)
  }

  private func evaluate(_ round: Int) {
    work { [adapter] coordinator in
      do {
        let metrics = try await coordinator.onRound(round, adapter)
        try await coordinator.rememberPlanner()
        await coordinator.process(
          .evaluated(round: round, metrics: metrics, spent: coordinator.cost))
      } catch { await coordinator.fail(error) { .evaluationFailed(reason: $0) } }
    }
  }

  /// All that clients fetched and sent.
  var totalTraffic: Traffic { histories.values.reduce(into: Traffic()) { $0 += $1.traffic } }

  /// What the run has taken so far.
  private var cost: RunCost {
    let traffic = totalTraffic
    return RunCost(bytes: traffic.bytesDown + traffic.bytesUp)
  }

  /// Does long work beside the actor; it is cancelled when the run ends.
  func work(_ body: @escaping @Sendable (Coordinator) async -> Void) {
    jobs.append(Task { await body(self) })
    if jobs.count > 8 { jobs.removeFirst(jobs.count - 8) }
  }

  func fail(_ error: any Error, _ event: (String) -> RoundEvent) {
    if suspends(because: error) { return }
    if machine.ending == nil { failure = error }
    process(event(failureReason(error)))
  }

}
