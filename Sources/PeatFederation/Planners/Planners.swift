import PeatTensor

/// The planners by name.
public enum Planners {
  private typealias Maker =
    @Sendable (EveryonePlanner.LevelRule, Double, UInt64) throws -> any RoundPlanner

  private static let known: [String: Maker] = [
    EveryonePlanner.name: { levels, _, _ in EveryonePlanner(levels: levels) },
    RandomPlanner.name: { _, share, seed in try RandomPlanner(share: share, seed: seed) },
  ]

  public static var names: [String] { known.keys.sorted() }

  /// The planner of this name; an unknown one is an error that names the nearest.
  ///
  /// - Parameters:
  ///   - levels: how `everyone` spreads the clients over the emulator levels.
  ///   - share: the share of clients that `random` draws.
  ///   - seed: for planners that draw.
  public static func named(
    _ name: String, levels: EveryonePlanner.LevelRule = .alternating, share: Double = 0.5,
    seed: UInt64
  ) throws -> any RoundPlanner {
    guard let make = known[name] else {
      throw PeatError.usage("Unknown planner '\(name)'. \(suggestion(for: name, among: names))")
    }
    return try make(levels, share, seed)
  }
}
