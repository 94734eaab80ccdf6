import Foundation
import PeatTensor

/// What must not be lost: each event is kept, with all that it changes, before anybody hears of it.
///
/// What the machine decides follows from its events alone, so they are kept, and from time to time the machine whole: however a round is made, an event takes a few hundred
/// bytes. Adapters and updates are files, named by their content.
extension Coordinator {
  /// So many events are kept before the machine is kept whole again.
  private static let eventsAtMost = 2000

  // MARK: Keeping

  /// Keeps an event and what the coordinator made of it. Where that can't be, the coordinator stops, as if it were killed.
  func keep(_ event: RoundEvent, _ actions: [RoundAction], _ before: RoundStateMachine) {
    if let changes = changes(by: event, actions, before), !commit(changes) { return }
    newlyTaken = nil
    if discarded.isEmpty { return }
    // Two clients may have sent the same.
    let needed = Set(accepted.values.map(\.payload.digest))
    for payload in discarded where !needed.contains(payload.digest) { spool.discard(payload) }
    discarded = []
  }

  private func changes(
    by event: RoundEvent, _ actions: [RoundAction], _ before: RoundStateMachine
  ) -> RunChanges? {
    guard runStore != nil else { return nil }
    var isJoining = false
    if case .clientJoined = event { isJoining = true }
    // Who joins may say that it has seen levels.
    guard !actions.isEmpty || isJoining || machine != before else { return nil }
    var changes = RunChanges()
    var clients = Set([event.client].compactMap { $0 })
    var (isWhole, isAll) = (keptEvents >= Self.eventsAtMost, false)
    for action in actions {
      switch action {
      case .sendTask(let client, _, _, _), .resumeTask(let client, _): clients.insert(client)
      case .beginRound: (changes.forgetsUpdates, isAll) = (true, true)
      case .discardUpdates: changes.forgetsUpdates = true
      case .record:
        changes.round = rounds.last.map { KeptRound(record: $0, adapter: keptAdapter) }
        (changes.forgetsUpdates, isAll, isWhole) = (true, true, true)
      case .recordFailedAttempt:
        changes.failedAttempt = failedAttempts.last
        (isAll, isWhole) = (true, true)
      case .finish: isAll = true
      default: break
      }
    }
    changes.isToSurvivePowerLoss = isAll
    if changes.forgetsUpdates {
      changes.updates = accepted.keys.compactMap(keptUpdate)
    } else if case .updateReceived = event, let newlyTaken {
      changes.updates = [keptUpdate(newlyTaken)].compactMap { $0 }
    }
    switch machine.ending {
    // An end that can be gone on from: the machine stays as it was before, unless an attempt was spent.
    case .cancelled?: break
    case .failed? where changes.failedAttempt == nil: break
    case nil where !isWhole: changes.event = event
    default: changes.machine = machine
    }
    for client in isAll ? Set(histories.keys).union(clients) : clients {
      changes.clients[client] = keptClient(client)
    }
    changes.planner = plannerMemory
    return changes
  }

  private func keptUpdate(_ key: UpdateKey) -> KeptUpdate? {
    accepted[key].map {
      KeptUpdate(
        header: $0.header, payload: $0.payload, signature: $0.signature, number: key.number,
        level: $0.level, observed: $0.observed, distance: $0.distance)
    }
  }

  private func keptClient(_ client: ClientID) -> KeptClient {
    KeptClient(history: histories[client] ?? History(), sights: exposure[client])
  }

  /// Keeps changes, with what goes with all of them. Returns whether that could be done.
  @discardableResult
  private func commit(_ changes: RunChanges) -> Bool {
    guard let runStore else { return true }
    var changes = changes
    changes.seconds = secondsSoFar
    changes.ending = machine.ending
    // Updates that were taken of earlier rounds can't be read without what they began with.
    let needed = configuration.rules.staleness.map { $0.maximum + 1 } ?? 1
    changes.keptAdapters = max(configuration.keptAdapters, needed)
    if changes.round != nil { changes.keptRounds = configuration.keptRounds(rounds) }
    do { try runStore.commit(changes) } catch {
      let reason = (error as? PeatError)?.message ?? "\(error)"
      keepingFailure = PeatError(
        (error as? PeatError)?.code ?? .inputOutput,
        "The run stops, as it can't be kept any more. \(reason) What was kept until now stays: mend it, and start the same command again.",
        cause: error)
      logger.error("the run can't be kept: \(reason)")
      stopWaiting()
      return false
    }
    if changes.planner != nil { plannerMemory = nil }
    if changes.machine != nil { keptEvents = 0 } else if changes.event != nil { keptEvents += 1 }
    if changes.round != nil, hasLeftovers, configuration.rules.staleness == nil,
      configuration.rules.buffer == nil
    {
      // What began to arrive before the restart belongs to a round that is over; where late updates count it may still be arriving.
      hasLeftovers = false
      spool.sweep(keeping: accepted.values.map(\.payload), incoming: false)
    }
    return true
  }

