import Foundation

/// A run as it would go in its simulated cell, by the learning model alone: nothing is tuned, nothing is sent.
public struct RunForecast {
  /// The edge with the run's emulators, clients and rounds.
  public let edge: EdgeConfiguration
  /// Whether the edge's levels were measured for this run's emulators; else costs follow from their shapes.
  public let isMeasured: Bool
  /// Why it should not be trusted far, in words.
  public let cautions: [String]
  private let configuration: RunConfiguration

  /// - Throws: `usage` where the run names no edge.
  public init(_ configuration: RunConfiguration) throws {
    try configuration.validate()
    guard let word = configuration.edge else {
      throw PeatError.usage(
        "This needs a simulated edge: 'edge: FILE' in the run file, or --edge with a file that calibrate wrote or a scenario such as pedestrian."
      )
    }
    if let key = configuration.keyOfTunedRuns {
      throw PeatError.usage(
        "\(key) can't be foreseen: nothing is tuned, measured or released here. Leave it out to look at the run's rounds."
      )
    }
    self.configuration = configuration
    let edge = try EdgeFile.read(word)
    let owner = try ModelOwner(
      configuration, evaluation: try configuration.documentsOfPairs(),
      pooled: try configuration.documentsOfClasses(),
      onEvent: { _ in })
    let material = try RunMaterial(configuration, owner)
    let levels = try material.levels(
      packageBytes: try material.emulators.map {
        try $0.packageBytes(source: owner.checkpoint, full: owner.model)
      }, in: edge)
    isMeasured = material.isMeasured(in: edge)
    var own = try edge.with(levels, of: material, configuration)
    cautions = material.cautions(in: edge, named: word)
    own.devices = configuration.clients
    try own.validate()
    self.edge = own
  }

  var planner: String { configuration.planner }
  var rounds: Int { configuration.rounds }

  /// Plays the run once, in the cell that it would have with this seed.
  func playRun(seed: UInt64, shouldStop: () -> Bool) throws -> PlayedRun {
    let episode = try PlayedEpisode(
      edge, planner: planner, share: configuration.share, rounds: rounds,
      endsAtTarget: configuration.targetPerplexity != nil,
      minimumUpdates: configuration.minimumUpdates, attempts: configuration.attempts, seed: seed,
      shouldStop: shouldStop)
    return PlayedRun(episode, seed: seed, finalLoss: edge.learning.finalLoss)
  }

  /// Plays so many runs.
  public func play(
    runs: Int, shouldStop: () -> Bool = { false }
  ) throws -> EdgeEnvironment {
    try EdgeEnvironment.play(
      edge, planner: configuration.planner, share: configuration.share, episodes: runs,
      rounds: configuration.rounds,
      endsAtTarget: configuration.targetPerplexity != nil,
      minimumUpdates: configuration.minimumUpdates, attempts: configuration.attempts,
      seed: configuration.seed,
      shouldStop: shouldStop)
  }
}
