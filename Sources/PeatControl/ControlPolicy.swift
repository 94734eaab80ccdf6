import PeatTensor

/// Decides the rounds of an environment's processes: a planner in simulation.
public protocol ControlPolicy<Environment> {
  associatedtype Environment: ControlEnvironment

  /// Writes a joint action for each process, `[count, devices, branches]`.
  func decide(_ environment: Environment, into actions: UnsafeMutablePointer<Int32>)
}

/// The likeliest action of a network.
public final class NetworkPolicy<Environment: ControlEnvironment>: ControlPolicy {
  private let network: any ActorCritic
  private let tape = Tape()
  private let distributions: BranchDistributions

  public init(_ network: any ActorCritic) {
    self.network = network
    distributions = BranchDistributions(network.shape.branches, gated: true)
  }

  public func decide(_ environment: Environment, into actions: UnsafeMutablePointer<Int32>) {
    let shape = environment.shape
    let observations = Tensor(uninitialized: [environment.count, shape.observationSize])
    environment.observe(into: observations.pointer)
    let masks = Array2D<UInt8>(environment.count, shape.logits, 1)
    environment.mask(into: masks.row(0))
    let (logits, _) = network(observations, on: tape)
    distributions.update(
      logits: logits.pointer, mask: masks.row(0), rows: environment.count * shape.devices)
    distributions.greedy(into: actions)
  }
}

/// The returns of whole episodes.
public struct ReturnStatistics: Sendable, Codable, Equatable {
  public var mean: Double
  /// Of the mean.
  public var standardError: Double
  public var episodes: Int

  public init(_ returns: [Double]) {
    episodes = returns.count
    mean = returns.reduce(0, +) / Double(max(returns.count, 1))
    let center = mean
    let square = returns.reduce(0) { $0 + ($1 - center) * ($1 - center) }
    standardError =
      returns.count > 1
      ? (square / Double(returns.count - 1) / Double(returns.count)).squareRoot() : 0
  }
}

extension ControlPolicy {
  /// Plays one episode in each process of a fresh environment.
  public func play(
    _ environment: Environment, shouldStop: () -> Bool = { false }
  ) -> ReturnStatistics {
    playCounting(environment, shouldStop: shouldStop).returns
  }

  /// The same, and how many rounds that took, all processes together.
  public func playCounting(
    _ environment: Environment, shouldStop: () -> Bool = { false }
  ) -> (returns: ReturnStatistics, rounds: Int) {
    let count = environment.count
    let actions = Array2D<Int32>(count, environment.shape.choices, 0)
    let outcomes = Array2D<ControlOutcome>(count, 1, ControlOutcome())
    var returns = Array(repeating: 0.0, count: count)
    var left = Set(0..<count)
    var rounds = 0
    while !left.isEmpty, !shouldStop() {
      decide(environment, into: actions.row(0))
      environment.step(actions.row(0), into: outcomes.row(0))
      rounds += count
      for process in left {
        returns[process] += Double(outcomes.row(process)[0].reward)
      }
      for process in left where outcomes.row(process)[0].ending != .goesOn {
        left.remove(process)
      }
      for process in 0..<count where outcomes.row(process)[0].ending != .goesOn {
        environment.reset(process)
      }
    }
    return (ReturnStatistics(returns), rounds)
  }
}

extension MemoryDemand {
  /// Throws `usage` where so many episodes at once, seen by a network, would take more memory than there is.
  package static func checkPlaying(_ episodes: Int, of shape: ControlShape) throws {
    // An observation and logits in float32, a mask in bytes, an action.
    let numbers = 4 * (shape.observationSize + shape.logits + shape.choices) + shape.logits
    try check(
      bytes: Double(episodes) * Double(numbers), for: "Playing \(episodes) episodes at once",
      advice: "Play fewer (--episodes), or lower the edge's devices.")
  }
}