  /// Throws where the run can't be kept any more: clients try again, and find the coordinator that is started next.
  func checkKeeping() throws {
    guard let keepingFailure else { return }
    throw PeatError.unavailable("The coordinator had to stop. \(keepingFailure.message)")
  }

  /// Keeps an adapter and what the strategy remembers beside it as blobs, on the disk; `nil` where the run is not kept.
  nonisolated func put(
    _ adapter: NamedTensors, _ state: StrategyState
  ) async throws -> KeptAdapter? {
    guard let runStore else { return nil }
    func put(_ write: (URL) throws -> Void) async throws -> Digest {
      let file = runStore.folder.appendingPathComponent("new-\(UUID().uuidString).safetensors")
      defer { try? FileManager.default.removeItem(at: file) }
      try write(file)
      return try await runStore.blobs.put(contentsOf: file)
    }
    return KeptAdapter(
      adapter: try await put { try SafeTensors.write(adapter, to: $0) },
      state: try await put { try state.write(to: $0) })
  }

  /// Keeps the start of a new run.
  func keepStart() async throws {
    guard let start = try await put(adapter, strategyState) else { return }
    keptAdapter = start
    try await rememberPlanner()
    var changes = RunChanges()
    (changes.machine, changes.start, changes.planner) = (machine, start, plannerMemory)
    changes.isToSurvivePowerLoss = true
    commit(changes)
    if let keepingFailure { throw keepingFailure }
  }

  /// Takes what the planner remembers, to be kept with the next event.
  func rememberPlanner() async throws {
    guard runStore != nil, let planner = planner as? any RememberingPlanner else { return }
    plannerMemory = try await planner.memory()
  }

  /// Keeps that levels were made anew.
  func keepRenewal() {
    guard runStore != nil, keepingFailure == nil else { return }
    var changes = RunChanges()
    changes.levels = KeptLevels(
      packages: levels, exposure: exposure.levels, renewedAfter: renewedAfter)
    changes.round = rounds.last.map { KeptRound(record: $0, adapter: keptAdapter) }
    for client in histories.keys { changes.clients[client] = keptClient(client) }
    changes.planner = plannerMemory
    changes.isToSurvivePowerLoss = true
    commit(changes)
  }

  // MARK: Going on

  /// Goes on with what is kept of the run. Returns whether there is anything.
  func restore() async throws -> Bool {
    guard let runStore, let kept = try runStore.load() else { return false }
    let last = kept.lastMachine
    (adapter, strategyState) = try read(kept.last, like: adapter, from: runStore.blobs)
    (counted, countedState, keptAdapter) = (adapter, strategyState, kept.last)
    rounds = kept.rounds.map(\.record)
    failedAttempts = kept.failedAttempts.suffix(Self.rememberedAttempts)
    earlierSeconds = kept.seconds
    if let levels = kept.levels {
      guard levels.packages.count == self.levels.count else {
        throw PeatError.badData(
          "What is kept of the run has \(levels.packages.count) emulators; it has \(self.levels.count)."
        )
      }
      self.levels = levels.packages
      exposure.levels = levels.exposure
      renewedAfter = levels.renewedAfter
    }
    for (client, own) in kept.clients {
      histories[client] = own.history
      exposure[client] = own.sights
    }
    if let memory = kept.planner, let planner = planner as? any RememberingPlanner {
      try await planner.restore(memory, where: last.hasCarriedOut)
    }
    let round = rounds.last?.round ?? 0
    let data: Data
    (data, sent) = try Self.broadcast(
      strategy.broadcast(adapter, strategyState), configuration, after: round)
    base = Base(
      broadcast: BlobReference(digest: try await store.put(data), bytes: data.count),
      policy: Self.policy(configuration, round: round + 1, sent, strategy, updateSizeLimit))
    try await restoreBases(of: kept, before: round + 1, from: runStore.blobs)
    return try takeUp(last, kept.updates.filter { last.needs($0.key) })
  }

