import ArgumentParser
import FedPEAT
import Foundation

struct TrainController: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train-controller",
    abstract: "Train the planner that decides who takes part, with which emulator.",
    discussion: """
      Example: fedpeat train-controller --environment pedestrian --out controller.safetensors

      SABPPO: proximal policy optimization with a branch per decision. The network first learns to \
      decide as an exact search does (--cloning). Beside the controller stand its learning curve as .csv and .svg. While it lasts, \
      a file .training keeps what --resume goes on from; no other training replaces it. \
      A return is an episode's sum of rewards, minus what its rounds cost: doing nothing returns -50, higher is better.
      """)

  @Option(help: "The file to write.")
  var out: String

  @Option(help: ArgumentHelp(PlanningWorld.help, valueName: "world"))
  var environment = "pedestrian"

  @Option(
    help:
      "The network: shared, an encoder for each device, for any number of them; or flat, for a fixed number."
  )
  var network = NetworkConfiguration.Kind.shared

  @Option(help: "Width of the network's layers.")
  var width = 64

  @Option(help: "How often devices of the shared network look at what all have in common.")
  var exchanges = 1

  @Option(
    help:
      "Rounds to learn from by PPO, all processes together; whole updates of processes × rounds.")
  var steps = 2_000_000

  @Option(help: "Federations that are played at once.")
  var processes = 64

  @Option(help: "Rounds of each between updates.")
  var rounds = 50

  @Option(help: "Decisions per gradient step.")
  var minibatch = 800

  @Option(help: "Times that each round is learned from.")
  var epochs = 4

  @Option(help: "Learning rate, which falls to zero over the run.")
  var learningRate: Float = 1e-3

  @Option(help: "What a reward is worth a round later.")
  var discount: Float = 0.99

  @Option(
    help:
      "Discount by time instead: a reward that comes so many reference times later is worth 1/e; none if not given."
  )
  var timeConstant: Float?

  @Option(help: "Weight of the entropy.")
  var entropy: Float = 0.001

  @Option(
    help:
      "Iterations in which a search that looks ahead is imitated first; 0: none. (default: 8; 0 for more than 250 devices)"
  )
  var cloning: Int?

  @Option(help: "What the ratio of probabilities is taken of: joint, or perDevice.")
  var ratio = SABPPO.Settings.Ratio.joint

  @Option(
    help:
      "End an update's epochs early where the policy has moved by 1.5 times this, in nats; never if not given."
  )
  var targetDivergence: Float?

  @Flag(help: "Count choices that have no effect, as plain branching does.")
  var plain = false

  @Flag(help: "Keep the learning rate as it is.")
  var constantRate = false

  @Flag(help: "Go on where an interrupted training of the same settings stopped.")
  var resume = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if let cloning, !(0...10_000).contains(cloning) {
      throw ValidationError("--cloning is \(cloning); it must be between 0 and 10000.")
    }
  }

  struct Report: Encodable {
    var environment: String
    /// Of 256 episodes with the likeliest actions, fewer where they are dear.
    var meanReturn: Double
    var standardError: Double
    /// Rounds that PPO learned from, and what that took: also before a break, but for what was not saved then.
    var steps: Int
    var seconds: Double
    var stepsPerSecond: Double
    var stepsPerProcessorSecond: Double
    var parameters: Int
    var controller: String
    /// Devices that it has take part in a round, of how many there are.
    var selectedPerRound: Double
    var devices: Int
    /// Beside planners that need no training.
    var comparison: [ControllerComparison.Rival]
    var verdict: ControllerComparison.Verdict
    /// What to try; `nil` where nothing speaks against the controller.
    var advice: String?
  }

  /// The files that are written beside the controller.
  private static let companions = ["csv", "svg", "training"]

  /// Throws before any work where something of somebody else's would be lost.
  private func checkOutput() throws {
    let target = URL(path: out)
    guard !Self.companions.contains(target.pathExtension.lowercased()) else {
      throw PeatError.usage(
        "--out ends in .\(target.pathExtension), as a file does that is written beside the controller. Call it \(target.deletingPathExtension().lastPathComponent).safetensors."
      )
    }
    try ControllerFile.checkOutput(target)
    for name in Self.companions {
      try AtomicOutput.checkFile(
        target.deletingPathExtension().appendingPathExtension(name),
        "controller's .\(name) file"
      ) { url in
        // What is wrong with one that is to be gone on from is said when it is read.
        if name == "training" {
          return resume || (try? ControllerCheckpoint(contentsOf: url)) != nil
        }
        let text = (try? String(contentsOf: url, encoding: .utf8)) ?? ""
        return name == "csv" ? LearningCurve.isTable(text) : LearningCurve.isPicture(text)
      }
    }
  }

  /// Two trainings of one controller would overwrite each other's state.
  private func lockTraining() throws -> FolderLock {
    try FolderLock(
      of: URL(path: out),
      isBusy: "Another training of '\(out)' is at work. Wait for it, or write to another --out.")
  }

  private func trainingConfiguration(_ world: PlanningWorld) -> ControllerTrainingConfiguration {
    var configuration = ControllerTrainingConfiguration()
    configuration.network = NetworkConfiguration(network, width: width, exchanges: exchanges)
    configuration.steps = steps
    configuration.processes = processes
    configuration.seed = common.seedValue
    configuration.ppo.rounds = rounds
    configuration.ppo.minibatch = minibatch
    configuration.ppo.epochs = epochs
    configuration.ppo.learningRate = learningRate
    configuration.ppo.discount = discount
    configuration.ppo.timeConstant = timeConstant
    configuration.ppo.entropyWeight = entropy
    configuration.ppo.ratio = ratio
    configuration.ppo.targetDivergence = targetDivergence
    configuration.ppo.isGated = !plain
    configuration.ppo.anneals = !constantRate
    configuration.cloning = nil
    let cloning = cloning ?? (steps == 0 || world.devices > 250 ? 0 : 8)
    if cloning != 0 {
      var settings = CloningSettings()
      settings.iterations = cloning
      settings.discount = discount
      configuration.cloning = settings
    }
    return configuration
  }

  func run() async throws {
    let world = try PlanningWorld(environment)
    if case .edge(let edge) = world { edge.tellCautions(named: environment) }
    let configuration = trainingConfiguration(world)
    if configuration.cloning != nil { try world.check("lookahead") }
    try configuration.validate()
    try checkOutput()
    let lock = try lockTraining()
    defer { lock.remove() }
    let checkpoint = try ControllerCheckpoint.read(of: URL(path: out), resume: resume)
    let (report, comparison) = try world.open(
      ControllerTrial(
        configuration: configuration, environment: environment,
        fingerprint: try world.fingerprint, out: out, checkpoint: checkpoint))
    let rows =
      [
        ["written to", out],
        ["rounds learned from", Format.count(report.steps)],
        ["rounds/s", Format.number(report.stepsPerSecond, digits: 0)],
      ] + comparison.rows
    let text = [Format.table(rows), comparison.sentence, report.advice]
    try common.report(report, text: text.compactMap(\.self).joined(separator: "\n"))
  }
}

extension NetworkConfiguration.Kind: ExpressibleByArgument {}

extension SABPPO.Settings.Ratio: ExpressibleByArgument {}
