import Foundation

/// Makes emulators anew while a run goes on: when the adapter has moved so far that a level's gradients no longer point where the full model's do, its
/// middle is distilled again with the adapter in place.
///
/// After Wu et al. 2024, *FedBiOT*, <https://arxiv.org/abs/2406.17706>, who do it before every round; here drift decides.
actor Realigner {
  /// Fidelities are the cosines of the adapter's gradients through a level and through the full model.
  struct Renewal: Sendable {
    var level: Int
    var before: Double
    var after: Double
  }

  private let configuration: RunConfiguration
  private let owner: ModelOwner
  private let costs: EmulatorCosts
  private let folder: URL
  private let onRenewal: @Sendable (Renewal) -> Void
  /// The levels as they are now.
  private(set) var emulators: [Emulator]
  /// What each was worth when it was made.
  private var worth: [Double] = []
  private var data: TokenDataset?
  private var count = 0

  init(
    _ configuration: RunConfiguration, _ material: RunMaterial, owner: ModelOwner, folder: URL,
    onRenewal: @escaping @Sendable (Renewal) -> Void
  ) {
    self.configuration = configuration
    self.owner = owner
    costs = material.costs
    emulators = material.emulators
    self.folder = folder
    self.onRenewal = onRenewal
  }

  /// What is read and measured before the first round.
  func prepare(_ adapter: Adapter) async throws {
    guard let file = configuration.realignData else { return }
    guard owner.hasEvaluation else {
      throw PeatError.usage(
        "Emulators are realigned (realignData) when their fidelity has dropped, which needs a text to measure it on: evaluationData."
      )
    }
    data = try TokenDataset.make(
      try DocumentReader.read(URL(fileURLWithPath: file)), tokenizer: owner.tokenizer,
      layout: .stream, context: configuration.context, addBegin: configuration.bos)
    worth = try await fidelities(with: adapter)
  }

  /// Distils again what has lost its fidelity; returns the levels that are now others.
  func renew(_ adapter: Adapter, into store: some BlobStore) async throws -> [Int: RenewedLevel] {
    guard let data else { return [:] }
    var result: [Int: RenewedLevel] = [:]
    let now = try await fidelities(with: adapter)
    for level in emulators.indices where now[level] < configuration.realignBelow * worth[level] {
      let old = emulators[level]
      let settings = settings(count)
      let fresh = try await owner.onThread {
        try $0.realigned(old, with: adapter, data: data, settings: settings)
      }
      let value = try await owner.onThread { try $0.fidelities(of: [fresh], with: adapter)[0] }
      // One that hardly makes good what was lost is not worth sending.
      guard value - now[level] > 0.25 * (worth[level] - now[level]) else { continue }
      count += 1
      let place = folder.appendingPathComponent("level-\(level)-\(count)")
      try fresh.write(
        to: place, source: owner.checkpoint,
        facts: try fresh.facts(source: owner.checkpoint, full: owner.model))
      result[level] = RenewedLevel(
        package: try await Package(folder: place, store: store),
        contents: costs.contents(of: fresh))
      try FileManager.default.removeItem(at: place)
      emulators[level] = fresh
      worth[level] = value
      onRenewal(Renewal(level: level, before: now[level], after: value))
    }
    return result
  }

  private func fidelities(with adapter: Adapter) async throws -> [Double] {
    let emulators = emulators
    return try await owner.onThread { try $0.fidelities(of: emulators, with: adapter) }
  }

  private func settings(_ number: Int) -> DistillationSettings {
    var settings = DistillationSettings()
    settings.steps = configuration.realignSteps
    settings.batch = configuration.batch
    settings.context = configuration.context
    settings.learningRate = configuration.realignRate
    settings.lossWeight = 0
    settings.checks = 0
    settings.seed = configuration.seed &+ UInt64(number)
    settings.threads = configuration.threadCount
    return settings
  }
}

extension ModelOwner {
  /// An emulator whose middle was distilled with an adapter in the ends of both models.
  func realigned(
    _ emulator: Emulator, with adapter: Adapter, data: TokenDataset,
    settings: DistillationSettings
  ) throws -> Emulator {
    var fresh = try emulator.unpacked()
    let full = try model.sharingWeights()
    let (inFull, inFresh) = (
      try adapter.inject(into: full), try adapter.inject(into: fresh.model)
    )
    defer {
      inFull.remove()
      inFresh.remove()
    }
    let distillation = try Distillation(fresh, full: full, data: data, settings: settings)
    defer { distillation.trainer.finish() }
    let outcome = try distillation.run(shouldStop: { isToStop })
    guard outcome.isComplete else { throw CancellationError() }
    fresh.distillation = emulator.distillation
    try fresh.pack(CompressionCalibration(data, threads: settings.threads))
    return fresh
  }
}
