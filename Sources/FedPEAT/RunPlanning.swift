import Foundation

/// Who plans a run's rounds.
struct RunPlanning: Sendable {
  /// Whom the coordinator asks.
  let planner: any RoundPlanner
  /// What tuning through each emulator takes, in bytes, by estimate.
  let levelMemory: [Int]
  private let live: LivePlanner?
  private let cell: SimulatedCell?
  private let finalLoss: Double
  /// Whether somebody wants to know a round's loss, which plug-in's own number does not say.
  let wantsLoss: Bool
  private let owner: ModelOwner

  /// - Parameters:
  ///   - edge: what emulators cost and are worth, and the cell.
  ///   - clients: those of a simulated cell with their shares of all data; `nil`: there is none.
  init(
    _ configuration: RunConfiguration, _ material: RunMaterial, packages: [Package],
    owner: ModelOwner, edge: EdgeConfiguration?, cell clients: [ClientID: Double]?,
    onLostRound: @escaping @Sendable (LostRound) -> Void
  ) async throws {
    self.owner = owner
    finalLoss = edge?.learning.finalLoss ?? 0
    wantsLoss = edge != nil && configuration.metric == .accuracy
    let levels = try material.levels(packageBytes: packages.map(\.bytes), in: edge)
    levelMemory = levels.map { Int($0.memory) }
    let own = edge?.scaled(to: configuration)
    let work = material.workSettings(configuration)
    let choices = configuration.workChoices(in: edge)
    if let clients, let edge {
      let cell = try SimulatedCell(
        try edge.with(levels, of: material, configuration), planner: configuration.planner,
        share: configuration.share, clients: clients, settings: work,
        attempts: configuration.attempts, seed: configuration.seed, onLostRound: onLostRound)
      (self.cell, live, planner) = (cell, nil, cell)
      return
    }
    cell = nil
    guard LivePlanner.knows(configuration.planner) else {
      live = nil
      planner = try Planners.named(
        configuration.planner, size: configuration.sampleSize, seed: configuration.seed)
      return
    }
    let live = try LivePlanner(
      configuration.planner,
      settings: LiveSettings(
        levels: levels, objective: own?.objective ?? Objective(),
        isReferenceTimeMeasured: own == nil, learning: own?.learning ?? LearningModel(),
        server: configuration.server(in: edge),
        adapterBytes: Double(try material.adapterBytes),
        downloadBytes: Double(try material.downloadBytes(configuration)),
        uploads: try material.uploads(choices, work, own: configuration.uploadEncoding),
        deadline: configuration.roundDeadline,
        target: edge?.target(of: configuration) ?? 0,
        choices: choices, work: work),
      seed: configuration.seed)
    (self.live, planner) = (live, live)
    try await learn(from: material.adapter, through: material.emulators)
  }

  /// Measures what the emulators are worth with the adapter as it is now, where a planner wants to know; `nil` where none does.
  @discardableResult
  func learn(from adapter: Adapter, through emulators: [Emulator]) async throws -> [Double]? {
    guard let live, owner.hasEvaluation else { return nil }
    let fidelities = try await owner.onThread { try $0.fidelities(of: emulators, with: adapter) }
    await live.update(fidelities: fidelities)
    return fidelities
  }

  /// Levels were made anew and are worth so much: they are sent again.
  func renewed(_ fidelities: [Int: Double]) async {
    await cell?.renew(levels: fidelities.keys.sorted())
    for (level, fidelity) in fidelities { await live?.renew(level, fidelity: fidelity) }
  }

  /// What the run took in its simulated cell; `nil` where there is none.
  ///
  /// - Parameter loss: in nats at the end, where it was measured.
  func simulation(of report: RunReport, loss: Double?) async -> SimulationReport? {
    guard let cell else { return nil }
    var measured = report.rounds
    if let loss, let last = measured.indices.last {
      measured[last].metrics[LearningModel.lossMetric] = loss
    }
    let played = await cell.rounds
    // One that was played and then did not count took time and energy, but is no round of the run.
    let counted = Set(measured.map(\.round))
    return await SimulationReport(
      seconds: cell.seconds, joules: cell.joules,
      violations: cell.violations, exposure: cell.exposure,
      rounds: played.filter { counted.contains($0.round) }, measured: measured,
      finalLoss: finalLoss)
  }
}

/// What a run took in a simulated cell, and how well the learning model foresaw its loss.
public struct SimulationReport: Sendable, Codable, Equatable {
  public struct Round: Sendable, Codable, Equatable {
    public var cell: SimulatedRound
    /// Plug-in loss in nats per token, as the learning model expected it, and as it was measured; null where either is not known.
    public var predictedLoss: Double?
    public var measuredLoss: Double?

    public func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(cell, forKey: .cell)
      try table.encode(predictedLoss, forKey: .predictedLoss)
      try table.encode(measuredLoss, forKey: .measuredLoss)
    }

    private enum CodingKeys: String, CodingKey { case cell, predictedLoss, measuredLoss }
  }

  public var seconds: Double
  public var joules: Double
  /// Devices that were told to train on more than they have memory for.
  public var violations: Int
  /// The largest share of the middle's weights that a device was sent, also one that then failed.
  public var exposure: Double
  public var rounds: [Round]
  /// Mean distance of the predicted and the measured losses, in nats; null where no round has both.
  public var predictionError: Double?

  private enum CodingKeys: String, CodingKey {
    case seconds, joules, violations, exposure, rounds, predictionError
  }

  /// Says every key, also those that are null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(seconds, forKey: .seconds)
    try table.encode(joules, forKey: .joules)
    try table.encode(violations, forKey: .violations)
    try table.encode(exposure, forKey: .exposure)
    try table.encode(rounds, forKey: .rounds)
    try table.encode(predictionError, forKey: .predictionError)
  }

  /// - Parameters:
  ///   - seconds, joules: of all that was played, also attempts after the last round.
  ///   - rounds: that counted.
  init(
    seconds: Double, joules: Double, violations: Int, exposure: Double, rounds: [SimulatedRound],
    measured: [RoundRecord], finalLoss: Double
  ) {
    self.seconds = seconds
    self.joules = joules
    self.violations = violations
    self.exposure = exposure
    let losses = Dictionary(
      measured.compactMap { record in
        (record.metrics[LearningModel.lossMetric]
          ?? record.metrics["plugIn"].map { naturalLogarithm($0) }).map { (record.round, $0) }
      }, uniquingKeysWith: { $1 })
    self.rounds = rounds.map {
      Round(
        cell: $0, predictedLoss: finalLoss > 0 ? finalLoss + $0.predictedGap : nil,
        measuredLoss: losses[$0.round])
    }
    let distances = self.rounds.compactMap { round in
      round.predictedLoss.flatMap { predicted in round.measuredLoss.map { abs(predicted - $0) } }
    }
    predictionError =
      distances.isEmpty ? nil : distances.reduce(0, +) / Double(distances.count)
  }
}
