import PeatNN
import PeatTensor

/// How a network is taught by another policy.
public struct CloningSettings: Sendable, Codable, Equatable {
  /// Rounds that each process is played, per iteration.
  public var rounds = 50
  /// The first is played by the expert, the others by the network.
  public var iterations = 8
  public var epochs = 4
  public var minibatch = 800
  public var learningRate: Float = 1e-3
  public var discount: Float = 0.97
  public var valueWeight: Float = 0.5

  public init() {}

  /// Throws `usage` where a setting is out of its range.
  public func validate() throws {
    for (name, value) in [
      ("rounds", rounds), ("iterations", iterations), ("epochs", epochs), ("minibatch", minibatch),
    ] where !(1...10_000_000).contains(value) {
      throw PeatError.usage(
        "Imitating: the number of \(name) is \(value); it must be 1 to 10000000.")
    }
    guard learningRate > 0, learningRate <= 1, discount >= 0, discount <= 1, valueWeight >= 0
    else {
      throw PeatError.usage(
        "Imitating: the learning rate must be above 0 and at most 1, the discount 0 to 1, the weight of values at least 0."
      )
    }
  }
}

/// What an iteration of cloning did.
public struct CloningReport: Sendable, Codable, Equatable {
  public var iteration: Int
  /// −log π of the expert's joint decisions, in nats.
  public var loss: Double
  /// The mean return of the episodes that ended.
  public var meanReturn: Double?
}

/// Teaches a network to decide as another policy does, as a warm start for PPO.
///
/// The expert is asked in states that it reaches itself and then in states that the network reaches, so that the network also
/// learns what to do after its own mistakes. The loss of a minibatch, with the expert's decision a and the discounted return R
/// of what was played:
///
///     L = −mean log π(a|o) + c_v · ½ mean (V − R)²
///
/// Source: Ross, Gordon and Bagnell 2011, *DAgger*, <https://arxiv.org/abs/1011.0686>.
public final class BehaviourCloning<Environment: ControlEnvironment> {
  private let environment: Environment
  private let expert: any ControlPolicy<Environment>
  private let network: any ActorCritic
  private let settings: CloningSettings
  private let training: NetworkTraining
  private var random: SeededRandom
  private let distributions: BranchDistributions
  /// All that the expert has said so far.
  private var lessons: [Rollout] = []
  private var iteration = 0

  public init(
    _ environment: Environment, expert: any ControlPolicy<Environment>, network: any ActorCritic,
    settings: CloningSettings = CloningSettings(), seed: UInt64
  ) throws {
    try settings.validate()
    self.environment = environment
    self.expert = expert
    self.network = network
    self.settings = settings
    training = try NetworkTraining(network, in: environment.shape)
    random = SeededRandom(seed: seed, "cloning")
    distributions = BranchDistributions(network.shape.branches, gated: true)
  }

  public var isFinished: Bool { iteration >= settings.iterations }

  /// Freezes the network again.
  public func finish() { training.trainable.release() }

  /// Plays and asks, then learns from all that was ever said.
  public func advance() -> CloningReport {
    let returns = play()
    let total = settings.iterations * settings.epochs
    var loss = 0.0
    for epoch in 0..<settings.epochs {
      let progress = Float(iteration * settings.epochs + epoch) / Float(total)
      loss = learn(rate: settings.learningRate * (1 - progress))
    }
    iteration += 1
    return CloningReport(
      iteration: iteration, loss: loss,
      meanReturn: returns.isEmpty ? nil : returns.reduce(0, +) / Double(returns.count))
  }

  private func play() -> [Double] {
    let lesson = Rollout(
      environment.shape, processes: environment.count, rounds: settings.rounds)
    let played = Array2D<Int32>(environment.count, environment.shape.choices, 0)
    var returns = Array(repeating: 0.0, count: environment.count)
    var ended: [Double] = []
    for process in 0..<environment.count { environment.reset(process) }
    for round in 0..<settings.rounds {
      let place = lesson.places(of: round)
      environment.observe(into: place.observations.pointer)
      environment.mask(into: place.masks)
      expert.decide(environment, into: place.actions)
      if iteration == 0 {
        played.row(0).update(
          from: place.actions, count: environment.count * environment.shape.choices)
      } else {
        let (logits, _) = network(place.observations, on: training.acting)
        distributions.update(
          logits: logits.pointer, mask: place.masks,
          rows: environment.count * environment.shape.devices)
        distributions.sample(into: played.row(0), using: &random)
      }
      environment.step(played.row(0), into: place.outcomes)
      for process in 0..<environment.count {
        returns[process] += Double(place.outcomes[process].reward)
        guard place.outcomes[process].ending != .goesOn else { continue }
        ended.append(returns[process])
        returns[process] = 0
        environment.reset(process)
      }
    }
    // Plain returns: λ = 1, and nothing is expected beyond the end.
    var estimation = PPOSettings()
    estimation.discount = settings.discount
    estimation.gaeLambda = 1
    lesson.estimateAdvantages(estimation)
    lessons.append(lesson)
    return ended
  }

  /// One epoch; returns the mean loss of the policy.
  private func learn(rate: Float) -> Double {
    let samples = lessons.indices.flatMap { lesson in
      (0..<lessons[lesson].samples).map { (lesson, $0) }
    }
    let order = random.shuffled(samples)
    var loss = 0.0
    for start in stride(from: 0, to: order.count, by: settings.minibatch) {
      let part = order[start..<min(start + settings.minibatch, order.count)]
      for lesson in lessons.indices {
        let own = part.filter { $0.0 == lesson }.map(\.1)
        if !own.isEmpty { loss += differentiate(lessons[lesson], own[...], of: part.count) }
      }
      training.update(rate: rate)
      training.zeroGradient()
    }
    return loss / Double(order.count)
  }

  private func differentiate(_ lesson: Rollout, _ samples: ArraySlice<Int>, of size: Int) -> Double
  {
    let shape = environment.shape
    let batch = lesson.gather(samples)
    let (logits, values) = network(batch.observations, on: training.tape)
    let rows = samples.count * shape.devices
    distributions.update(logits: logits.pointer, mask: batch.masks, rows: rows)
    let slopes = Tensor(uninitialized: [logits.rows, logits.columns])
    let valueSlopes = Tensor(uninitialized: [samples.count, 1])
    let pulls = Array2D<Float>(rows, 1, 0)
    distributions.logProbabilities(of: batch.actions, into: pulls.row(0))
    var loss = 0.0
    for row in 0..<rows { loss -= Double(pulls.row(row)[0]) }
    pulls.row(0).update(repeating: -1 / Float(size), count: rows)
    _ = distributions.gradients(
      batch.actions, policy: pulls.row(0), entropy: 0, into: slopes.pointer)
    for sample in 0..<samples.count {
      valueSlopes.pointer[sample] =
        settings.valueWeight * (values.pointer[sample * values.stride] - batch.returns[sample])
        / Float(size)
    }
    training.tape.seed(slopes, for: logits)
    training.tape.seed(valueSlopes, for: values)
    training.tape.backward()
    return loss
  }
}
