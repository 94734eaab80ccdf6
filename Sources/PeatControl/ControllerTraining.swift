import PeatNN
import PeatTensor

/// How a controller is trained.
public struct ControllerTrainingConfiguration: Sendable, Codable, Equatable {
  public var network = NetworkConfiguration()
  public var ppo = PPOSettings()
  /// Teaches the network to decide as a search does before it learns by itself; `nil`: it begins with chance.
  public var cloning: CloningSettings? = CloningSettings()
  /// Rounds to learn by PPO, all processes together.
  public var steps = 640_000
  /// Federations that are played at once.
  public var processes = 64
  public var seed: UInt64 = 0

  public init() {}

  /// Updates of PPO.
  public var iterations: Int { max(1, steps / max(1, processes * ppo.rounds)) }

  /// Throws `usage` where a setting is out of its range.
  public func validate() throws {
    try network.validate()
    try ppo.validate()
    try cloning?.validate()
    guard (0...1_000_000_000).contains(steps) else {
      throw PeatError.usage(
        "The number of rounds to learn from is \(steps); it must be 0 to 1000000000.")
    }
    guard steps > 0 || cloning != nil else {
      throw PeatError.usage(
        "There is nothing to learn: the number of rounds to learn from is 0, and no search is imitated. Raise --steps, or imitate a search with --cloning."
      )
    }
    guard (1...100_000).contains(processes) else {
      throw PeatError.usage("The number of processes is \(processes); it must be 1 to 100000.")
    }
    // What is played between updates is held in memory.
    let most = 4_000_000
    for rounds in [ppo.rounds, cloning?.rounds ?? 1] where rounds * processes > most {
      throw PeatError.usage(
        "\(processes) processes × \(rounds) rounds are more than the \(most) that are held between updates."
      )
    }
  }

  /// How many iterations lie between checkpoints. Each begins in fresh environments, so that what has to be kept is small.
  var segment: Int { 20 }

  /// Of the environments that PPO learns in from an iteration on, and of those in which an expert is imitated.
  func seed(ofIteration iteration: Int) -> UInt64 { seed &+ UInt64(iteration) &* 0x9E37_79B9 }
  var cloningSeed: UInt64 { seed &+ 1 }

  /// Of environments that nothing is learned in, for measuring what was learned: always the same, but where that is one of training's.
  public var evaluationSeed: UInt64 {
    let usual: UInt64 = 123
    let isTrainedOn =
      cloning != nil && cloningSeed == usual
      || steps > 0
        && stride(from: 0, to: iterations, by: segment).contains { seed(ofIteration: $0) == usual }
    var fresh = SeededRandom(seed: usual, "evaluation of a controller")
    return isTrainedOn ? fresh.next() : usual
  }

  /// Throws `usage` where training in such an environment would take more memory than there is.
  func check(_ shape: ControlShape) throws {
    let rounds = Double(max(ppo.rounds, cloning?.rounds ?? 1) * processes)
    // Observations, logits, masks and actions of what is played; the network's values, gradients and moments.
    let played = rounds * Double(shape.observationSize + shape.logits + shape.choices)
    let weights = network.layout(for: shape).values.reduce(0.0) { sum, size in
      sum + size.reduce(1.0) { $0 * Double($1) }
    }
    try MemoryDemand.check(
      bytes: 4 * played + 20 * weights, for: "Training with \(processes) processes",
      advice:
        "Use fewer --processes, --rounds or --exchanges, less --width, or fewer devices: a shared network runs on any number."
    )
  }
}

/// Trains a controller in an environment: a warm start from an expert, and then PPO.
public final class ControllerTraining<Environment: ControlEnvironment> {
  /// What has just been done.
  public enum Event: Sendable {
    case cloned(CloningReport, of: Int)
    case learned(PPO.Report, of: Int)
  }

  public let configuration: ControllerTrainingConfiguration
  public let network: any ActorCritic
  public private(set) var curve: [PPO.Report] = []
  private var resumed: ControllerCheckpoint?
  /// Names the environment in checkpoints.
  private let environment: String
  private let makeEnvironment: (_ processes: Int, _ seed: UInt64) throws -> Environment
  private let expert: (any ControlPolicy<Environment>)?

  /// - Parameters:
  ///   - environment: names it, so that a checkpoint goes on in no other.
  ///   - expert: whom to learn from first.
  ///   - shouldStop: asked while a large network is made.
  ///   - makeEnvironment: environments of any number of processes, by seed.
  /// - Throws: `usage` where a setting is out of range; `interrupted` where somebody wanted it to stop.
  public init(
    _ configuration: ControllerTrainingConfiguration, environment: String = "",
    expert: (any ControlPolicy<Environment>)? = nil, shouldStop: () -> Bool = { false },
    _ makeEnvironment: @escaping (_ processes: Int, _ seed: UInt64) throws -> Environment
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    self.makeEnvironment = makeEnvironment
    self.environment = environment
    self.expert = expert
    let shape = try makeEnvironment(1, 0).shape
    try configuration.check(shape)
    network = try configuration.network.make(
      for: shape, seed: configuration.seed, shouldStop: shouldStop)
  }

  /// Goes on where a checkpoint was made, to the same bits as without a break.
  ///
  /// - Throws: `usage` where it is of another training.
  public func resume(_ checkpoint: ControllerCheckpoint) throws {
    guard checkpoint.facts.environment == environment else {
      throw PeatError.usage(
        "The saved training was made in another environment than this. Name the same, or begin anew without --resume."
      )
    }
    guard checkpoint.facts.configuration == configuration else {
      throw PeatError.usage(
        "The saved training has other settings than these. Give the same, or begin anew without --resume."
      )
    }
    resumed = checkpoint
    curve = checkpoint.facts.curve
  }

  /// Trains to the end, or until somebody wants it to stop; the network is then what it was after the last iteration.
  ///
  /// - Parameter onCheckpoint: called now and then while PPO learns.
  public func run(
    shouldStop: () -> Bool = { false },
    onCheckpoint: (ControllerCheckpoint) throws -> Void = { _ in },
    onEvent: (Event) -> Void = { _ in }
  ) throws {
    if resumed == nil, let settings = configuration.cloning, let expert {
      let cloning = try BehaviourCloning(
        try makeEnvironment(configuration.processes, configuration.cloningSeed), expert: expert,
        network: network, settings: settings, seed: configuration.seed)
      defer { cloning.finish() }
      while !cloning.isFinished, !shouldStop() {
        onEvent(.cloned(cloning.advance(), of: settings.iterations))
      }
    }
    guard configuration.steps > 0, !shouldStop() else { return }
    let iterations = configuration.iterations
    let ppo = try PPO(
      try makeEnvironment(configuration.processes, configuration.seed), network: network,
      settings: configuration.ppo, iterations: iterations, seed: configuration.seed)
    defer { ppo.finish() }
    if let resumed { try resumed.restore(ppo) }
    while ppo.iteration < iterations, !shouldStop() {
      if ppo.iteration % configuration.segment == 0, ppo.iteration > 0 {
        let seed = configuration.seed(ofIteration: ppo.iteration)
        ppo.restart(in: try makeEnvironment(configuration.processes, seed), seed: seed)
        try onCheckpoint(
          ControllerCheckpoint(ppo, configuration, environment: environment, curve: curve))
      }
      curve.append(try ppo.advance())
      onEvent(.learned(curve[curve.count - 1], of: iterations))
    }
  }
}
