import Foundation
import PeatTensor

/// From a round's updates to what the next one begins with.
extension Coordinator {
  /// The next adapter, as it is and as clients will read it.
  private struct Next {
    var adapter: NamedTensors
    var digest: Digest
    var bytes: Data
    var sent: NamedTensors
    var relativeError: Double
    var state: StrategyState
    var notes: [String: Double]
    /// Where the run is kept.
    var kept: KeptAdapter?
  }

  static func policy(
    _ configuration: CoordinatorConfiguration, round: Int, _ adapter: NamedTensors,
    _ strategy: any AggregationStrategy, _ sizeLimit: Int
  ) -> UpdatePolicy {
    var policy = UpdatePolicy(
      run: configuration.run, round: round, base: strategy.trained(of: adapter),
      baseDigest: adapter.digest, method: configuration.method, rank: configuration.rank,
      alpha: configuration.alpha, sizeLimit: sizeLimit)
    policy.exampleLimit = configuration.exampleLimit
    policy.normLimit = configuration.updateNormLimit
    if configuration.components == .random { policy.componentSeed = configuration.seed }
    return policy
  }

  /// Forgets the updates to a round's tasks. Their clients are asked again, and what they offer then is news, were it the same.
  func discardUpdates(of round: Int) {
    for key in accepted.keys where key.round == round {
      drop(key)
      histories[key.client]?.lastTaken = nil
    }
  }

  /// Forgets an update that was taken. Its file goes once that is kept.
  func drop(_ key: UpdateKey) {
    if let taken = accepted.removeValue(forKey: key) { discarded.append(taken.payload) }
  }

  /// What a round's tasks begin with; `nil` where no update to them is taken any more.
  func base(of round: Int) -> Base? {
    round == base.policy.round ? base : earlierBases[round]
  }

  func aggregate(_ round: Int, _ updates: [BufferedUpdate]) {
    tell(.aggregating(round: round, clients: updates.map(\.client)))
    let taken = updates.compactMap { update -> Taken? in
      guard let known = accepted[update.id], let policy = base(of: update.round)?.policy else {
        return nil
      }
      return Taken(update: update, header: known.header, payload: known.payload, policy: policy)
    }
    work { coordinator in
      do {
        var next = try await coordinator.combine(taken, round)
        next.kept = try await coordinator.put(next.adapter, next.state)
        try await coordinator.install(next, after: round)
        await coordinator.process(.aggregated(round: round))
      } catch { await coordinator.fail(error) { .aggregationFailed(reason: $0) } }
    }
  }

  /// An update that is to be aggregated, and what it was made of.
  private struct Taken: Sendable {
    var update: BufferedUpdate
    var header: UpdateHeader
    var payload: BlobReference
    var policy: UpdatePolicy
  }

  /// An update's tensors, as if it had begun with the adapter of this round.
  private nonisolated func read(_ taken: Taken, from current: UpdatePolicy) throws -> ClientUpdate {
    let tensors = try taken.policy.decode(spool.file(of: taken.payload), taken.header)
    var update = ClientUpdate(header: taken.header, tensors: tensors)
    guard taken.update.staleness > 0, let rule = configuration.rules.staleness else {
      return update
    }
    let discount = rule.discount(taken.update.staleness)
    let isBuffered = configuration.rules.buffer != nil
    update.tensors = tensors.moved(
      from: taken.policy.base, to: current.base, share: isBuffered ? discount : 1)
    if !isBuffered { update.discount = discount }
    return update
  }

