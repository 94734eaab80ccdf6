import Foundation
import PeatTensor

/// From a round's updates to what the next one begins with.
extension Coordinator {
  /// The next adapter, as it is and as clients will read it.
  private struct Next {
    var adapter: NamedTensors
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
    return policy
  }

  /// Forgets the updates of the round. Their files go once that is kept.
  func discardUpdates() {
    discarded += payloads.values
    accepted = [:]
    payloads = [:]
  }

  func aggregate(_ round: Int, _ clients: [ClientID]) {
    tell(.aggregating(round: round, clients: clients))
    let updates = clients.compactMap { client in
      accepted[client].flatMap { header in payloads[client].map { (header, $0) } }
    }
    work { coordinator in
      do {
        var next = try await coordinator.combine(updates, round)
        next.kept = try await coordinator.put(next.adapter, next.state)
        try await coordinator.install(next, after: round)
        await coordinator.process(.aggregated(round: round))
      } catch { await coordinator.fail(error) { .aggregationFailed(reason: $0) } }
    }
  }

  /// Reads the updates one after the other, in the order of the clients' names. Not on the actor: clients go on
  /// talking to the coordinator meanwhile.
  private nonisolated func combine(
    _ updates: [(UpdateHeader, BlobReference)], _ round: Int
  ) async throws -> Next {
    let (adapter, current) = await (adapter, sent)
    let policy = await policy
    let state = await strategyState
    var accumulator = try strategy.makeAccumulator(
      into: current,
      AggregationRound(
        state: state, rateFactor: configuration.serverRateFactor(round), folder: spool.folder))
    for (header, payload) in updates {
      try Task.checkCancellation()
      let tensors = try policy.decode(spool.file(of: payload), header)
      try accumulator.add(ClientUpdate(header: header, tensors: tensors))
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
      adapter: adapter, bytes: bytes, sent: sent, relativeError: try relativeError(sent),
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
    let old = broadcast.digest
    adapter = next.adapter
    sent = next.sent
    strategyState = next.state
    keptAdapter = next.kept ?? keptAdapter
    aggregationError = next.relativeError
    aggregationNotes = next.notes
    broadcast = BlobReference(digest: digest, bytes: next.bytes.count)
    policy = Self.policy(configuration, round: round + 1, sent, strategy, updateSizeLimit)
    if old != digest { try await store.remove(old) }
  }
}
