import ArgumentParser
import FedPEAT
import Foundation
import PeatControl
import PeatEdge

struct TrainController: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train-controller",
    abstract: "Train the planner that decides who takes part, with which emulator.",
    discussion: """
      Example: fedpeat train-controller --out controller.safetensors --steps 640000

      SABPPO: proximal policy optimization with a branch per decision. The network first learns to decide as an exact \
      search does, then improves by itself. Beside the controller stand its learning curve as .csv and .svg.
      """)

  @Option(help: "The file to write.")
  var out: String

  @Option(
    help:
      "What to train in: anchor, the ten-device environment that other learners were measured in.")
  var environment = "anchor"

  @Option(
    help:
      "The network: shared, an encoder for each device, for any number of them; or flat, for a fixed number."
  )
  var network = NetworkConfiguration.Kind.shared

  @Option(help: "Width of the network's layers.")
  var width = 64

  @Option(help: "Rounds to learn from by PPO, all processes together.")
  var steps = 640_000

  @Option(help: "Federations that are played at once.")
  var processes = 64

  @Option(help: "Rounds of each between updates.")
  var rounds = 50

  @Option(help: "Decisions per gradient step.")
  var minibatch = 800

  @Option(help: "Times that each round is learned from.")
  var epochs = 4

  @Option(help: "Learning rate; 0.0003, or 0.0001 after cloning, if not given.")
  var learningRate: Float?

  @Option(help: "What a reward is worth a round later.")
  var discount: Float = 0.97

  @Option(help: "Weight of the entropy; 0.001, or 0 after cloning, if not given.")
  var entropy: Float?

  @Option(
    help:
      "Rounds of episodes in which an exact search is imitated first, in iterations of 64 × 50 rounds; 0: none."
  )
  var cloning = 8

  @Option(help: "What the ratio of probabilities is taken of: joint, or perDevice.")
  var ratio = PPOSettings.Ratio.joint

  @Flag(help: "Count choices that have no effect, as plain branching does.")
  var plain = false

  @Flag(help: "Keep the learning rate as it is.")
  var constantRate = false

  @OptionGroup var common: CommonOptions

  private struct Report: Encodable {
    var meanReturn: Double?
    var standardError: Double?
    var steps: Int
    var seconds: Double
    var stepsPerSecond: Double
    var stepsPerProcessorSecond: Double
    var parameters: Int
    var controller: String
  }

  func run() async throws {
    guard environment == "anchor" else {
      throw PeatError.usage(
        "Unknown environment '\(environment)'. \(suggestion(for: environment, among: ["anchor"]))")
    }
    var configuration = ControllerTrainingConfiguration()
    configuration.network = NetworkConfiguration(network, width: width)
    configuration.steps = steps
    configuration.processes = processes
    configuration.seed = common.seedValue
    configuration.ppo.rounds = rounds
    configuration.ppo.minibatch = minibatch
    configuration.ppo.epochs = epochs
    configuration.ppo.learningRate = learningRate ?? (cloning > 0 ? 1e-4 : 3e-4)
    configuration.ppo.discount = discount
    configuration.ppo.entropyWeight = entropy ?? (cloning > 0 ? 0 : 0.001)
    configuration.ppo.ratio = ratio
    configuration.ppo.isGated = !plain
    configuration.ppo.anneals = !constantRate
    configuration.cloning = nil
    if cloning != 0 {
      var settings = CloningSettings()
      settings.iterations = cloning
      settings.discount = discount
      configuration.cloning = settings
    }
    let target = URL(path: out)
    let training = try ControllerTraining(
      configuration, expert: AnchorSearch(rounds: 20)
    ) { AnchorCell(count: $0, seed: $1) }
    let watch = ContinuousClock.now
    var learned = (steps: 0, seconds: 0.0, processor: 0.0)
    var last = (time: watch, processor: ProcessMeasurement.processorSeconds)
    try training.run(shouldStop: { Interruption.isRequested }) { event in
      let now = (time: ContinuousClock.now, processor: ProcessMeasurement.processorSeconds)
      switch event {
      case .cloned(let report, let count):
        Terminal.note(
          "imitating    \(report.iteration) of \(count): loss \(Format.number(report.loss)), return "
            + (report.meanReturn.map { Format.number($0) } ?? "-"))
      case .learned(let report, let count):
        learned.steps = report.steps
        learned.seconds += (now.time - last.time) / .seconds(1)
        learned.processor += now.processor - last.processor
        let left = Double(count - report.iteration) * learned.seconds / Double(report.iteration)
        Terminal.status(
          "learning: \(Format.count(report.steps)) rounds  return "
            + (report.meanReturn.map { Format.number($0) } ?? "-")
            + "  \(Format.number(Double(report.steps) / learned.seconds, digits: 0)) rounds/s  "
            + "\(Format.time(.seconds(left))) left")
      }
      last = now
    }
    let file = ControllerFile(
      training.network,
      facts: .init(
        network: configuration.network, shape: training.network.shape, environment: environment,
        steps: learned.steps))
    try file.write(to: target)
    let returns = NetworkPolicy<AnchorCell>(training.network).play(
      AnchorCell(count: 256, seed: 123))
    try common.report(
      Report(
        meanReturn: returns.mean, standardError: returns.standardError, steps: learned.steps,
        seconds: learned.seconds,
        stepsPerSecond: learned.seconds > 0 ? Double(learned.steps) / learned.seconds : 0,
        stepsPerProcessorSecond: learned.processor > 0
          ? Double(learned.steps) / learned.processor : 0,
        parameters: training.network.parameters.reduce(0) { $0 + $1.count }, controller: out),
      text: Format.table([
        ["written to", out],
        [
          "mean return",
          "\(Format.number(returns.mean)) ± \(Format.number(returns.standardError)) (\(returns.episodes) episodes)",
        ],
        ["rounds learned from", Format.count(learned.steps)],
        [
          "rounds/s",
          Format.number(
            learned.seconds > 0 ? Double(learned.steps) / learned.seconds : 0, digits: 0),
        ],
      ]))
  }
}

extension NetworkConfiguration.Kind: ExpressibleByArgument {}

extension PPOSettings.Ratio: ExpressibleByArgument {}
