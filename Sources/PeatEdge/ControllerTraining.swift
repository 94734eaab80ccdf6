import PeatControl
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
    try ppo.validate()
    try cloning?.validate()
    guard (0...1_000_000_000).contains(steps) else {
      throw PeatError.usage("steps is \(steps); it must be 0 to 1000000000.")
    }
    guard (1...100_000).contains(processes) else {
      throw PeatError.usage("processes is \(processes); it must be 1 to 100000.")
    }
    // What is played between updates is held in memory.
    let most = 4_000_000
    for rounds in [ppo.rounds, cloning?.rounds ?? 1] where rounds * processes > most {
      throw PeatError.usage(
        "\(processes) processes × \(rounds) rounds are more than the \(most) that are held between updates."
      )
    }
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
  private let makeEnvironment: (_ processes: Int, _ seed: UInt64) throws -> Environment
  private let expert: (any ControlPolicy<Environment>)?

  /// - Parameters:
  ///   - expert: whom to learn from first.
  ///   - makeEnvironment: environments of any number of processes, by seed.
  /// - Throws: `usage` where a setting is out of range.
  public init(
    _ configuration: ControllerTrainingConfiguration,
    expert: (any ControlPolicy<Environment>)? = nil,
    _ makeEnvironment: @escaping (_ processes: Int, _ seed: UInt64) throws -> Environment
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    self.makeEnvironment = makeEnvironment
    self.expert = expert
    network = try configuration.network.make(
      for: try makeEnvironment(1, 0).shape, seed: configuration.seed)
  }

  /// Trains to the end, or until somebody wants it to stop; the network is then what it was after the last iteration.
  public func run(
    shouldStop: () -> Bool = { false }, onEvent: (Event) -> Void = { _ in }
  ) throws {
    if let settings = configuration.cloning, let expert {
      let cloning = try BehaviourCloning(
        try makeEnvironment(configuration.processes, configuration.seed &+ 1), expert: expert,
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
    while ppo.iteration < iterations, !shouldStop() {
      curve.append(try ppo.advance())
      onEvent(.learned(curve[curve.count - 1], of: iterations))
    }
  }
}
