import PeatControl
import PeatTensor

extension AnchorCell {
  /// The planners that need no training, by name.
  public static let policyNames = [
    "idle", "random", "one-level", "one-level-refreshing", "download-once", "heuristic",
    "one-round", "lookahead",
  ]

  /// - Throws: `usage` where there is no planner of this name.
  public static func policy(
    named name: String, seed: UInt64
  ) throws -> any ControlPolicy<AnchorCell> {
    switch name {
    case "idle": return AnchorIdle()
    case "random": return AnchorRandom(seed: seed)
    case "one-level": return AnchorFixedLevel(4)
    case "one-level-refreshing": return AnchorFixedLevel(4, refreshing: true)
    case "download-once": return AnchorStaying()
    case "heuristic": return AnchorHeuristic()
    case "one-round": return AnchorSearch(rounds: 1)
    case "lookahead": return AnchorSearch(rounds: 20)
    default:
      throw PeatError.usage(
        "Unknown planner '\(name)'. \(suggestion(for: name, among: policyNames))")
    }
  }
}
