import Foundation

/// What is seen of a number in several runs.
public struct RunsMean: Sendable, Codable, Equatable {
  public var mean: Double
  /// Sample standard deviation; 0 for a single run.
  public var deviation: Double

  /// `nil` where there is nothing.
  init?(_ values: [Double]) {
    guard !values.isEmpty else { return nil }
    (mean, deviation) = values.meanAndDeviation
  }
}

/// A run that was played by the learning model alone, with one seed.
public struct PlayedRun: Sendable, Codable {
  public var seed: UInt64
  public var rounds: Int
  public var bytesUp: Double
  public var bytesDown: Double
  public var simulatedSeconds: Double
  /// As of a run that was tuned in its cell; nothing was measured.
  public var simulation: SimulationReport
  /// What is left at the end of the gap to the loss that is never passed, as a share of the first one.
  public var gap: Double
  /// Attempts at rounds in which too few delivered, and whether the run ended early as a round came to nothing as often as it is tried.
  public var lostRounds: Int
  public var endsEarly: Bool

  init(_ episode: PlayedEpisode, seed: UInt64, finalLoss: Double) {
    let summary = episode.summary
    self.seed = seed
    rounds = summary.rounds
    (bytesUp, bytesDown) = (summary.bytesUp, summary.bytesDown)
    simulatedSeconds = summary.seconds
    gap = episode.gapLeft
    (lostRounds, endsEarly) = (summary.lostRounds, summary.endsEarly)
    simulation = SimulationReport(
      seconds: summary.seconds, joules: summary.joules, violations: summary.violations,
      exposure: summary.exposure,
      rounds: episode.rounds, measured: [], finalLoss: finalLoss)
  }
}

/// Runs that were played by the learning model alone, each with a seed of its own: nothing was tuned.
public struct PlayedRuns: Sendable {
  /// A round of all runs that came so far.
  public struct Round: Sendable, Encodable {
    public var round: Int
    public var runs: Int
    /// After it, in nats per token; null where the edge's learning model was not fitted to a real run.
    public var predictedLoss: RunsMean?
    /// After it, in nats over the loss that is never passed.
    public var predictedGap: RunsMean
    public var seconds: RunsMean
    public var joules: RunsMean
    public var bytesDown: RunsMean
    public var bytesUp: RunsMean
    /// Devices that were asked, and whose updates arrived.
    public var participants: RunsMean
    public var delivered: RunsMean

    private enum CodingKeys: String, CodingKey {
      case round, runs, predictedLoss, predictedGap, seconds, joules, bytesDown, bytesUp
      case participants, delivered
    }

    /// Says every key, also that of a loss that is not known.
    public func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(round, forKey: .round)
      try table.encode(runs, forKey: .runs)
      try table.encode(predictedLoss, forKey: .predictedLoss)
      try table.encode(predictedGap, forKey: .predictedGap)
      try table.encode(seconds, forKey: .seconds)
      try table.encode(joules, forKey: .joules)
      try table.encode(bytesDown, forKey: .bytesDown)
      try table.encode(bytesUp, forKey: .bytesUp)
      try table.encode(participants, forKey: .participants)
      try table.encode(delivered, forKey: .delivered)
    }
  }

  public var planner: String
  public var isMeasured: Bool
  /// Why what is foreseen should not be trusted far, in words.
  public var cautions: [String]
  /// Means, and how far runs with other seeds are from them.
  public var rounds: RunsMean
  public var simulatedSeconds: RunsMean
  public var bytesDown: RunsMean
  public var bytesUp: RunsMean
  public var joules: RunsMean
  /// The largest share of the middle's weights that a device was sent.
  public var exposure: RunsMean
  /// At the end: in nats per token (null where the edge's learning model was not fitted to a real run), and what is left of the gap to the loss that is never
  /// passed, as a share of the first one.
  public var predictedLoss: RunsMean?
  public var gap: RunsMean
  /// Attempts at rounds in which too few delivered, in the mean, and the share of runs that end early for it.
  public var lostRounds: Double
  public var endsEarly: Double
  /// Devices that were told to train on more than they have memory for, in all runs.
  public var violations: Int
  /// In nats, before the first round.
  public let startGap: Double
  public var table: [Round]
  public var runs: [PlayedRun]

  /// - Throws: `usage` where there is no run, or so many rounds take more memory than there is.
  public init(
    _ forecast: RunForecast, seeds: [UInt64], shouldStop: () -> Bool = { false }
  ) throws {
    let bytes = MemoryLayout<SimulationReport.Round>.stride * 3
    try MemoryDemand.check(
      bytes: Double(bytes) * Double(forecast.rounds) * Double(seeds.count),
      for: "The rounds of \(seeds.count) played runs", advice: "Play fewer (--seeds, --rounds).")
    var runs: [PlayedRun] = []
    for seed in seeds where !shouldStop() {
      runs.append(try forecast.playRun(seed: seed, shouldStop: shouldStop))
    }
    func mean(_ value: (PlayedRun) -> Double) throws -> RunsMean {
      guard let result = RunsMean(runs.map(value)) else {
        throw PeatError.usage("There is no run to play; give at least one seed.")
      }
      return result
    }
    planner = forecast.planner
    isMeasured = forecast.isMeasured
    cautions = forecast.cautions
    rounds = try mean { Double($0.rounds) }
    simulatedSeconds = try mean(\.simulatedSeconds)
    (bytesDown, bytesUp) = (try mean(\.bytesDown), try mean(\.bytesUp))
    joules = try mean(\.simulation.joules)
    exposure = try mean(\.simulation.exposure)
    gap = try mean(\.gap)
    lostRounds = try mean { Double($0.lostRounds) }.mean
    endsEarly = try mean { $0.endsEarly ? 1 : 0 }.mean
    let learning = forecast.edge.learning
    startGap = learning.startGap
    predictedLoss =
      learning.finalLoss > 0
      ? try mean { learning.finalLoss + $0.gap * learning.startGap } : nil
    violations = runs.reduce(0) { $0 + $1.simulation.violations }
    table = (0..<(runs.map(\.simulation.rounds.count).max() ?? 0)).compactMap { place in
      Round(runs.compactMap { $0.simulation.rounds.dropFirst(place).first })
    }
    self.runs = runs
  }
}

extension PlayedRuns.Round {
  /// `nil` without runs.
  fileprivate init?(_ rounds: [SimulationReport.Round]) {
    func mean(_ value: (SimulatedRound) -> Double) -> RunsMean? {
      RunsMean(rounds.map { value($0.cell) })
    }
    guard let first = rounds.first, let gap = mean(\.predictedGap), let seconds = mean(\.seconds),
      let joules = mean(\.joules), let down = mean(\.bytesDown), let up = mean(\.bytesUp),
      let participants = mean({ Double($0.participants) }),
      let delivered = mean({ Double($0.delivered) })
    else { return nil }
    (round, runs) = (first.cell.round, rounds.count)
    predictedLoss = RunsMean(rounds.compactMap(\.predictedLoss))
    predictedGap = gap
    (self.seconds, self.joules, bytesDown, bytesUp) = (seconds, joules, down, up)
    (self.participants, self.delivered) = (participants, delivered)
  }
}
