import ArgumentParser
import FedPEAT
import Foundation

struct EvaluateController: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate-controller",
    abstract: "Measure planners in simulated federations, trained or not.",
    discussion: """
      Example: fedpeat evaluate-controller controller.safetensors heuristic lookahead

      Every planner begins the same episodes. The mean return is minus what rounds cost, over episodes, ± its standard error; higher is \
      better. The rest are means per episode: the share of episodes that reach the target gap, and the rounds and simulated seconds until \
      then; megabytes to and from all devices; kilojoules of all devices; the largest share of the middle that a device has seen; how often \
      a device was told to train on more than it has memory for; how many devices take part in a round; and the milliseconds that one \
      decision takes here.
      """)

  @Argument(
    help: ArgumentHelp(
      "Controllers that train-controller wrote, or planners by name: idle, random (each choice by chance), everyone (on the emulators in turn) and everyone:LEVEL (neither in anchor), one-level (the most faithful that all can have, sent once), one-level-refreshing (sent every round), download-once (each on the emulator that it was sent first), heuristic, oort (not in anchor), one-round, lookahead. If none is given: all of these, but the last two only where they take no more than a minute or so.",
      valueName: "planner"))
  var planners: [String] = []

  @Option(help: ArgumentHelp(PlanningWorld.help, valueName: "world"))
  var environment = "pedestrian"

  @Option(help: "Episodes of each.")
  var episodes = 256

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (1...100_000).contains(episodes) else {
      throw ValidationError("--episodes is \(episodes); it must be between 1 and 100000.")
    }
  }

  fileprivate struct Row: Encodable {
    var planner: String
    /// Minus what an episode's rounds cost, in the environment's objective.
    var meanReturn: Double
    var standardError: Double
    /// Rounds, and rounds times devices, per second of this machine.
    var stepsPerSecond: Double
    var deviceRoundsPerSecond: Double
    /// Of one federation, median.
    var secondsPerDecision: Double
    /// Devices that take part in a round.
    var selectedPerRound: Double
    /// Of a simulated edge: means over episodes.
    var edge: EdgeMeans?

    private enum CodingKeys: String, CodingKey {
      case planner, meanReturn, standardError, stepsPerSecond, deviceRoundsPerSecond
      case secondsPerDecision, selectedPerRound, edge
    }

    /// Says every key, also those that are null.
    func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(planner, forKey: .planner)
      try table.encode(meanReturn, forKey: .meanReturn)
      try table.encode(standardError, forKey: .standardError)
      try table.encode(stepsPerSecond, forKey: .stepsPerSecond)
      try table.encode(deviceRoundsPerSecond, forKey: .deviceRoundsPerSecond)
      try table.encode(secondsPerDecision, forKey: .secondsPerDecision)
      try table.encode(selectedPerRound, forKey: .selectedPerRound)
      try table.encode(edge, forKey: .edge)
    }
  }

  fileprivate struct EdgeMeans: Encodable {
    /// The share of episodes that reached the target, and how long those took, in rounds and simulated seconds.
    var reachedTarget: Double
    var roundsToTarget: Double?
    var secondsToTarget: Double?
    /// Simulated seconds of all rounds.
    var seconds: Double
    /// To and from all devices.
    var bytesDown: Double
    var bytesUp: Double
    /// Of all devices.
    var joules: Double
    /// Devices that were told to train on more than they have memory for.
    var violations: Double
    /// The largest share of the middle's weights that a device has seen.
    var exposure: Double
    /// At the end, in nats over the loss that is never passed.
    var gap: Double

    private enum CodingKeys: String, CodingKey {
      case reachedTarget, roundsToTarget, secondsToTarget, seconds, bytesDown, bytesUp, joules
      case violations, exposure, gap
    }

    /// Says every key, also those that are null.
    func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(reachedTarget, forKey: .reachedTarget)
      try table.encode(roundsToTarget, forKey: .roundsToTarget)
      try table.encode(secondsToTarget, forKey: .secondsToTarget)
      try table.encode(seconds, forKey: .seconds)
      try table.encode(bytesDown, forKey: .bytesDown)
      try table.encode(bytesUp, forKey: .bytesUp)
      try table.encode(joules, forKey: .joules)
      try table.encode(violations, forKey: .violations)
      try table.encode(exposure, forKey: .exposure)
      try table.encode(gap, forKey: .gap)
    }

    init?(_ summaries: [EdgeSummary]) {
      guard !summaries.isEmpty else { return nil }
      func mean(_ values: [Double]) -> Double? {
        values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
      }
      func mean(_ value: (EdgeSummary) -> Double) -> Double { mean(summaries.map(value)) ?? 0 }
      reachedTarget = mean { $0.roundsToTarget == nil ? 0 : 1 }
      roundsToTarget = mean(summaries.compactMap { $0.roundsToTarget.map(Double.init) })
      secondsToTarget = mean(summaries.compactMap(\.secondsToTarget))
      seconds = mean(\.seconds)
      bytesDown = mean(\.bytesDown)
      bytesUp = mean(\.bytesUp)
      joules = mean(\.joules)
      violations = mean { Double($0.violations) }
      exposure = mean(\.exposure)
      gap = mean(\.gap)
    }
  }

  private struct Report: Encodable {
    var environment: String
    var episodes: Int
    /// Of the first planner.
    var meanReturn: Double
    var standardError: Double
    var stepsPerSecond: Double
    var planners: [Row]
  }

  func run() async throws {
    let world = try PlanningWorld(environment)
    if case .edge(let edge) = world { edge.tellCautions(named: environment) }
    let planners = planners.isEmpty ? try usual(in: world) : planners
    try planners.forEach(world.check)
    let controllers = try planners.map { name in
      try world.knows(name) ? nil : controller(name, in: world)
    }
    var rows: [Row] = []
    for (name, network) in zip(planners, controllers) {
      try checkInterruption()
      Terminal.status("playing \(name) …")
      rows.append(
        try world.open(
          Measurement(
            name: name, network: network, episodes: episodes, seed: common.seedValue)))
    }
    guard let first = rows.first else { return }
    try common.report(
      Report(
        environment: environment, episodes: episodes, meanReturn: first.meanReturn,
        standardError: first.standardError, stepsPerSecond: first.stepsPerSecond, planners: rows),
      text: Self.table(rows, episodes: episodes))
  }

  /// All that need no training; searches only where they take no more than a minute or so.
  private func usual(in world: PlanningWorld) throws -> [String] {
    let devices = Double(try world.shape().devices)
    // A search takes about a microsecond for each pair of devices.
    let rounds = if case .edge(let edge) = world { edge.rounds } else { AnchorCell.horizon }
    let seconds = 1e-6 * devices * devices * Double(rounds * episodes)
    guard seconds > 60 else { return world.plannerNames }
    let searches = ["one-round", "lookahead"]
    Terminal.note(
      "left out     \(searches.joined(separator: ", ")), which would take about \(Format.time(.seconds(seconds))) each; name them to have them played"
    )
    return world.plannerNames.filter { !searches.contains($0) }
  }

  private static func table(_ rows: [Row], episodes: Int) -> String {
    let isEdge = rows.contains { $0.edge != nil }
    var header = ["planner", "mean return", "± error"]
    if isEdge {
      header += [
        "reach target", "rounds to it", "seconds to it", "MB down", "MB up", "kJ",
        "largest exposure", "memory violations",
      ]
    }
    return Format.table(
      [header + ["take part", "ms per decision"]]
        + rows.map { row in
          let (mean, error) = Format.meanCells(row.meanReturn, row.standardError)
          // One episode says nothing of its error.
          var cells = [row.planner, mean, episodes > 1 ? error : "-"]
          if let edge = row.edge {
            cells += [
              Format.percent(edge.reachedTarget),
              edge.roundsToTarget.map(Format.significant) ?? "-",
              edge.secondsToTarget.map(Format.significant) ?? "-",
              Format.significant(edge.bytesDown / 1e6), Format.significant(edge.bytesUp / 1e6),
              Format.significant(edge.joules / 1e3), Format.percent(edge.exposure),
              Format.significant(edge.violations),
            ]
          }
          return cells + [
            Format.significant(row.selectedPerRound),
            Format.significant(1000 * row.secondsPerDecision),
          ]
        })
  }

  private func controller(_ word: String, in world: PlanningWorld) throws -> any ActorCritic {
    // As other verbs name it, too.
    let name = word.hasPrefix("learned:") ? String(word.dropFirst("learned:".count)) : word
    guard FileManager.default.fileExists(atPath: URL(path: name).path) else {
      throw PeatError.usage(
        "'\(name)' is neither a file nor a planner. \(suggestion(for: name, among: world.plannerNames))"
      )
    }
    let file = try ControllerFile(contentsOf: URL(path: name))
    try file.check(
      for: try world.shape(), name: name,
      advice:
        "Measure it where it belongs (--environment \(file.facts.environment)), or train one for this: 'fedpeat train-controller --environment \(environment) --out FILE'."
    )
    return file.network
  }
}