  /// Reads the updates one after the other, in the order of the clients' names, those of earlier rounds last. Not on the actor: clients go on
  /// talking to the coordinator meanwhile.
  private nonisolated func combine(_ updates: [Taken], _ round: Int) async throws -> Next {
    let (adapter, current) = await (adapter, sent)
    let policy = await base.policy
    let state = await strategyState
    var accumulator = try strategy.makeAccumulator(
      into: current,
      AggregationRound(
        state: state, rateFactor: configuration.serverRateFactor(round),
        scales: configuration.scales, folder: spool.folder))
    for taken in updates {
      try Task.checkCancellation()
      try accumulator.add(try read(taken, from: policy))
    }
    let own = try await serversOwn(round)
    if updates.isEmpty {
      // Nobody was asked: for the clients stands the adapter they would have begun with.
      guard own != nil else { return try next(adapter, state, [:], after: round) { _ in 0 } }
      try accumulator.add(ClientUpdate(strategy.trained(of: current), exampleCount: 1))
    }
    if let own, let server {
      do {
        try accumulator.add(server: own, share: server.weight)
        await noteServerPart(round)
      } catch { await goOnWithoutServer(round, error) }
    }
    if configuration.download.isLossy {
      try accumulator.restore(strategy.broadcast(adapter, state))
    }
    let made = try accumulator.next()
    return try next(made, accumulator.state, accumulator.notes, after: round) {
      try accumulator.relativeError(of: $0)
    }
  }

  /// - Parameter relativeError: of what clients will read.
  private nonisolated func next(
    _ adapter: NamedTensors, _ state: StrategyState, _ notes: [String: Double], after round: Int,
    relativeError: (NamedTensors) throws -> Double
  ) throws -> Next {
    guard adapter.values.allSatisfy(\.isFinite) else {
      throw PeatError.badData("The aggregated adapter holds values that are not finite.")
    }
    let (bytes, sent) = try Self.broadcast(
      strategy.broadcast(adapter, state), configuration, after: round)
    return Next(
      adapter: adapter, digest: adapter.digest, bytes: bytes, sent: sent,
      relativeError: try relativeError(sent),
      state: state, notes: notes)
  }

  /// What clients are sent after a round, 0 before the first, as bytes and as they read it.
  static func broadcast(
    _ whole: NamedTensors, _ configuration: CoordinatorConfiguration, after round: Int
  ) throws -> (data: Data, read: NamedTensors) {
    var random = SeededRandom(seed: configuration.seed, "broadcast after round \(round)")
    return try BroadcastAdapter.encode(
      whole, as: configuration.download,
      seed: round == 0 ? configuration.seed : random.next())
  }

  private func install(_ next: Next, after round: Int) async throws {
    let digest = try await store.put(next.bytes)
    earlierBases[round] = base
    installed = (base.policy.baseDigest, next.digest)
    adapter = next.adapter
    sent = next.sent
    strategyState = next.state
    keptAdapter = next.kept ?? keptAdapter
    aggregationError = next.relativeError
    aggregationNotes = next.notes
    base = Base(
      broadcast: BlobReference(digest: digest, bytes: next.bytes.count),
      policy: Self.policy(configuration, round: round + 1, sent, strategy, updateSizeLimit))
    try await dropBases(before: round + 1 - (configuration.rules.staleness?.maximum ?? 0))
  }

  /// Forgets the adapters of rounds whose updates are not taken any more.
  private func dropBases(before round: Int) async throws {
    let old = earlierBases.filter { $0.key < round }
    for round in old.keys { earlierBases[round] = nil }
    let kept = Set(earlierBases.values.map(\.broadcast.digest) + [base.broadcast.digest])
    for digest in Set(old.values.map(\.broadcast.digest)).subtracting(kept) {
      try await store.remove(digest)
    }
  }
}

extension ClientOutcome {
  /// The update that it is of, where one was taken.
  func key(in record: RoundRecord) -> Coordinator.UpdateKey {
    .init(client: client, round: record.round - staleness, number: number)
  }
}

extension NamedTensors {
  /// What changed since one adapter, or a share of it, added to another: `to + share · (self − from)`.
  ///
  /// - Parameters:
  ///   - from, to: have the same tensors of the same shapes.
  func moved(from: NamedTensors, to: NamedTensors, share: Double) -> NamedTensors {
    reduce(into: [:]) { result, entry in
      guard let start = from[entry.key]?.scalars, let end = to[entry.key]?.scalars else { return }
      let values = entry.value.scalars
      result[entry.key] = Tensor(
        values.indices.map {
          Float(Double(end[$0]) + share * (Double(values[$0]) - Double(start[$0])))
        }, shape: entry.value.shape)
    }
  }
}
