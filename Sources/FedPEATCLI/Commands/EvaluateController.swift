import ArgumentParser
import FedPEAT
import Foundation
import PeatControl
import PeatEdge

struct EvaluateController: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate-controller",
    abstract: "Measure planners in simulated federations, trained or not.",
    discussion: """
      Example: fedpeat evaluate-controller controller.safetensors heuristic lookahead

      Every planner plays the same episodes. The mean return is over episodes, higher is better.
      """)

  @Argument(
    help: ArgumentHelp(
      "Controllers that train-controller wrote, or planners by name: idle, random, everyone, download-once, heuristic, one-round, lookahead.",
      valueName: "planner"))
  var planners: [String]

  @Option(help: "Where they plan: anchor.")
  var environment = "anchor"

  @Option(help: "Episodes of each.")
  var episodes = 256

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (1...100_000).contains(episodes) else {
      throw ValidationError("--episodes is \(episodes); it must be between 1 and 100000.")
    }
  }

  private struct Row: Encodable {
    var planner: String
    var meanReturn: Double
    var standardError: Double
    var stepsPerSecond: Double
    /// Of one process, in seconds.
    var secondsPerDecision: Double
  }

  private struct Report: Encodable {
    var environment: String
    var episodes: Int
    var meanReturn: Double
    var standardError: Double
    var stepsPerSecond: Double
    var planners: [Row]
  }

  func run() async throws {
    guard environment == "anchor" else {
      throw PeatError.usage(
        "Unknown environment '\(environment)'. \(suggestion(for: environment, among: ["anchor"]))")
    }
    let policies = try planners.map { ($0, try policy($0)) }
    var rows: [Row] = []
    for (name, policy) in policies {
      try checkInterruption()
      Terminal.status("playing \(name) …")
      rows.append(measure(name, policy))
    }
    guard let first = rows.first else {
      throw PeatError.usage("Name a controller or a planner.")
    }
    try common.report(
      Report(
        environment: environment, episodes: episodes, meanReturn: first.meanReturn,
        standardError: first.standardError, stepsPerSecond: first.stepsPerSecond, planners: rows),
      text: Format.table(
        [["", "mean return", "±", "ms per decision"]]
          + rows.map {
            [
              $0.planner, Format.number($0.meanReturn), Format.number($0.standardError),
              Format.number(1000 * $0.secondsPerDecision, digits: 3),
            ]
          }))
  }

  private func policy(_ name: String) throws -> any ControlPolicy<AnchorCell> {
    if AnchorCell.policyNames.contains(name) {
      return try AnchorCell.policy(named: name, seed: common.seedValue)
    }
    guard FileManager.default.fileExists(atPath: URL(path: name).path) else {
      throw PeatError.usage(
        "'\(name)' is neither a file nor a planner. \(suggestion(for: name, among: AnchorCell.policyNames))"
      )
    }
    let file = try ControllerFile(contentsOf: URL(path: name))
    let wanted = AnchorCell(count: 1, seed: 0).shape
    guard file.facts.shape == wanted else {
      throw PeatError.badData(
        "The controller '\(name)' was trained for \(file.facts.shape.devices) devices with \(file.facts.shape.deviceFeatures) features each and \(file.facts.shape.branches.width) choices; this environment has \(wanted.devices), \(wanted.deviceFeatures) and \(wanted.branches.width)."
      )
    }
    return NetworkPolicy(file.network)
  }

  private func measure(_ name: String, _ policy: any ControlPolicy<AnchorCell>) -> Row {
    let start = ContinuousClock.now
    let returns = policy.play(AnchorCell(count: episodes, seed: common.seedValue &+ 123))
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let steps = Double(episodes * AnchorCell.horizon)
    // By itself, as a federation asks: one state at a time.
    let alone = AnchorCell(count: 1, seed: 5)
    let decisions = 200
    var times: [Double] = []
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: alone.shape.choices) { space in
      guard let actions = space.baseAddress else { return }
      for _ in 0..<decisions {
        let start = ContinuousClock.now
        policy.decide(alone, into: actions)
        times.append((ContinuousClock.now - start) / .seconds(1))
      }
    }
    return Row(
      planner: name, meanReturn: returns.mean, standardError: returns.standardError,
      stepsPerSecond: steps / seconds, secondsPerDecision: times.sorted()[decisions / 2])
  }
}
