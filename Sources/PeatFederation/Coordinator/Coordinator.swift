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
    /// Calls of `attend` that are open now.
    var attendances = 0
    /// Rises when an attendance begins, so that a grace that began before it comes to nothing.
    var arrivals = 0
    var heardTheEnd = false
    var freeMemoryBytes: Int?
    var holds: Set<Digest>
    var rates = DeviceRates()
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
  /// What the strategy said of it beside that.
  var aggregationNotes: [String: Double] = [:]
  /// What the strategy remembers, after the round that gave `adapter`; and as of `counted`.
  var strategyState: StrategyState
  var countedState: StrategyState
  /// The adapter after the last round that counted: `adapter` may be of one that is still evaluated.
  var counted: NamedTensors
  /// The adapter of the current round as bytes in `store`, and what an update to it must be like.
  var broadcast: BlobReference
  var policy: UpdatePolicy
  var stays: [ClientID: Stay] = [:]
  var histories: [ClientID: History] = [:]
  var uploads: [ClientID: Upload] = [:]
  /// The parts in a round that are under way.
  var trips: [ClientID: Trip] = [:]
  /// Headers of the updates taken in this round.
  var accepted: [ClientID: UpdateHeader] = [:]
  /// Their tensors.
  var payloads: [ClientID: BlobReference] = [:]
  /// Of updates that are needed no more.
  var discarded: [BlobReference] = []
  /// Their signatures, where they are signed.
  var signatures: [ClientID: UpdateSignature] = [:]
  /// The tasks that clients are to do or are doing.
  private(set) var tasks: [ClientID: TrainingTask] = [:]
  /// The round that is under way.
  private var current: (round: Int, attempt: Int, plan: RoundPlan)?
  /// What was planned last.
  private var planned: (round: Int, attempt: Int)?

  private var timers: [RoundTimer: Task<Void, Never>] = [:]
  private var jobs: [Task<Void, Never>] = []
  var serverPart: ServerPart?
  private var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  private var waiterCount = 0
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
    try configuration.rules.validate()
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
    policy = Self.policy(configuration, round: 1, sent, strategy, updateSizeLimit)
    broadcast = BlobReference(digest: Digest(of: data), bytes: data.count)
    if try await restore() { return }
    try await store.put(data)
    try await keepStart()
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
    let report = self.report
    switch machine.ending {
    case .completed: return report
    case .cancelled: throw CancellationError()
    case .failed(let reason):
      let code = (failure as? PeatError)?.code ?? .unavailable
      throw PeatError(code, "The run '\(configuration.run)' ended early. \(reason)", cause: failure)
    case nil: throw PeatError(.internalError, "The run stopped without an ending.")
    }
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
    case .withdrawTask(let client, _):
      endTrip(of: client)
      tasks[client] = nil
    case .discardUpdates: discardUpdates()
    case .aggregate(let round, let clients): aggregate(round, clients)
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
    timers[timer] = Task { [clock] in
      guard (try? await clock.sleep(for: duration)) != nil else { return }
      process(.timerFired(timer))
    }
  }

  private func plan(_ round: Int, _ attempt: Int, _ clients: [ClientID]) {
    // Where too few could take part, nobody is left to rest.
    let isAgain = planned.map { $0 == (round, attempt) } ?? false
    planned = (round, attempt)
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
      levels: levels.enumerated().map { .init($0.offset, bytes: $0.element.bytes) },
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
    current = (round, attempt, plan)
    discardUpdates()
    signatures = [:]
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
    let left = configuration.rules.deadline - roundWatch.elapsed
    var task = TrainingTask(
      run: configuration.run, round: round, attempt: attempt, client: client,
      level: level, package: package, refresh: assignment.refresh,
      adapter: broadcast, baseDigest: policy.baseDigest, method: configuration.method,
      rank: configuration.rank, alpha: configuration.alpha, settings: configuration.settings,
      seed: TrainingTask.seed(run: configuration.seed, round: round, client: client),
      deadlineSeconds: max(left, .zero).inSeconds, updateSizeLimit: updateSizeLimit)
    task.follow(assignment)
    if let rank = configuration.rank, let limit = stays[client]?.rankLimit, limit < rank {
      task.trainedRank = min(task.trainedRank ?? rank, limit)
    }
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
    beginTrip(of: client, round, attempt)
    tasks[client] = task(for: client, round, attempt, assignment, level: level, levels[level])
    wakeAll()
  }

  private func evaluate(_ round: Int) {
    work { [adapter] coordinator in
      do {
        let metrics = try await coordinator.onRound(round, adapter)
        try await coordinator.rememberPlanner()
        await coordinator.process(.evaluated(round: round, metrics: metrics))
      } catch { await coordinator.fail(error) { .evaluationFailed(reason: $0) } }
    }
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
    record.aggregationError = aggregationError
    record.aggregation = aggregationNotes
    for outcome in record.outcomes where outcome.result == .delivered {
      histories[outcome.client]?.countedRound = record.round
    }
    current = nil
    rounds.append(record)
    counted = adapter
    countedState = strategyState
    discardUpdates()
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
      let history = histories[client, default: History()]
      let traffic = history.traffic - history.trafficBeforeRound
      record.outcomes[i].bytesDown = traffic.bytesDown
      record.outcomes[i].bytesUp = traffic.bytesUp
      if record.outcomes[i].result == .delivered, let header = accepted[client] {
        record.outcomes[i].exampleCount = header.exampleCount
        record.outcomes[i].metrics = header.metrics
        record.outcomes[i].telemetry = header.telemetry
        record.outcomes[i].observed = history.observed
        record.outcomes[i].signature = signatures[client]
        histories[client, default: History()].delivered += 1
        histories[client]?.late.noteDelivery()
        histories[client]?.missed = nil
      } else {
        let missed = missedTrip(of: client, in: record)
        record.outcomes[i].observed = missed.inAttempt
        histories[client, default: History()].failed += 1
        histories[client]?.missed = missed.whole
        histories[client]?.late.note(
          record.outcomes[i].result, in: record.round, missed.inAttempt,
          deadline: configuration.rules.deadline)
      }
    }
    return record
  }

  private func finish(_ ending: RunEnding) {
    logger.info("the run ends", metadata: ["ending": "\(ending)"])
    seconds = earlierSeconds + watch.seconds
    onProgress(.runEnded(ending))
    for timer in timers.values { timer.cancel() }
    timers = [:]
    tasks = [:]
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
    while !patienceExpired,
      !unaware.isEmpty
        || stays.values.contains(where: { !$0.heardTheEnd && $0.attendances > 0 })
    {
      await waitForNews(timeout: nil)
    }
    timeout.cancel()
    await patience.value
    if runStore == nil || machine.ending == .completed { spool.removeAll() }
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
  func wakeAll() {
    let all = waiters.values
    waiters = [:]
    for waiter in all { waiter.resume() }
  }

  /// Returns when something happened, the time is over or the task was cancelled; the caller looks again.
  func waitForNews(timeout: Duration?) async {
    waiterCount += 1
    let number = waiterCount
    let alarm = timeout.map { timeout in
      Task { [clock] in
        if (try? await clock.sleep(for: timeout)) != nil { wake(number) }
      }
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled { continuation.resume() } else { waiters[number] = continuation }
      }
    } onCancel: {
      Task { await self.wake(number) }
    }
    alarm?.cancel()
  }

  private func wake(_ number: Int) { waiters.removeValue(forKey: number)?.resume() }
}
