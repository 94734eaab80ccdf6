import ArgumentParser
import FedPEAT
import Foundation

struct TrainController: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train-controller",
    abstract: "Train the planner that decides who takes part, with which emulator.",
    discussion: """
      Example: fedpeat train-controller --environment pedestrian --out controller.safetensors

      SABPPO: proximal policy optimization with a branch per decision. With --cloning the network first learns to \
      decide as an exact search does. Beside the controller stand its learning curve as .csv and .svg. While it lasts, \
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

  @Option(help: "Iterations in which a search that looks ahead is imitated first; 0: none.")
  var cloning = 0

  @Option(help: "What the ratio of probabilities is taken of: joint, or perDevice.")
  var ratio = PPOSettings.Ratio.joint

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
    guard (0...10_000).contains(cloning) else {
      throw ValidationError("--cloning is \(cloning); it must be between 0 and 10000.")
    }
  }

  struct Report: Encodable {
    var environment: String
    /// Of 256 episodes with the likeliest actions, fewer where they are dear.
    var meanReturn: Double
    var standardError: Double
    var steps: Int
    /// Of learning by PPO.
    var seconds: Double
    var stepsPerSecond: Double
    var stepsPerProcessorSecond: Double
    var parameters: Int
    var controller: String
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
        if name == "training" { return (try? ControllerCheckpoint(contentsOf: url)) != nil }
        let text = (try? String(contentsOf: url, encoding: .utf8)) ?? ""
        return name == "csv" ? LearningCurve.isTable(text) : LearningCurve.isPicture(text)
      }
    }
  }

  private func trainingConfiguration() -> ControllerTrainingConfiguration {
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
    if case .edge(let edge) = world { edge.tellCautions() }
    let configuration = trainingConfiguration()
    try configuration.validate()
    try checkOutput()
    let checkpoint = try ControllerCheckpoint.read(of: URL(path: out), resume: resume)
    let (report, returns) = try world.open(
      Training(
        configuration: configuration, environment: environment,
        fingerprint: try world.fingerprint, out: out, checkpoint: checkpoint))
    try common.report(
      report,
      text: Format.table([
        ["written to", out],
        [
          "mean return",
          "\(Format.number(returns.mean)) ± \(Format.number(returns.standardError)) (\(returns.episodes) episodes)",
        ],
        ["rounds learned from", Format.count(report.steps)],
        ["rounds/s", Format.number(report.stepsPerSecond, digits: 0)],
      ]))
  }
}

/// Trains, measures and writes.
private struct Training: WorldVisitor {
  let configuration: ControllerTrainingConfiguration
  let environment: String
  let fingerprint: String
  let out: String
  /// What it goes on from.
  let checkpoint: ControllerCheckpoint?

  func visit<Environment: ControlEnvironment>(
    make: @escaping (Int, UInt64) throws -> Environment,
    planner: (String, UInt64) throws -> any ControlPolicy<Environment>
  ) throws -> (TrainController.Report, ReturnStatistics) {
    Terminal.status("making the network …")
    let training = try ControllerTraining(
      configuration, environment: fingerprint, expert: try planner("lookahead", configuration.seed),
      shouldStop: { Interruption.isRequested }, make)
    var speed = Speed()
    let target = URL(path: out)
    let saved = ControllerCheckpoint.url(of: target)
    var isSaved = checkpoint != nil
    if let checkpoint {
      try training.resume(checkpoint)
      Terminal.note("going on      after \(Format.count(checkpoint.steps)) rounds")
      speed = Speed(from: checkpoint.steps)
    }
    try training.run(
      shouldStop: { Interruption.isRequested },
      onCheckpoint: {
        try $0.write(to: saved)
        isSaved = true
      },
      onEvent: { speed.tell($0) })
    if Interruption.isRequested {
      throw PeatError(
        .interrupted,
        "Interrupted after \(speed.steps) rounds; '\(out)' is as it was. "
          + (isSaved
            ? "The same command with --resume goes on from '\(saved.lastPathComponent)'."
            : "It was too early to have saved anything."))
    }
    var curve = LearningCurve(training.curve)
    try write(training.network, curve, steps: speed.steps, to: target)
    try? FileManager.default.removeItem(at: saved)
    // From here on what was trained is there, whole; what is left is to say how good it is.
    let seed = configuration.evaluationSeed
    let episodes = try Episodes(in: make(1, seed), configuration.network)
    Terminal.note(
      "measuring    \(episodes.ofController) episodes with the controller"
        + (episodes.ofSearches > 0
          ? ", \(episodes.ofSearches) with each of heuristic and lookahead" : "")
        + "; '\(out)' is written")
    for name in ["heuristic", "lookahead"] where episodes.ofSearches > 0 {
      Terminal.status("measuring \(name): \(episodes.ofSearches) episodes …")
      let own = try planner(name, 0).play(try make(episodes.ofSearches, seed)) {
        Interruption.isRequested
      }
      try checkMeasuring()
      curve.marks.append((name, own.mean))
    }
    Terminal.status("measuring the controller: \(episodes.ofController) episodes …")
    let returns = NetworkPolicy<Environment>(training.network).play(
      try make(episodes.ofController, seed)
    ) { Interruption.isRequested }
    try checkMeasuring()
    try AtomicOutput.write(Data(curve.svg.utf8), to: companion("svg"))
    return (
      TrainController.Report(
        environment: environment, meanReturn: returns.mean, standardError: returns.standardError,
        steps: speed.steps, seconds: speed.seconds, stepsPerSecond: speed.perSecond,
        stepsPerProcessorSecond: speed.perProcessorSecond,
        parameters: training.network.parameters.reduce(0) { $0 + $1.count }, controller: out),
      returns
    )
  }
}

extension Training {
  private func companion(_ name: String) -> URL {
    URL(path: out).deletingPathExtension().appendingPathExtension(name)
  }

  /// The controller with its learning curve, one right after the other.
  private func write(
    _ network: any ActorCritic, _ curve: LearningCurve, steps: Int, to target: URL
  ) throws {
    let (csv, svg) = (Data(curve.csv.utf8), Data(curve.svg.utf8))
    try ControllerFile(
      network,
      facts: .init(
        network: configuration.network, shape: network.shape, environment: environment,
        steps: steps)
    ).write(to: target)
    try AtomicOutput.write(csv, to: companion("csv"))
    try AtomicOutput.write(svg, to: companion("svg"))
  }

  private func checkMeasuring() throws {
    guard Interruption.isRequested else { return }
    throw PeatError(
      .interrupted,
      "Interrupted while measuring. The controller is trained: '\(out)' is whole, with its learning curve. Measure it with 'fedpeat evaluate-controller \(out) lookahead --environment \(environment)'."
    )
  }
}

/// How many episodes are played to say how good a controller is: by sizes alone, so that the same training always says the same.
private struct Episodes {
  /// With the controller, and with each of those it is drawn beside; 0 where a few would say nothing.
  let ofController: Int
  let ofSearches: Int

  init(in environment: some ControlEnvironment, _ network: NetworkConfiguration) {
    let shape = environment.shape
    let rounds = (environment as? EdgeEnvironment)?.configuration.rounds ?? 50
    let devices = Double(shape.devices)
    let weights = network.layout(for: shape).values.reduce(0.0) { sum, size in
      sum + size.reduce(1.0) { $0 * Double($1) }
    }
    // A shared network looks at each device; beside that, a cell's own work.
    let each =
      Double(rounds) * (weights * (network.kind == .shared ? devices : 1) + 20_000 * devices)
    ofController = Int(rounding: min(256, max(16, 1e12 / each)))
    // A search takes about the square of the devices: a minute at most.
    let own = Int(rounding: min(64, 32e6 / (devices * devices * Double(rounds))))
    ofSearches = own < 8 ? 0 : own
  }
}

/// How fast learning goes; says so as it goes.
private struct Speed {
  private(set) var steps: Int
  private let first: Int
  private(set) var seconds = 0.0
  private var processorSeconds = 0.0
  private var last = (time: ContinuousClock.now, processor: ProcessMeasurement.processorSeconds)

  /// - Parameter steps: rounds that were learned from before.
  init(from steps: Int = 0) {
    self.steps = steps
    first = steps
  }

  private var own: Double { Double(steps - first) }
  var perSecond: Double { seconds > 0 ? own / seconds : 0 }
  var perProcessorSecond: Double { processorSeconds > 0 ? own / processorSeconds : 0 }

  mutating func tell<Environment>(_ event: ControllerTraining<Environment>.Event) {
    let now = (time: ContinuousClock.now, processor: ProcessMeasurement.processorSeconds)
    func shown(_ value: Double?) -> String { value.map { Format.number($0) } ?? "-" }
    switch event {
    case .cloned(let report, let count):
      Terminal.note(
        "imitating    \(report.iteration) of \(count): loss \(Format.number(report.loss)), return \(shown(report.meanReturn))"
      )
    case .learned(let report, let count):
      steps = report.steps
      seconds += (now.time - last.time) / .seconds(1)
      processorSeconds += now.processor - last.processor
      let perIteration = Double(report.steps) / Double(report.iteration)
      let left = Double(count - report.iteration) * perIteration / max(perSecond, 1e-9)
      let (rate, steps) = (perSecond, steps)
      Terminal.status(
        "learning: \(Format.count(steps)) rounds  return \(shown(report.meanReturn))  "
          + "\(Format.number(rate, digits: 0)) rounds/s  \(Format.time(.seconds(left))) left")
    }
    last = now
  }
}

extension NetworkConfiguration.Kind: ExpressibleByArgument {}

extension PPOSettings.Ratio: ExpressibleByArgument {}
