import PeatTensor

/// The planners by name.
public enum Planners {
  public static let names =
    [
      "availability", "by-memory", "download-once", "everyone", "everyone:LEVEL", "idle", "random",
      "utility",
    ]

  /// Those that ask a part of the clients, as many as a `SampleSize` says.
  public static let samplers = [AvailabilityPlanner.name, RandomPlanner.name, UtilityPlanner.name]

  /// Those that say on which level a client trains, and leave to others whether it does.
  public static func isOfLevels(_ name: String) -> Bool {
    ["by-memory", "download-once", EveryonePlanner.name].contains(name)
      || fixedLevelText(name) != nil
  }

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
  ///   - size: how many clients `availability`, `random` and `utility` ask.
  ///   - seed: for planners that draw.
  public static func named(
    _ name: String, size: SampleSize? = nil, seed: UInt64
  ) throws -> any RoundPlanner {
    let size = try size ?? SampleSize()
    if let level = try fixedLevel(name) { return EveryonePlanner(levels: .fixed(level)) }
    switch name {
    case EveryonePlanner.name: return EveryonePlanner(levels: .alternating)
    case "download-once": return EveryonePlanner(levels: .held)
    case IdlePlanner.name: return IdlePlanner()
    case "by-memory": return EveryonePlanner(levels: .fitting)
    case RandomPlanner.name: return RandomPlanner(size: size, seed: seed)
    case AvailabilityPlanner.name: return AvailabilityPlanner(size: size, seed: seed)
    case UtilityPlanner.name: return UtilityPlanner(size: size, seed: seed)
    default:
      throw PeatError.usage("Unknown planner '\(name)'. \(suggestion(for: name, among: names))")
    }
  }
}
