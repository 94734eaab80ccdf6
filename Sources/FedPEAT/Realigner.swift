import Foundation

/// Makes emulators anew while a run goes on: when the adapter has moved so far that a level's gradients no longer point where the full model's do, its
/// middle is distilled again with the adapter in place: of levels that are in use. Others wait until somebody trains on them.
///
/// After Wu et al. 2024, *FedBiOT*, <https://arxiv.org/abs/2406.17706>: what comes out of the middle is matched, and what is predicted, both with the adapter in the ends of both
/// models (weights 30 and 1, ours). They do it before every round; here drift decides. What an attack on the new level would leave the owner nobody knows.
actor Realigner {
  /// A level that was made anew. Fidelities are the cosines of the adapter's gradients through it and through the full model.
  struct Renewal: Sendable {
    var level: RenewedLevel
    var fidelity: Double
  }

  private let configuration: RunConfiguration
  private let owner: ModelOwner
  private let costs: EmulatorCosts
  private let folder: URL
  private let onEvent: @Sendable (FederatedTuning.Event) -> Void
  /// The levels as they are now.
  private(set) var emulators: [Emulator]
  /// What each was worth when the run began: the bound is a share of that, however often it was made anew.
  private var worth: [Double] = []
  /// What all were worth after a round, where that was measured.
  private var measured: (round: Int, fidelities: [Double])?
  private var data: TokenDataset?
  /// Of the text's bytes.
  private var text: Digest?
  private var count = 0
  /// What results are to say of levels that were made anew.
  private(set) var warnings: [String] = []

  init(
    _ configuration: RunConfiguration, _ material: RunMaterial, owner: ModelOwner, folder: URL,
    onEvent: @escaping @Sendable (FederatedTuning.Event) -> Void
  ) {
    self.configuration = configuration
    self.owner = owner
    costs = material.costs
    emulators = material.emulators
    self.folder = folder
    self.onEvent = onEvent
  }

  /// Goes on with levels that were made anew before the coordinator was started again.
  ///
  /// - Parameters:
  ///   - packages: the levels as they came.
  ///   - kept: as they were last.
  func restore(
    _ packages: [Package], _ kept: KeptLevels, _ rounds: [RoundRecord], from store: FolderBlobStore
  ) throws {
    for (level, package) in kept.packages.enumerated() where package != packages[level] {
      let place = folder.appendingPathComponent("level-\(level)-kept")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
      for file in package.files {
        guard FileManager.default.fileExists(atPath: store.url(of: file.digest).path) else {
          throw PeatError.badData(
            "Emulator \(level), which was made anew during the run, can't be read any more: '\(store.url(of: file.digest).path)' is missing or damaged. Without it the run can't go on; put it back, or begin anew (--anew)."
          )
        }
        try FileManager.default.linkItem(
          at: store.url(of: file.digest), to: place.appendingPathComponent(file.name))
      }
      emulators[level] = try Emulator(folder: place)
    }
    for record in rounds {
      count += record.renewedLevels.count
      for level in record.renewedLevels { note(level) }
    }
  }

  /// What is read and measured before the first round.
  func prepare(_ adapter: Adapter) async throws {
    guard let file = configuration.realignData else { return }
    guard owner.hasEvaluation else {
      throw PeatError.usage(
        "Emulators are realigned (realignData) when their fidelity has dropped, which needs a text to measure it on: evaluationData."
      )
    }
    let url = URL(fileURLWithPath: file)
    text = try Digest(ofDataAt: url)
    data = try TokenDataset.make(
      try DocumentReader.read(url), reader: owner.reader,
      for: owner.model.configuration,
      layout: .stream, context: configuration.context, addBegin: configuration.bos,
      seed: configuration.seed)
    worth = try await fidelities(of: Array(emulators.indices), with: adapter)
  }

  /// What all levels are worth after a round, measured here unless that was done for the planner; `nil` where nobody wants to know.
  func take(
    _ known: [Double]?, _ adapter: Adapter, after round: Int
  ) async throws -> [Double]? {
    measured = nil
    guard data != nil || known != nil else { return nil }
    let fidelities: [Double]
    if let known {
      fidelities = known
    } else {
      fidelities = try await self.fidelities(of: Array(emulators.indices), with: adapter)
    }
    measured = (round, fidelities)
    return fidelities
  }

  /// Distils again what has lost its fidelity; returns the levels that are now others.
  ///
  /// - Parameter inUse: the levels that are looked at.
  func renew(
    _ adapter: Adapter, _ inUse: Set<Int>, after round: Int, into store: some BlobStore
  ) async throws -> [Int: Renewal] {
    guard let data, let text else { return [:] }
    var result: [Int: Renewal] = [:]
    let levels = inUse.sorted()
    let now: [Double]
    if let measured, measured.round == round {
      now = levels.map { measured.fidelities[$0] }
    } else {
      now = try await fidelities(of: levels, with: adapter)
    }
    for (level, now) in zip(levels, now) {
      let bound = configuration.realignBelow * worth[level]
      onEvent(.fidelity(level: level, now: now, made: worth[level], bound: bound))
      guard now < bound else { continue }
      let old = emulators[level]
      let settings = settings(count)
      onEvent(.realigning(level: level))
      var (fresh, loss) = try await owner.onThread {
        try $0.realigned(old, with: adapter, data: data, settings: settings)
      }
      let made = fresh
      let value = try await owner.onThread { try $0.fidelities(of: [made], with: adapter)[0] }
      // One that hardly makes good what was lost is not worth sending.
      guard value - now > 0.25 * (worth[level] - now) else {
        onEvent(.realignedInVain(level: level, before: now, after: value))
        continue
      }
      count += 1
      fresh.realigned = RealignmentFacts(
        round: round, settings: settings, finalLoss: loss, text: text, fidelityBefore: now,
        fidelityAfter: value)
      let place = folder.appendingPathComponent("level-\(level)-\(count)")
      try fresh.write(
        to: place, source: owner.checkpoint,
        facts: try fresh.facts(source: owner.checkpoint, full: owner.model))
      result[level] = Renewal(
        level: RenewedLevel(
          package: try await Package(folder: place, store: store),
          contents: costs.contents(of: fresh)), fidelity: value)
      try FileManager.default.removeItem(at: place)
      emulators[level] = fresh
      onEvent(.realigned(level: level, before: now, after: value))
      warn(level)
    }
    return result
  }

  /// Says once of a level that what was measured of it was of another copy.
  private func warn(_ level: Int) {
    if let text = note(level) { onEvent(.warning(text)) }
  }

  /// Takes down what results are to say of a level that was made anew; `nil` where it was before.
  @discardableResult
  private func note(_ level: Int) -> String? {
    let text =
      "emulator \(level) was distilled again: the owner's margin on the new copy was not measured ('fedpeat attack' measures an emulator's folder)"
    guard !warnings.contains(text) else { return nil }
    warnings.append(text)
    return text
  }

  private func fidelities(of levels: [Int], with adapter: Adapter) async throws -> [Double] {
    let chosen = levels.map { emulators[$0] }
    return try await owner.onThread { try $0.fidelities(of: chosen, with: adapter) }
  }

  private func settings(_ number: Int) -> DistillationSettings {
    var settings = DistillationSettings()
    settings.steps = configuration.realignSteps
    settings.batch = configuration.batch
    settings.context = configuration.context
    settings.learningRate = configuration.realignRate
    settings.lossWeight = 0
    settings.divergenceWeight = 1
    settings.checks = 0
    settings.seed = configuration.seed &+ UInt64(number)
    settings.threads = configuration.threadCount
    return settings
  }
}

extension ModelOwner {
  /// An emulator whose middle was distilled with an adapter in the ends of both models, and the mean objective of the last steps.
  func realigned(
    _ emulator: Emulator, with adapter: Adapter, data: TokenDataset,
    settings: DistillationSettings
  ) throws -> (emulator: Emulator, finalLoss: Double) {
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
    return (fresh, outcome.finalLoss)
  }
}
