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
  private let onRenewal: Renewal
  private let onProgress: @Sendable (CoordinatorProgress) -> Void

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
  private(set) var tasks: [ClientID: TrainingTask] = [:]
  /// The last task of each client that was withdrawn before it was done; only where its update may still count.
  var withdrawn: [ClientID: TrainingTask] = [:]
  /// The round that is under way.
  private var current: (round: Int, attempt: Int, plan: RoundPlan)?
  /// What was planned last.
  private var planned: (round: Int, attempt: Int)?

  private var timers: [RoundTimer: Task<Void, Never>] = [:]
  private var jobs: [Task<Void, Never>] = []
  var serverPart: ServerPart?
  private var waiters = Waiters()
  var alarms = Alarms<Alarm>()
  let alarmWatch: Stopwatch
  /// Sleeps until the next alarm, and when that is.
  var sleeper: Task<Void, Never>?
  var sleepsUntil: Duration?
  private var completion: CheckedContinuation<Void, Never>?
  var failure: (any Error)?
  /// Why the run can't be kept any more: it stops as if it were killed.
  package internal(set) var keepingFailure: PeatError?
  private var started = false
  var watch: Stopwatch
  /// How long the run took before this coordinator was started.
  var earlierSeconds = 0.0
  private(set) var roundWatch: Stopwatch
  /// How long the run took, once it has ended.
  private var seconds: Double?
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

  /// Stops without an end, as the end of the process would, where the run is kept: clients are told to try again, and find the coordinator that is started next.
  /// `run()` throws `interrupted`.
  public func suspend() {
    guard runStore != nil, machine.ending == nil, keepingFailure == nil else { return }
    logger.info("the coordinator is stopped; the run is kept")
    keepingFailure = PeatError(
      .interrupted,
      "The coordinator was asked to stop. The run '\(configuration.run)' is kept: the same command goes on with it, and clients that are still trying come back."
    )
    stopWaiting()
  }

  /// Ends the run; clients are told.
  public func cancel(reason: String) { process(.cancelled(reason: reason)) }

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

  /// A client's update to a round's task is sure to be counted: its next task says so.
  func noteCounted(_ client: ClientID, _ round: Int) {
    histories[client]?.countedRound = round
    if tasks[client]?.countedRound != nil { tasks[client]?.countedRound = round }
  }

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
    keep(event, actions, before)
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

  private func start(_ timer: RoundTimer, _ duration: Duration) {
    timers[timer]?.cancel()
    // The run's time is also what it took before the coordinator was started again.
    let duration =
      timer.purpose == .budget ? max(duration - .seconds(earlierSeconds), .zero) : duration
    timers[timer] = Task { [clock] in
      guard (try? await clock.sleep(for: duration)) != nil else { return }
      process(.timerFired(timer))
    }
  }

  private func plan(_ round: Int, _ attempt: Int, _ clients: [ClientID]) {
    // Where too few could take part, nobody is left to rest.
    let isAgain = planned.map { $0 == (round, attempt) } ?? false
    planned = (round, attempt)
    if !isAgain, attempt == 1 || configuration.rules.buffer != nil {
      for client in clients { histories[client]?.presences += 1 }
    }
    let resting = isAgain ? [:] : resting(clients, round)
    work { coordinator in
      do {
        try await coordinator.renewLevels(before: round, clients)
        let state = await coordinator.state(
          round, attempt, of: clients.filter { resting[$0] == nil })
        var plan = try await coordinator.planner.plan(state)
        try await coordinator.rememberPlanner()
        for (client, reason) in resting {
          plan.assignments[client] = .leftOut(because: reason)
        }
        try await coordinator.take(plan, for: state)
      } catch { await coordinator.fail(error) { .planFailed(reason: $0) } }
    }
  }

  private func state(
    _ round: Int, _ attempt: Int, of clients: [ClientID]
  ) -> FederationState {
    FederationState(
      run: configuration.run, round: round, attempt: attempt, rounds: configuration.rules.rounds,
      clients: clients.map(state),
      levels: levels.enumerated().map {
        .init(
          $0.offset, bytes: $0.element.bytes,
          memoryBytes: configuration.levelMemory.indices.contains($0.offset)
            ? configuration.levelMemory[$0.offset] : nil)
      },
      minimumUpdates: configuration.rules.minimumUpdates, exposure: exposure,
      metrics: rounds.last?.metrics ?? [:])
  }

  private func state(of client: ClientID) -> FederationState.ClientState {
    let history = histories[client] ?? History()
    let stay = stays[client]
    let held = levels.indices.filter { stay?.holds.contains(levels[$0].digest) ?? false }
    var state = FederationState.ClientState(
      client: client, holds: Set(held), freeMemoryBytes: stay?.freeMemoryBytes,
      rates: stay?.rates ?? DeviceRates(),
      telemetry: history.telemetry, observed: history.observed, exampleCount: history.exampleCount,
      allowedLevels: Set(levels.indices.filter { exposure.allows($0, for: client) }),
      exposure: exposure.exposure(of: client), delivered: history.delivered, failed: history.failed)
    state.missed = history.missed
    state.late = history.late.times
    state.lastLate = history.late.lastRound
    (state.presences, state.firstRound) = (history.presences, history.firstRound)
    (state.lastAsked, state.lastDelivered) = (history.lastAsked, history.lastDelivered)
    state.loss = history.loss
    if configuration.rules.buffer != nil { state.place = history.place }
    return state
  }

  /// Takes a plan: in one go, so that no client can say in between what it holds.
  private func take(_ plan: RoundPlan, for state: FederationState) throws {
    var plan = plan
    try checkLevels(of: &plan, for: state)
    process(.planMade(plan, round: state.round, attempt: state.attempt))
  }

  private func checkLevels(of plan: inout RoundPlan, for state: FederationState) throws {
    for (client, assignment) in plan.assignments where assignment.participates {
      guard let level = assignment.emulatorLevel, levels.indices.contains(level) else {
        let level = assignment.emulatorLevel.map { "the emulator level \($0)" } ?? "no emulator"
        throw PeatError.usage(
          "The planner gives '\(client)' \(level); this run has levels 0 to \(levels.count - 1).")
      }
      guard exposure.allows(level, for: client) else {
        let seen = state.clients.first { $0.client == client }
        // The planner could not know.
        if seen?.allowedLevels.contains(level) == true {
          plan.assignments[client] = .leftOut(
            because:
              "it said, while the round was planned, that it holds another level: with level \(level) it would pass maxExposure"
          )
          continue
        }
        throw PeatError.usage(
          "The planner gives '\(client)' the emulator level \(level), with which it would have seen "
            + "\(exposure.exposure(of: client, with: level)) of the middle; maxExposure is \(exposure.limit)."
        )
      }
    }
  }

  func noteClaim(of client: ClientID, to level: Int) { exposure.noteClaim(level, for: client) }

  func noteExposure(of client: ClientID, to level: Int) { exposure.note(level, for: client) }

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

  private func startServerPart(_ round: Int, _ attempt: Int) {
    guard let server, server.weight > 0, serverPart?.round != round else { return }
    let task = task(for: .server, round, attempt, .init(), level: 0, Package(files: []))
    serverPart = ServerPart(
      round: round,
      work: Task { [sent] in
        do {
          let trained = try await server.trainer.train(task, adapter: sent)
          endServerPart(round, .success(trained.tensors))
        } catch { endServerPart(round, .failure(error)) }
      })
  }

  /// What a client that waits is to be told of the round that goes on without it: once for each attempt at it.
  func noticeToTell(_ client: ClientID) -> LeftOut? {
    guard let current, let stay = stays[client],
      stay.toldOf.map({ $0 != (current.round, current.attempt) }) ?? true
    else { return nil }
    let assignment = current.plan.assignments[client]
    guard assignment?.participates != true else { return nil }
    stays[client]?.toldOf = (current.round, current.attempt)
    return LeftOut(
      round: current.round,
      reason: assignment == nil ? "it came after the round was planned" : assignment?.reason)
  }

  private func task(
    for client: ClientID, _ round: Int, _ attempt: Int, _ assignment: RoundPlan.Assignment,
    level: Int, _ package: Package
  ) -> TrainingTask {
    let left =
      configuration.rules.buffer == nil
      ? configuration.rules.deadline - roundWatch.elapsed : configuration.rules.deadline
    var task = TrainingTask(
      run: configuration.run, round: round, attempt: attempt, client: client,
      level: level, package: package, refresh: assignment.refresh,
      adapter: base.broadcast, baseDigest: base.policy.baseDigest, method: configuration.method,
      rank: configuration.rank, alpha: configuration.alpha, settings: configuration.settings,
      seed: TrainingTask.seed(
        run: configuration.seed, round: round, client: client,
        number: configuration.rules.buffer == nil ? 1 : attempt),
      deadlineSeconds: max(left, .zero).inSeconds, updateSizeLimit: updateSizeLimit)
    task.follow(assignment)
    if let rank = configuration.rank, let limit = stays[client]?.rankLimit, limit < rank {
      task.trainedRank = min(task.trainedRank ?? rank, limit)
    }
    task.components = configuration.components
    let factor = configuration.learningRateFactor(round)
    if factor != 1 { task.learningRateScale = factor * (task.learningRateScale ?? 1) }
    if assignment.uploadBits == nil { (task.uploadBits, task.upload) = configuration.upload.wire }
    if strategy.keepsFactors { task.countedRound = histories[client]?.countedRound ?? 0 }
    return task
  }

  private func send(
    _ client: ClientID, _ round: Int, _ attempt: Int, _ assignment: RoundPlan.Assignment
  ) {
    guard let level = assignment.emulatorLevel else { return }
    // Counted before the first byte is sent.
    noteExposure(of: client, to: level)
    histories[client, default: History()].level = level
    histories[client]?.lastAsked = round
    beginTrip(of: client, round, attempt)
    withdrawn[client] = withdrawn[client].flatMap { $0.round < round ? $0 : nil }
    tasks[client] = task(for: client, round, attempt, assignment, level: level, levels[level])
    wake(of: client)
  }

  /// It was away, and is at its task again.
  private func resume(_ client: ClientID, _ round: Int) {
    guard let task = withdrawn[client], task.round == round else { return }
    withdrawn[client] = nil
    beginTrip(of: client, round, task.attempt)
    tasks[client] = task
    wake(of: client)
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

  /// Before the next round is planned, as nobody would train on them after the last one: once for each round.
  private func renewLevels(before round: Int, _ clients: [ClientID]) async throws {
    guard let last = rounds.last, last.round == round - 1, renewedAfter < last.round else { return }
    let inUse = Set(clients.compactMap { histories[$0]?.level })
    let renewed = try await onRenewal(last.round, adapter, inUse)
    renewedAfter = last.round
    for (level, renewed) in renewed.sorted(by: { $0.key < $1.key }) {
      try renew(level, renewed, after: last.round)
    }
    guard !renewed.isEmpty else { return }
    try await rememberPlanner()
    keepRenewal()
  }

  private func renew(_ level: Int, _ renewed: RenewedLevel, after round: Int) throws {
    guard levels.indices.contains(level) else {
      throw PeatError(.internalError, "There is no level \(level) to give anew.")
    }
    try renewed.package.validate(sizeLimit: .max)
    guard renewed.package.digest != levels[level].digest else { return }
    levels[level] = renewed.package
    exposure.renew(level, contents: renewed.contents)
    rounds[rounds.count - 1].renewedLevels.append(level)
    onProgress(.levelRenewed(level, round: round + 1, bytes: renewed.package.bytes))
  }

  private func close(_ record: RoundRecord) {
    var record = completed(record)
    (record.baseDigest, record.adapterDigest) = (installed.base, installed.adapter)
    record.aggregationError = aggregationError
    record.aggregation = aggregationNotes
    for outcome in record.outcomes where outcome.result == .delivered {
      // Of one that is stale, the client was told when it arrived.
      if outcome.staleness == 0 { noteCounted(outcome.client, record.round) }
      drop(outcome.key(in: record))
    }
    current = nil
    rounds.append(record)
    counted = adapter
    countedState = strategyState
    onProgress(.roundEnded(record))
  }

  /// The record with what the machine does not know: traffic, telemetry, time.
  private func completed(_ record: RoundRecord) -> RoundRecord {
    var record = record
    record.seconds = roundWatch.seconds
    if let part = serverPart, part.round == record.round {
      record.serverWeight = part.isMixedIn ? server?.weight ?? 0 : 0
      record.serverFailure = part.failure.map(failureReason)
    }
    for i in record.outcomes.indices {
      let client = record.outcomes[i].client
      if record.outcomes[i].result == .delivered,
        let update = accepted[record.outcomes[i].key(in: record)]
      {
        complete(&record.outcomes[i], of: update)
      } else {
        completeFailure(&record.outcomes[i], in: record)
      }
      guard configuration.rules.buffer == nil, record.outcomes[i].staleness == 0 else { continue }
      let history = histories[client, default: History()]
      let traffic = history.traffic - history.trafficBeforeRound
      record.outcomes[i].bytesDown = traffic.bytesDown
      record.outcomes[i].bytesUp = traffic.bytesUp
    }
    return record
  }

  private func complete(_ outcome: inout ClientOutcome, of update: Accepted) {
    let client = outcome.client
    outcome.emulatorLevel = update.level
    outcome.exampleCount = update.header.exampleCount
    outcome.metrics = update.header.metrics
    outcome.telemetry = update.header.telemetry
    outcome.observed = update.observed
    outcome.signature = update.signature
    outcome.bytesDown = update.observed?.bytesDown ?? 0
    outcome.bytesUp = update.observed?.bytesUp ?? 0
    histories[client, default: History()].delivered += 1
    histories[client]?.late.noteDelivery()
    histories[client]?.missed = nil
  }

  private func completeFailure(_ outcome: inout ClientOutcome, in record: RoundRecord) {
    let client = outcome.client
    let missed = missedTrip(of: client, in: record)
    outcome.observed = missed.inAttempt
    // Others were quicker: that is no fault.
    if outcome.result == .surplus { return }
    histories[client, default: History()].failed += 1
    histories[client]?.missed = missed.whole
    histories[client]?.late.note(
      outcome.result, in: record.round, missed.inAttempt,
      deadline: configuration.rules.deadline)
  }

  private func finish(_ ending: RunEnding) {
    logger.info("the run ends", metadata: ["ending": "\(ending)"])
    seconds = earlierSeconds + watch.seconds
    switch ending {
    // Whoever has not come back since this coordinator was started is told too.
    case .completed, .stopped: unaware.formUnion(machine.awaited)
    default: break
    }
    onProgress(.runEnded(ending))
    for timer in timers.values { timer.cancel() }
    timers = [:]
    tasks = [:]
    withdrawn = [:]
    current = nil
    serverPart?.work.cancel()
    for job in jobs { job.cancel() }
    wakeAll()
    completion?.resume()
    completion = nil
  }

  /// Ends all that is under way, and tells nobody: what is kept is gone on with later.
  func stopWaiting() {
    for timer in timers.values { timer.cancel() }
    timers = [:]
    serverPart?.work.cancel()
    for job in jobs { job.cancel() }
    wakeAll()
    completion?.resume()
    completion = nil
  }

  private func sayGoodbye() async {
    let timeout = Task { [clock, configuration] in
      // Whom it lost is given time to come back.
      try? await clock.sleep(for: configuration.farewell * (unaware.isEmpty ? 1 : 3))
    }
    let patience = Task {
      await timeout.value
      expirePatience()
    }
    while !patienceExpired, !unaware.isEmpty || stays.contains(where: hasToHear) {
      await waitForNews(timeout: nil)
    }
    timeout.cancel()
    await patience.value
    if runStore == nil || machine.ending == .completed { spool.removeAll() }
  }

  /// Whether a client is there, also one between two calls, and does not know yet that the run is over.
  private func hasToHear(_ client: ClientID, _ stay: Stay) -> Bool {
    !stay.heardTheEnd && (stay.attendances > 0 || machine.present.contains(client))
  }

  private var patienceExpired = false

  private func expirePatience() {
    patienceExpired = true
    wakeAll()
  }

  /// Does long work beside the actor; it is cancelled when the run ends.
  func work(_ body: @escaping @Sendable (Coordinator) async -> Void) {
    jobs.append(Task { await body(self) })
    if jobs.count > 8 { jobs.removeFirst(jobs.count - 8) }
  }

  func fail(_ error: any Error, _ event: (String) -> RoundEvent) {
    if machine.ending == nil { failure = error }
    process(event(failureReason(error)))
  }

  // MARK: Waiting

  /// Wakes every call that waits for something to happen.
  func wakeAll() { waiters.wakeAll() }

  /// Wakes the calls that wait for something to happen to this client; `nil`: the coordinator's own.
  func wake(of client: ClientID?) { waiters.wake(of: client) }

  /// Returns when something happened, the time is over or the task was cancelled; the caller looks again.
  ///
  /// - Parameter client: whose affairs are waited for, beside what concerns all; `nil`: the coordinator's own.
  func waitForNews(of client: ClientID? = nil, timeout: Duration?) async {
    let number = waiters.number()
    if let timeout { set(.call(number), after: timeout) }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled {
          continuation.resume()
        } else {
          waiters.add(number, for: client, continuation)
        }
      }
    } onCancel: {
      Task { await self.wake(number) }
    }
  }

  func wake(_ number: Int) { waiters.wake(number) }
}
