import Foundation

/// A client's texts where they are all here: what it tunes on, and what was held back of it.
public struct ClientTexts: Sendable {
  public var name: String
  public var training: [Document]
  public var heldOut: [Document]
}

extension ModelOwner {
  /// Measures plug-in on each client's own held-out texts: with the adapter of all, and with one that the client tuned on from there, on its own texts through the
  /// emulator. The model itself is not changed.
  ///
  /// - Throws: what is wrong with a client's texts, with its name.
  func perClient(
    _ clients: [ClientTexts], adapter: Adapter, through emulator: Emulator
  ) throws -> PersonalizationReport {
    var (global, personalized): ([String: Double], [String: Double]) = ([:], [:])
    for (number, client) in clients.enumerated() {
      if isToStop { throw CancellationError() }
      onEvent(.measuringClient(client.name, number: number + 1, of: clients.count))
      do {
        global[client.name] = try pluggedIn(adapter, on: client.heldOut)
        let own = try personal(adapter, client.training, through: emulator.model)
        personalized[client.name] = try pluggedIn(own, on: client.heldOut)
      } catch let error as PeatError where error.code != .interrupted {
        throw PeatError(error.code, "'\(client.name)': \(error.message)", cause: error)
      }
    }
    return try PersonalizationReport(
      global: global, personalized: personalized,
      higherIsBetter: configuration.metric.higherIsBetter)
  }

  private func pluggedIn(_ adapter: Adapter, on documents: [Document]) throws -> Double {
    let plugged = try PlugIn(adapter, into: model, digest: digest)
    defer { plugged.remove() }
    return try quality(of: model, on: documents)
  }

  /// The adapter, tuned on as a client does in a round.
  private func personal(
    _ adapter: Adapter, _ documents: [Document], through emulator: TransformerModel
  ) throws -> Adapter {
    let copy = try emulator.sharingWeights()
    let injected = try adapter.inject(into: copy)
    defer { injected.remove() }
    let tuning = try configuration.localTuning(method: adapter.method)
    var training = tuning.training
    training.steps = configuration.personalStepCount
    let trained = injected.parameters.filter {
      !(tuning.freezesDown && LowRankNames.layer(ofDown: $0.name) != nil)
    }
    let trainer = try Trainer(
      copy, parameters: trained.map(\.parameter), data: try dataset(documents),
      configuration: training)
    defer { trainer.finish() }
    let outcome = try trainer.run(shouldStop: { isToStop }, onStep: { _ in })
    guard outcome.isComplete else { throw CancellationError() }
    trainer.finish()
    var own = adapter
    own.state = injected.state
    return own
  }
}
