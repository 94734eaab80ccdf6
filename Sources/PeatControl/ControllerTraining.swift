import PeatNN
import PeatTensor

/// How a controller is trained.
public struct ControllerTrainingConfiguration: Sendable, Codable, Equatable {
  public var network = NetworkConfiguration()
  public var ppo = SABPPO.Settings()
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
    // Whom an expert was asked about stays until imitating is over.
    let lessons = Double(cloning?.rounds ?? 0) * Double(cloning?.iterations ?? 0)
    let rounds = max(Double(ppo.rounds), lessons) * Double(processes)
    // Observations, logits, masks and actions of what is played; the network's values, gradients and moments.
    let played = rounds * Double(shape.observationSize + shape.logits + shape.choices)
    let weights = network.layout(for: shape).values.reduce(0.0) { sum, size in
      sum + size.reduce(1.0) { $0 * Double($1) }
    }
    try MemoryDemand.check(
      bytes: 4 * played + 20 * weights, for: "Training with \(processes) processes",
      advice:
        "Use fewer --processes, --rounds, --cloning or --exchanges, less --width, or fewer devices: a shared network runs on any number."
    )
  }
}

/// Trains a controller in an environment: a warm start from an expert, and then PPO.
public final class ControllerTraining<Environment: ControlEnvironment> {
  /// What has just been done.
  public enum Event: Sendable {
    case imitating(CloningProgress)
    case cloned(CloningReport, of: Int)
    case learned(SABPPO.Report, of: Int)
  }

  public let configuration: ControllerTrainingConfiguration
  public let network: any ActorCritic
  public private(set) var curve: [SABPPO.Report] = []
  private var resumed: ControllerCheckpoint?
  /// Names the environment in checkpoints: with all that defines it, and as its user does.
  let environment: (fingerprint: String, name: String)
  private let makeEnvironment: (_ processes: Int, _ seed: UInt64) throws -> Environment
  private let expert: (any ControlPolicy<Environment>)?

  /// - Parameters:
  ///   - fingerprint: of the environment, with all that defines it: a checkpoint goes on in no other.
  ///   - name: what its user calls it.
  ///   - expert: whom to learn from first.
  ///   - shouldStop: asked while a large network is made.
  ///   - makeEnvironment: environments of any number of processes, by seed.
  /// - Throws: `usage` where a setting is out of range; `interrupted` where somebody wanted it to stop.
  public init(
    _ configuration: ControllerTrainingConfiguration, environment fingerprint: String = "",
    named name: String = "", expert: (any ControlPolicy<Environment>)? = nil,
    shouldStop: () -> Bool = { false },
    _ makeEnvironment: @escaping (_ processes: Int, _ seed: UInt64) throws -> Environment
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    self.makeEnvironment = makeEnvironment
    environment = (fingerprint, name)
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
    let saved = checkpoint.facts
    guard saved.environment == environment.fingerprint else {
      let (old, new) = (saved.environmentName ?? "another", environment.name)
      throw PeatError.usage(
        "The saved training was made in another environment than this: "
          + (old == new
            ? "'\(new)' has changed since. Put back what it was,"
            : "'\(old)', here it is '\(new)'. Name the same,") + " or begin anew without --resume."
      )
    }
    guard saved.configuration == configuration else {
      throw PeatError.usage(
        "The saved training has other settings than these: \(try configuration.differences(from: saved.configuration)). Give the same, or begin anew without --resume."
      )
    }
    resumed = checkpoint
    curve = saved.curve
  }

  /// Trains to the end, or until somebody wants it to stop.
  ///
  /// - Parameter onCheckpoint: called after each iteration in which the expert is imitated, and now and then while PPO learns.
  /// - Returns: whether it came to the end; else the network is of no use, and what can be gone on from is the last checkpoint.
  @discardableResult
  public func run(
    shouldStop: () -> Bool = { false },
    onCheckpoint: (ControllerCheckpoint) throws -> Void = { _ in },
    onEvent: (Event) -> Void = { _ in }
  ) throws -> Bool {
    guard try imitate(shouldStop, onCheckpoint, onEvent) else { return false }
    guard configuration.steps > 0 else { return true }
    let iterations = configuration.iterations
    let ppo = try SABPPO(
      try makeEnvironment(configuration.processes, configuration.seed), network: network,
      settings: configuration.ppo, iterations: iterations, seed: configuration.seed)
    defer { ppo.finish() }
    if let resumed, resumed.facts.cloning == nil {
      try ppo.resume(resumed.learnerState(), after: resumed.facts.iteration)
    }
    while ppo.iteration < iterations {
      if shouldStop() { return false }
      if ppo.iteration % configuration.segment == 0, ppo.iteration > 0 {
        let seed = configuration.seed(ofIteration: ppo.iteration)
        ppo.restart(in: try makeEnvironment(configuration.processes, seed), seed: seed)
        try onCheckpoint(ControllerCheckpoint(ppo, self))
      }
      curve.append(try ppo.advance())
      onEvent(.learned(curve[curve.count - 1], of: iterations))
    }
    return true
  }

  /// The warm start, where one is wanted and not behind it already; returns whether it came to its end.
  private func imitate(
    _ shouldStop: () -> Bool, _ onCheckpoint: (ControllerCheckpoint) throws -> Void,
    _ onEvent: (Event) -> Void
  ) throws -> Bool {
    guard let settings = configuration.cloning, let expert else { return true }
    let state = try resumed?.cloningState()
    if resumed != nil, state == nil { return true }
    let cloning = try BehaviourCloning(
      try makeEnvironment(configuration.processes, configuration.cloningSeed), expert: expert,
      network: network, settings: settings, seed: configuration.seed)
    defer { cloning.finish() }
    if let state, try !cloning.resume(state, shouldStop: shouldStop) { return false }
    while !cloning.isFinished {
      let report = cloning.advance(shouldStop: shouldStop) { onEvent(.imitating($0)) }
      guard let report else { return false }
      onEvent(.cloned(report, of: settings.iterations))
      try onCheckpoint(ControllerCheckpoint(cloning.state, self))
    }
    return true
  }
}