  /// What tasks of earlier rounds began with, whose updates may still be taken.
  private func restoreBases(
    of kept: KeptRun, before current: Int, from blobs: FolderBlobStore
  ) async throws {
    guard let staleness = configuration.rules.staleness else { return }
    for round in max(1, current - staleness.maximum)..<max(1, current) {
      let place =
        round == 1
        ? kept.start : kept.rounds.first { $0.record.round == round - 1 }?.adapter
      // Where it is kept no longer, updates to it are not taken.
      guard let place else { continue }
      let (adapter, state) = try read(place, like: self.adapter, from: blobs)
      let (data, sent) = try Self.broadcast(
        strategy.broadcast(adapter, state), configuration, after: round - 1)
      // A client that goes on with such a task may have to fetch it.
      if configuration.rules.buffer != nil { try await store.put(data) }
      earlierBases[round] = Base(
        broadcast: BlobReference(digest: Digest(of: data), bytes: data.count),
        policy: Self.policy(configuration, round: round, sent, strategy, updateSizeLimit))
    }
  }

  /// Takes up the round that was under way, with the updates that were taken of it.
  private func takeUp(_ last: RoundStateMachine, _ updates: [KeptUpdate]) throws -> Bool {
    var changes = RunChanges()
    var missing: Set<UpdateKey> = []
    for update in updates {
      let client = update.client
      guard spool.isWhole(update.payload) else {
        logger.warning("the update of '\(client)' is no longer whole; it is asked again")
        missing.insert(update.key)
        histories[client]?.lastTaken = nil
        changes.clients[client] = keptClient(client)
        continue
      }
      accepted[update.key] = Accepted(
        header: update.header, payload: update.payload, level: update.level,
        signature: update.signature, observed: update.observed, distance: update.distance)
      changes.updates.append(update)
    }
    spool.sweep(keeping: accepted.values.map(\.payload), incoming: true)
    hasLeftovers = true
    switch last.ending {
    case .completed?, .stopped?: unaware = last.present.union(last.awaited)
    default: break
    }
    machine = last.restored(configuration.rules, missing: missing)
    (changes.machine, changes.forgetsUpdates) = (machine, true)
    changes.isToSurvivePowerLoss = true
    commit(changes)
    if let keepingFailure { throw keepingFailure }
    return true
  }

  private func read(
    _ place: KeptAdapter?, like first: NamedTensors, from blobs: FolderBlobStore
  ) throws -> (NamedTensors, StrategyState) {
    guard let place else {
      throw PeatError.badData("The adapter that the run goes on from is not kept any more.")
    }
    let file = blobs.url(of: place.adapter)
    let state = blobs.url(of: place.state)
    for (file, digest) in [(file, place.adapter), (state, place.state)]
    where try FolderBlobStore.size(file) == nil || FolderBlobStore.digest(of: file) != digest {
      throw PeatError.badData(
        "'\(file.path)' is \(FolderBlobStore.size(file) == nil ? "missing" : "damaged: it is not what it was when it was written"). 'fedpeat runs rollback' goes back to a round whose files are whole."
      )
    }
    let tensors = try SafeTensorsFile(contentsOf: file).tensors().copied()
    guard tensors.canFollow(first) else {
      throw PeatError.badData(
        "The adapter that is kept of the run has other tensors than the run's. It is of another model or method."
      )
    }
    return (tensors, try StrategyState(contentsOf: state))
  }
}

extension RoundEvent {
  /// Whom it is about, where that is one client.
  fileprivate var client: ClientID? {
    switch self {
    case .clientJoined(let client, _), .clientLost(let client, _), .updateReceived(let client, _),
      .updateRefused(let client, _, _), .clientFailed(let client, _, _),
      .clientReady(let client):
      client
    default: nil
    }
  }
}
