import Foundation
import Logging

/// Measures what the emulators of a run cost and are worth, for planners and simulated cells.
///
/// The parts are separate, so that a caller can measure a step in a process of its own and show progress.
public struct Calibration: Sendable {
  private let configuration: RunConfiguration
  private let data: ClientData
  private let owner: ModelOwner
  private let material: RunMaterial

  /// - Parameter configuration: the run's; its rounds are those that are made with each emulator.
  public init(_ configuration: RunConfiguration, data: ClientData) throws {
    var configuration = configuration
    configuration.planner = EveryonePlanner.name
    configuration.edge = nil
    configuration.out = nil
    configuration.targetPerplexity = nil
    configuration.makeAllRounds()
    configuration.fullFineTuning = false
    configuration.evaluateEvery = 1
    configuration.minimumClients = data.groups.count
    try configuration.validate()
    self.configuration = configuration
    self.data = data
    owner = try ModelOwner(
      configuration, evaluation: data.evaluation, pooled: nil, onEvent: { _ in })
    material = try RunMaterial(configuration, owner)
  }

  public var recipes: [String] { material.emulators.map(\.recipe.description) }
  public var middleBlocks: Int { material.split.middle.count }
  /// What the measurements are of.
  public var facts: EdgeCalibration {
    material.costs.calibration(method: material.adapter.method)
  }
  public var adapterBytes: Int { get throws { try material.adapterBytes } }
  /// What updates take that a planner can ask for.
  public func uploads(_ choices: WorkChoices) throws -> [UploadSize] {
    try material.uploads(choices, material.workSettings(configuration), own: nil)
  }

  /// Tokens that a device trains on in a round.
  public var roundTokens: Int { configuration.roundTokens }

  /// Writes a level's emulator as devices get it.
  public func writeEmulator(_ level: Int, to folder: URL) throws {
    let emulator = material.emulators[level]
    let facts = try emulator.facts(source: owner.checkpoint, full: owner.model)
    try emulator.write(to: folder, source: owner.checkpoint, facts: facts)
  }

  /// What a level's files take, and what follows from its shape.
  public func level(_ level: Int, in folder: URL) throws -> EmulatorLevel {
    let bytes = try FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: [.fileSizeKey]
    ).reduce(0) { try $0 + ($1.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0) }
    return try material.costs.level(
      of: material.emulators[level], packageBytes: bytes, method: material.adapter.method)
  }

  /// The cosine of an adapter's gradients through one emulator and through the full model.
  private func fidelity(of level: Int, with adapter: Adapter) async throws -> Double {
    let emulator = material.emulators[level]
    return try await owner.onThread { try $0.fidelities(of: [emulator], with: adapter)[0] }
  }

  /// The cosines of the new adapter's gradients through each emulator and through the full model.
  public func fidelities() async throws -> [Double] {
    let material = material
    return try await owner.onThread {
      try $0.fidelities(of: material.emulators, with: material.adapter)
    }
  }

  /// What a short real run gave.
  public struct ShortRun: Sendable, Codable {
    /// The plug-in loss before the first round and after each, in nats per token.
    public var losses: [Double]
    /// The level's fidelity with the adapter as it was after each round; empty where it was not asked for.
    public var fidelities: [Double]
  }

  /// A short real run on one level.
  ///
  /// - Parameters:
  ///   - work: what differs from the run's own settings.
  ///   - share: of the clients, that are drawn for a round.
  ///   - team: the clients that there are, by number; `nil`: all.
  ///   - measuresFidelity: whether it is measured after each round.
  ///   - onRound: called with the number of each round that was measured.
  public func shortRun(
    _ level: Int, work: EdgeWork = .own, share: Double = 1, team: Range<Int>? = nil,
    measuresFidelity: Bool = false, onRound: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws -> ShortRun {
    var configuration = configuration
    if share < 1 {
      configuration.planner = RandomPlanner.name
      configuration.share = share
    }
    // As it is beside the run's other levels: they are nested.
    if case .recipe = try EmulatorSource(configuration.emulators[level]) {
      configuration.emulators = [material.emulators[level].recipe.description]
    } else {
      configuration.emulators = [configuration.emulators[level]]
    }
    let own = material.workSettings(configuration)
    configuration.localSteps = own.localSteps(of: work)
    configuration.learningRate *= Float(work.learningRate)
    let rank = own.rank(of: work) ?? configuration.rank
    // As with part of a larger rank's components: the same scale.
    configuration.alpha *= Double(rank) / Double(configuration.rank)
    configuration.rank = rank
    (configuration.uploadBits, configuration.upload) = (work.uploadBits, nil)
    let groups = team.map { Array(data.groups[$0]) } ?? data.groups
    configuration.clients = groups.count
    configuration.minimumClients = groups.count
    let fidelities = Fidelities()
    let tuning = try FederatedTuning(
      configuration, evaluation: data.evaluation,
      measuresLoss: owner.configuration.metric == .accuracy, othersMayCome: false,
      logger: .silent,
      onEvent: { if case .roundMeasured(let round, _) = $0 { onRound(round) } },
      onAdapter: { adapter in
        guard measuresFidelity else { return }
        await fidelities.add(try await fidelity(of: level, with: adapter))
      })
    let result = try await tuning.run(
      FederatedTuning.inProcess(
        groups, threads: configuration.threads ?? 1, seed: configuration.seed,
        rankLimits: configuration.rankLimits ?? [], logger: .silent))
    let losses = result.report.rounds.compactMap { record in
      record.metrics[LearningModel.lossMetric]
        ?? record.metrics["plugIn"].map { naturalLogarithm($0) }
    }
    return ShortRun(
      losses: [try await zeroShotLoss(result.fiveNumbers)] + losses,
      fidelities: await fidelities.afterRounds)
  }

  /// Those that were measured while a run went on.
  private actor Fidelities {
    private(set) var afterRounds: [Double] = []

    func add(_ value: Double) { afterRounds.append(value) }
  }

  /// The full model's perplexity, or accuracy, before anything is tuned.
  public func zeroShot() async throws -> Double {
    try await owner.onThread { try $0.quality(nil) }
  }

  /// The same in nats.
  private func zeroShotLoss(_ numbers: FiveNumbers) async throws -> Double {
    if owner.configuration.metric != .accuracy, let known = numbers[.fullZeroShot] {
      return naturalLogarithm(known)
    }
    return try await owner.onThread { try $0.loss(nil) }
  }

  /// The clients' data as it is, where a text alone would not do to tune on: of classes.
  public var sampleData: URL? {
    owner.configuration.metric == .accuracy
      ? configuration.data.map { URL(fileURLWithPath: $0) } : nil
  }

  /// The share of all data that some clients have, by their texts' lengths.
  public func share(of team: Range<Int>) -> Double {
    let lengths = data.groups.map { group in
      Double(group.documents.reduce(0) { $0 + $1.text.utf8.count })
    }
    return lengths[team].reduce(0, +) / max(lengths.reduce(0, +), 1)
  }

  /// The beginning of the clients' texts, for measuring a step.
  public var sampleText: String {
    String(
      data.groups.flatMap(\.documents).map(\.text).joined(separator: "\n").prefix(200_000))
  }
}
