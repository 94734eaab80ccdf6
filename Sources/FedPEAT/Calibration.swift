import Foundation
import Logging

/// Measures what the emulators of a run cost and are worth, for planners and simulated cells.
///
/// The parts are separate, so that a caller can measure a step in a process of its own and show progress.
public struct Calibration: Sendable {
  private let configuration: RunConfiguration
  private let data: ClientData
  private let owner: ModelOwner
  private let split: ModelSplit
  private let emulators: [Emulator]
  private let adapter: Adapter

  /// - Parameter configuration: the run's; its rounds are those that are made with each emulator.
  public init(_ configuration: RunConfiguration, data: ClientData) throws {
    var configuration = configuration
    configuration.planner = EveryonePlanner.name
    configuration.edge = nil
    configuration.out = nil
    configuration.targetPerplexity = nil
    configuration.fullFineTuning = false
    configuration.evaluateEvery = 1
    configuration.minimumClients = data.groups.count
    try configuration.validate()
    self.configuration = configuration
    self.data = data
    owner = try ModelOwner(
      configuration, evaluation: data.evaluation, pooled: nil, onEvent: { _ in })
    let owner = owner
    let split = try ModelSplit(
      bottom: configuration.bottom, top: configuration.top, of: owner.model.blocks.count)
    self.split = split
    emulators = try configuration.emulators.map {
      try EmulatorRecipe($0).makeEmulator(from: owner.model, split: split)
    }
    adapter = try Adapter(
      new: configuration.adapterMethod(), for: owner.model, blocks: split.ends,
      seed: configuration.seed, sourceDigest: owner.digest)
  }

  public var recipes: [String] { emulators.map(\.recipe.description) }
  public var middleBlocks: Int { split.middle.count }
  /// What the measurements are of.
  public var facts: EdgeCalibration {
    EmulatorCosts(configuration, owner, split).calibration(method: adapter.method)
  }
  public var adapterBytes: Int { 4 * adapter.parameterCount }

  /// Tokens that a device trains on in a round.
  public var roundTokens: Int {
    configuration.localSteps * configuration.batch * configuration.context
  }

  /// Writes a level's emulator as devices get it.
  public func writeEmulator(_ level: Int, to folder: URL) throws {
    let emulator = emulators[level]
    let facts = try emulator.facts(source: owner.checkpoint, full: owner.model, fidelity: nil)
    try emulator.write(to: folder, source: owner.checkpoint, facts: facts)
  }

  /// What a level's files take, and what follows from its shape.
  public func level(_ level: Int, in folder: URL) throws -> EmulatorLevel {
    let bytes = try FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: [.fileSizeKey]
    ).reduce(0) { try $0 + ($1.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0) }
    return try EmulatorCosts(configuration, owner, split).level(
      of: emulators[level], packageBytes: bytes, method: adapter.method)
  }

  /// The cosines of the adapter's gradients through each emulator and through the full model.
  public func fidelities() async throws -> [Double] {
    let (emulators, adapter) = (emulators, adapter)
    return try await owner.onThread { try $0.fidelities(of: emulators, with: adapter) }
  }

  /// The plug-in loss before the first round and after each of a short real run on one level, in nats per token.
  ///
  /// - Parameters:
  ///   - work: what differs from the run's own settings.
  ///   - share: of the clients, that are drawn for a round.
  public func losses(
    _ level: Int, work: EdgeWork = .own, share: Double = 1
  ) async throws -> [Double] {
    var configuration = configuration
    if share < 1 {
      configuration.planner = RandomPlanner.name
      configuration.share = share
    }
    configuration.emulators = [recipes[level]]
    configuration.localSteps = max(
      1, Int((work.steps * Double(configuration.localSteps)).rounded()))
    configuration.learningRate *= Float(work.learningRate)
    let rank = max(1, Int((work.rank * Double(configuration.rank)).rounded(.up)))
    // As with part of a larger rank's components: the same scale.
    configuration.alpha *= Double(rank) / Double(configuration.rank)
    configuration.rank = rank
    configuration.uploadBits = work.uploadBits
    let tuning = try FederatedTuning(
      configuration, evaluation: data.evaluation, logger: .silent)
    let result = try await tuning.run(
      FederatedTuning.inProcess(
        data.groups, threads: configuration.threads ?? 1, seed: configuration.seed,
        logger: .silent))
    let perplexities =
      [result.fiveNumbers[.fullZeroShot]].compactMap { $0 }
      + result.report.rounds.compactMap { $0.metrics["plugIn"] }
    return perplexities.map { log($0) }
  }

  /// Where the run's texts are not too many: those of its first client, for measuring a step.
  public var sampleText: String {
    String(
      data.groups.flatMap(\.documents).map(\.text).joined(separator: "\n").prefix(200_000))
  }
}
