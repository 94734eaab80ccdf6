import PeatTensor

/// The planners by name.
public enum Planners {
  public static let names = ["download-once", "everyone", "everyone:LEVEL", "idle", "random"]

  /// Whether there is a planner of this name, right or wrong after a colon.
  public static func knows(_ name: String) -> Bool {
    names.contains(name) || fixedLevelText(name) != nil
  }

  /// What stands behind `everyone:`; `nil` where the name does not begin so.
  private static func fixedLevelText(_ name: String) -> Substring? {
    let start = EveryonePlanner.name + ":"
    return name.hasPrefix(start) ? name.dropFirst(start.count) : nil
  }

  /// The level of `everyone:1`; `nil` for any other planner.
  ///
  /// - Throws: `usage` where what follows the colon is no level's number.
  public static func fixedLevel(_ name: String) throws -> Int? {
    guard let text = fixedLevelText(name) else { return nil }
    guard let level = Int(text), (0..<1 << 16).contains(level) else {
      throw PeatError.usage(
        "The planner '\(name)' must name the number of an emulator, from 0: everyone:1.")
    }
    return level
  }

  /// The planner of this name; an unknown one is an error that names the nearest.
  ///
  /// - Parameters:
  ///   - share: the share of clients that `random` draws.
  ///   - seed: for planners that draw.
  public static func named(
    _ name: String, share: Double = 0.5, seed: UInt64
  ) throws -> any RoundPlanner {
    if let level = try fixedLevel(name) { return EveryonePlanner(levels: .fixed(level)) }
    switch name {
    case EveryonePlanner.name: return EveryonePlanner(levels: .alternating)
    case "download-once": return EveryonePlanner(levels: .held)
    case IdlePlanner.name: return IdlePlanner()
    case RandomPlanner.name: return try RandomPlanner(share: share, seed: seed)
    default:
      throw PeatError.usage("Unknown planner '\(name)'. \(suggestion(for: name, among: names))")
    }
  }
}
