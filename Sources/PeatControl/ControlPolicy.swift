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

/// Episodes that were played side by side, one in each process.
public struct PlayedEpisodes: Sendable {
  /// Of each process.
  public var returns: [Double]
  /// Rounds that were played, all processes together.
  public var rounds = 0
  /// How often a device was told to take part, in these episodes and their rounds together.
  public var selections = 0
  public var selectionRounds = 0

  public var statistics: ReturnStatistics { ReturnStatistics(returns) }
  /// Devices in a round.
  public var selectedPerRound: Double {
    Double(selections) / Double(max(selectionRounds, 1))
  }
}

extension ControlPolicy {
  /// Plays one episode in each process of a fresh environment.
  public func play(
    _ environment: Environment, shouldStop: () -> Bool = { false }
  ) -> ReturnStatistics {
    playEpisodes(environment, shouldStop: shouldStop).statistics
  }

  /// The same, with what each came to.
  ///
  /// - Parameter onEnding: called with a process whose episode ended, before another begins there.
  public func playEpisodes(
    _ environment: Environment, shouldStop: () -> Bool = { false },
    onEnding: (_ process: Int) -> Void = { _ in }
  ) -> PlayedEpisodes {
    let (count, shape) = (environment.count, environment.shape)
    let actions = Array2D<Int32>(count, shape.choices, 0)
    let outcomes = Array2D<ControlOutcome>(count, 1, ControlOutcome())
    var played = PlayedEpisodes(returns: Array(repeating: 0, count: count))
    var left = Set(0..<count)
    while !left.isEmpty, !shouldStop() {
      decide(environment, into: actions.row(0))
      environment.step(actions.row(0), into: outcomes.row(0))
      played.rounds += count
      played.selectionRounds += left.count
      for process in left {
        played.returns[process] += Double(outcomes.row(process)[0].reward)
        let own = actions.row(process) + ActionBranches.Place.select
        for device in 0..<shape.devices {
          played.selections += Int(own[device * shape.branches.count])
        }
      }
      for process in 0..<count where outcomes.row(process)[0].ending != .goesOn {
        if left.remove(process) != nil { onEnding(process) }
        environment.reset(process)
      }
    }
    return played
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
