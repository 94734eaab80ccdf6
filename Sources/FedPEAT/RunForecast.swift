import Foundation

/// A run as it would go in its simulated cell, by the learning model alone: nothing is tuned, nothing is sent.
public struct RunForecast {
  /// The edge with the run's emulators, clients and rounds.
  public let edge: EdgeConfiguration
  /// Whether the edge's levels were measured for this run's emulators; else costs follow from their shapes.
  public let isMeasured: Bool
  private let configuration: RunConfiguration

  /// - Throws: `usage` where the run names no edge.
  public init(_ configuration: RunConfiguration) throws {
    try configuration.validate()
    guard let word = configuration.edge else {
      throw PeatError.usage(
        "This needs a simulated edge: 'edge: FILE' in the run file, or --edge with a file that calibrate wrote or a scenario such as pedestrian."
      )
    }
    self.configuration = configuration
    let edge = try EdgeFile.read(word)
    let owner = try ModelOwner(configuration, evaluation: nil, pooled: nil, onEvent: { _ in })
    let material = try RunMaterial(configuration, owner)
    let levels = try material.levels(
      packageBytes: material.emulators.map { Self.bytes(of: $0, owner) }, in: edge)
    isMeasured =
      edge.calibration.model == owner.digest.hex
      && levels.map(\.name) == edge.levels.map(\.name)
    var own = edge.with(levels, of: material, configuration)
    own.devices = configuration.clients
    try own.validate()
    self.edge = own
  }

  /// An emulator's files, in bytes: weights as they are stored in the source, and the files beside them.
  private static func bytes(of emulator: Emulator, _ owner: ModelOwner) -> Int {
    let share =
      Double(emulator.model.parameterCount) / Double(max(owner.model.parameterCount, 1))
    return Int(share * Double(owner.checkpoint.byteCount))
  }

  /// Plays so many runs.
  public func play(
    runs: Int, shouldStop: () -> Bool = { false }
  ) throws -> EdgeEnvironment {
    try EdgeEnvironment.play(
      edge, planner: configuration.planner, episodes: runs, rounds: configuration.rounds,
      endsAtTarget: configuration.targetPerplexity != nil,
      minimumUpdates: configuration.minimumUpdates, seed: configuration.seed,
      shouldStop: shouldStop)
  }
}