/// Plays one planner.
private struct Measurement: WorldVisitor {
  let name: String
  let network: (any ActorCritic)?
  let episodes: Int
  let seed: UInt64

  func visit<Environment: ControlEnvironment>(
    make: @escaping (Int, UInt64) throws -> Environment,
    planner: (String, UInt64) throws -> any ControlPolicy<Environment>
  ) throws -> EvaluateController.Row {
    let policy: any ControlPolicy<Environment> =
      if let network { NetworkPolicy<Environment>(network) } else { try planner(name, seed) }
    try MemoryDemand.checkPlaying(episodes, of: try make(1, 5).shape)
    let environment = try make(episodes, seed &+ 123)
    let start = ContinuousClock.now
    let edge = environment as? EdgeEnvironment
    var summaries: [EdgeSummary] = []
    let played = policy.playEpisodes(
      environment, shouldStop: { Interruption.isRequested },
      onEnding: { process in if let edge { summaries.append(edge.summaries[process]) } })
    try checkInterruption()
    let returns = played.statistics
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    // By itself, as a federation asks: one state at a time.
    let alone = try make(1, 5)
    var times: [Double] = []
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: alone.shape.choices) { space in
      guard let actions = space.baseAddress else { return }
      let first = ContinuousClock.now
      for _ in 0..<100 where ContinuousClock.now - first < .seconds(2) {
        if Interruption.isRequested { return }
        let start = ContinuousClock.now
        policy.decide(alone, into: actions)
        times.append((ContinuousClock.now - start) / .seconds(1))
      }
    }
    try checkInterruption()
    return EvaluateController.Row(
      planner: name, meanReturn: returns.mean, standardError: returns.standardError,
      stepsPerSecond: Double(played.rounds) / seconds,
      deviceRoundsPerSecond: Double(played.rounds * environment.shape.devices) / seconds,
      secondsPerDecision: median(times), selectedPerRound: played.selectedPerRound,
      edge: .init(summaries))
  }
}
