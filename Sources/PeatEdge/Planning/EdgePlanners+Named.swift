import PeatControl
import PeatFederation
import PeatTensor

/// The planners of an edge by name.
public enum EdgePlanners {
  /// Those that need no training.
  public static let names = [
    "idle", "random", "everyone", "one-level", "one-level-refreshing", "download-once", "heuristic",
    "oort", "one-round", "lookahead",
  ]

  /// The file behind `learned:`; `nil` where a name does not begin so.
  static func learnedFile(_ name: String) -> String? {
    name.hasPrefix("learned:") ? String(name.dropFirst("learned:".count)) : nil
  }

  /// For so many devices a search still decides: it takes about a minute and a half, and grows with their square.
  static let mostSearched = 10_000

  /// Throws `usage` where a planner would take hours for a decision, or names a level that is not there.
  ///
  /// - Parameter levels: how many there are; `nil`: any number.
  public static func check(_ name: String, devices: Int, levels: Int? = nil) throws {
    if let level = try Planners.fixedLevel(name), let levels, level >= levels {
      throw PeatError.usage(
        "The planner '\(name)' names emulator \(level); there are \(levels), numbered from 0.")
    }
    guard ["one-round", "lookahead"].contains(name), devices > mostSearched else { return }
    throw PeatError.usage(
      "The planner '\(name)' searches among \(mostSearched) devices at most; for \(devices) a decision would take hours. Use heuristic, oort, or a controller that was trained for fewer (learned:FILE)."
    )
  }

  /// - Parameters:
  ///   - name: one of `names`, `everyone:LEVEL`, or `learned:FILE` with a file that `train-controller` wrote.
  ///   - levels: how many a controller must be made for; `nil`: for whatever it was made.
  ///   - work: what a controller must choose from.
  ///   - learning: what of it a controller must see.
  ///   - devices: how many are to be planned for; `nil`: any number.
  ///   - seed: for planners that draw.
  /// - Throws: `usage` where there is no planner of this name; `inputOutput` or `badData` where the file is no such controller.
  static func make(
    _ name: String, levels: Int?, work: WorkChoices = WorkChoices(),
    learning: LearningModel, devices: Int?, seed: UInt64
  ) throws -> any EdgePlanner {
    try check(name, devices: devices ?? 0)
    if let path = learnedFile(name) {
      return try LearnedPlanner(
        path, levels: levels, work: work, learning: learning, devices: devices)
    }
    if let level = try Planners.fixedLevel(name) { return FixedEveryone(level: level) }
    return switch name {
    case "idle": EdgeIdle()
    case "random": EdgeRandom(seed: seed)
    case "everyone": AlternatingEveryone()
    case "one-level": EdgeEveryone()
    case "one-level-refreshing": EdgeEveryone(refreshing: true)
    case "download-once": StayingEveryone()
    case "heuristic": EdgeHeuristic()
    case "oort": EdgeOort()
    case "one-round": EdgeSearch(rounds: 1)
    case "lookahead": EdgeSearch.lookAhead
    default:
      throw PeatError.usage(
        "Unknown planner '\(name)'. \(suggestion(for: name, among: names + ["learned:FILE"]))")
    }
  }
}

extension EdgeEnvironment {
  /// A planner by name; see `EdgePlanners`.
  public static func planner(
    named name: String, seed: UInt64
  ) throws -> any ControlPolicy<EdgeEnvironment> {
    func opened(_ planner: some EdgePlanner) -> any ControlPolicy<EdgeEnvironment> { planner }
    return opened(
      try EdgePlanners.make(name, levels: nil, learning: LearningModel(), devices: nil, seed: seed))
  }
}
