import PeatNN
import PeatTensor

/// Settings of SABPPO: proximal policy optimization with one agent whose action has a branch per decision.
public struct PPOSettings: Sendable, Codable, Equatable {
  /// What the policy's probability ratio is taken of: the joint action, or each device's part of it.
  ///
  /// With many devices the joint ratio is a product of many factors, and is clipped early; a ratio per device treats each as
  /// an agent with the shared advantage (Yu et al. 2021, <https://arxiv.org/abs/2103.01955>).
  public enum Ratio: String, Sendable, Codable, CaseIterable { case joint, perDevice }

  public var learningRate: Float = 3e-4
  /// Whether the learning rate falls to zero over the run.
  public var anneals = true
  /// Rounds that each process is played between updates.
  public var rounds = 50
  public var minibatch = 800
  public var epochs = 4
  /// γ of a round; with `timeConstant` τ instead γ_t = exp(−T_t / τ), T_t the round's duration: then a slow round also costs
  /// what could have been done meanwhile.
  public var discount: Float = 0.97
  public var timeConstant: Float?
  /// λ of generalised advantage estimation.
  public var gaeLambda: Float = 0.95
  public var clip: Float = 0.2
  /// How far a value may move from the old one; `nil`: as far as it wants.
  public var valueClip: Float? = 0.2
  public var valueWeight: Float = 0.5
  public var entropyWeight: Float = 0.001
  /// Largest norm of a gradient.
  public var gradientNorm: Float = 0.5
  /// Epochs end early where the policy has moved by 1.5 times this, in nats; `nil`: never.
  public var targetDivergence: Float?
  public var ratio: Ratio = .joint
  /// Whether branches that have no effect are left out of probability and entropy.
  public var isGated = true

  public init() {}

  /// Throws `usage` where a setting is out of its range.
  public func validate() throws {
    func check(_ holds: Bool, _ what: String) throws {
      if !holds { throw PeatError.usage(what) }
    }
    try check(
      learningRate > 0 && learningRate <= 1,
      "The learning rate is \(learningRate); it must be above 0 and at most 1.")
    try check(
      (1...100_000).contains(rounds),
      "The number of rounds between updates is \(rounds); it must be 1 to 100000.")
    try check(
      (1...10_000_000).contains(minibatch),
      "The minibatch is \(minibatch); it must be 1 to 10000000.")
    try check(
      (1...1000).contains(epochs), "The number of epochs is \(epochs); it must be 1 to 1000.")
    try check(discount >= 0 && discount <= 1, "The discount is \(discount); it must be 0 to 1.")
    try check(
      timeConstant.map { $0 > 0 && $0.isFinite } ?? true,
      "The time constant of the discount is \(timeConstant ?? 0); it must be a finite number above 0."
    )
    try check(
      gaeLambda >= 0 && gaeLambda <= 1,
      "Lambda of the advantages is \(gaeLambda); it must be 0 to 1.")
    try check(clip > 0 && clip < 1, "The clip is \(clip); it must be above 0 and below 1.")
    try check(valueClip.map { $0 > 0 } ?? true, "The clip of values must be above 0.")
    try check(valueWeight >= 0, "The weight of values is \(valueWeight); it must be at least 0.")
    try check(
      entropyWeight >= 0 && entropyWeight < 1000,
      "The weight of the entropy is \(entropyWeight); it must be 0 to 1000.")
    try check(
      gradientNorm > 0, "The largest norm of a gradient is \(gradientNorm); it must be above 0.")
    try check(
      targetDivergence.map { $0 > 0 && $0.isFinite } ?? true,
      "The divergence at which epochs end is \(targetDivergence ?? 0); it must be a finite number above 0."
    )
  }
}

/// SABPPO: plays rounds in many processes at once, estimates advantages, and improves a branching policy by them.
///
/// The loss of a minibatch, with ratio r = π(a|o) / π_old(a|o), advantage A (of mean 0 and deviation 1 in the minibatch), value V
/// and return R:
///
///     L = mean max(−A r, −A clip(r, 1−ε, 1+ε))
///       + c_v · ½ mean max((V − R)², (V_old + clip(V − V_old, −ε_v, ε_v) − R)²) − c_H · mean H
///
/// Sources: Schulman et al. 2017, <https://arxiv.org/abs/1707.06347>; Tavakoli et al. 2018, <https://arxiv.org/abs/1711.08946> (branches);
/// the details are those that Huang et al. 2022 found to matter, *The 37 Implementation Details of PPO*.
public final class PPO {
  public let settings: PPOSettings
  public let network: any ActorCritic
  private var environment: any ControlEnvironment
  private let training: NetworkTraining
  private var random: SeededRandom
  private let distributions: BranchDistributions
  private let rollout: Rollout
  /// Updates made so far, and what they are a share of where the learning rate falls.
  public private(set) var iteration = 0
  public let iterations: Int
  private var episodeReturns: [Double]

  /// What one iteration did.
  public struct Report: Sendable, Codable, Equatable {
    public var iteration: Int
    /// Rounds played so far, all processes together.
    public var steps: Int
    /// The mean return of the episodes that ended, undiscounted; `nil` where none did.
    public var meanReturn: Double?
    public var policyLoss: Double
    public var valueLoss: Double
    /// Per joint action, in nats.
    public var entropy: Double
    /// How far the policy moved, in nats: mean of (r − 1) − log r.
    public var divergence: Double
    /// The share of ratios that were clipped.
    public var clippedShare: Double
    /// 1 − Var(R − V) / Var(R).
    public var explainedVariance: Double
  }

  /// - Parameter iterations: how many are planned.
  /// - Throws: `usage` where settings are out of range or the network is for another environment.
  public init(
    _ environment: any ControlEnvironment, network: any ActorCritic, settings: PPOSettings,
    iterations: Int, seed: UInt64
  ) throws {
    try settings.validate()
    self.environment = environment
    self.network = network
    self.settings = settings
    self.iterations = iterations
    training = try NetworkTraining(network, in: environment.shape)
    random = SeededRandom(seed: seed, "actions")
    distributions = BranchDistributions(environment.shape.branches, gated: settings.isGated)
    rollout = Rollout(environment.shape, processes: environment.count, rounds: settings.rounds)
    episodeReturns = Array(repeating: 0, count: environment.count)
  }

  /// Goes on in a fresh environment of the same shape and as many processes, with chance of its own.
  func restart(in environment: any ControlEnvironment, seed: UInt64) {
    precondition(
      environment.shape == self.environment.shape && environment.count == self.environment.count,
      "PPO: restarted in another environment")
    self.environment = environment
    random = SeededRandom(seed: seed, "actions")
    episodeReturns = Array(repeating: 0, count: environment.count)
  }

  /// What a checkpoint holds of the network and its optimizer.
  var state: (values: Tensor, first: Tensor, second: Tensor, steps: Int) { training.state }

  /// Goes on where a checkpoint was made.
  func resume(
    iteration: Int, values: Tensor, first: Tensor, second: Tensor, steps: Int
  ) throws {
    try training.resume(values: values, first: first, second: second, steps: steps)
    self.iteration = iteration
  }

  /// Freezes the network again; afterwards it can be saved or used.
  public func finish() { training.trainable.release() }

  // MARK: One iteration

  /// Plays, estimates, learns.
  ///
  /// - Throws: `badData` where the losses are no longer numbers.
  public func advance() throws -> Report {
    let returns = collect()
    var report = learn()
    guard report.policyLoss.isFinite, report.valueLoss.isFinite, values.isFinite else {
      throw PeatError.badData(
        "Learning diverged in iteration \(iteration + 1): the loss is \(report.policyLoss) + \(report.valueLoss). Try a lower learning rate than \(settings.learningRate)."
      )
    }
    iteration += 1
    report.iteration = iteration
    report.steps = iteration * settings.rounds * environment.count
    report.meanReturn = returns.isEmpty ? nil : returns.reduce(0, +) / Double(returns.count)
    return report
  }

  /// Plays `rounds` rounds in every process and estimates advantages; returns the returns of the episodes that ended.
  package func collect() -> [Double] {
    var ended: [Double] = []
    let count = environment.count
    for round in 0..<settings.rounds {
      let place = rollout.places(of: round)
      environment.observe(into: place.observations.pointer)
      environment.mask(into: place.masks)
      let (logits, values) = network(place.observations, on: training.acting)
      distributions.update(
        logits: logits.pointer, mask: place.masks, rows: count * environment.shape.devices)
      distributions.sample(into: place.actions, using: &random)
      distributions.logProbabilities(of: place.actions, into: place.logProbabilities)
      for process in 0..<count {
        place.values[process] = values.pointer[process * values.stride]
      }
      environment.step(place.actions, into: place.outcomes)
      for process in 0..<count {
        episodeReturns[process] += Double(place.outcomes[process].reward)
      }
      end(place, &ended)
    }
    lookAhead(into: &rollout.lastValues)
    rollout.estimateAdvantages(settings)
    return ended
  }

  /// Begins another episode where one ended.
  private func end(_ place: Rollout.Places, _ ended: inout [Double]) {
    let processes = (0..<environment.count).filter { place.outcomes[$0].ending != .goesOn }
    if processes.contains(where: { place.outcomes[$0].ending == .isCutShort }) {
      var values = rollout.lastValues
      lookAhead(into: &values)
      for process in processes { place.followingValues[process] = values[process] }
    }
    for process in processes {
      ended.append(episodeReturns[process])
      episodeReturns[process] = 0
      environment.reset(process)
    }
  }

  /// The values of what is seen now.
  private func lookAhead(into values: inout [Float]) {
    environment.observe(into: rollout.lastObservations.pointer)
    let (_, found) = network(rollout.lastObservations, on: training.acting)
    for process in values.indices { values[process] = found.pointer[process * found.stride] }
  }

  // MARK: Learning

  /// Sums over an iteration's minibatches.
  private struct Sums {
    var policy = 0.0, value = 0.0, entropy = 0.0, divergence = 0.0, clipped = 0.0
    var samples = 0.0
  }

  private func learn() -> Report {
    var sums = Sums()
    let rate =
      settings.learningRate
      * (settings.anneals ? max(0, 1 - Float(iteration) / Float(max(iterations, 1))) : 1)
    let samples = rollout.samples
    let size = min(settings.minibatch, samples)
    epochs: for _ in 0..<settings.epochs {
      let order = random.shuffled(Array(0..<samples))
      for start in stride(from: 0, to: samples, by: size) {
        let before = sums
        let part = order[start..<min(start + size, samples)]
        step(part, &sums, rate: rate)
        let moved = (sums.divergence - before.divergence) / Double(part.count)
        if let target = settings.targetDivergence, moved > Double(1.5 * target) { break epochs }
      }
    }
    return Report(
      iteration: 0, steps: 0, policyLoss: sums.policy / sums.samples,
      valueLoss: sums.value / sums.samples, entropy: sums.entropy / sums.samples,
      divergence: sums.divergence / sums.samples, clippedShare: sums.clipped / sums.samples,
      explainedVariance: rollout.explainedVariance)
  }

  /// One gradient step on a minibatch.
  private func step(_ samples: ArraySlice<Int>, _ sums: inout Sums, rate: Float) {
    differentiate(samples, &sums)
    let gradient = training.gradient
    let norm = squaredNorm(gradient.count, gradient.pointer).squareRoot()
    if norm > Double(settings.gradientNorm) {
      scale(
        gradient.count, gradient.pointer, by: Float(Double(settings.gradientNorm) / (norm + 1e-6)))
    }
    training.update(rate: rate)
  }

  /// The gradient of a minibatch's loss, into `gradient`.
  private func differentiate(_ samples: ArraySlice<Int>, _ sums: inout Sums) {
    let count = samples.count
    let shape = environment.shape
    let batch = rollout.gather(samples)
    training.zeroGradient()
    let (logits, values) = network(batch.observations, on: training.tape)
    distributions.update(
      logits: logits.pointer, mask: batch.masks, rows: count * shape.devices)
    let slopes = Tensor(uninitialized: [logits.rows, logits.columns])
    let valueSlopes = Tensor(uninitialized: [count, 1])
    let devices = shape.devices
    // log π of each device's part of the action, and then the loss's slope by it.
    let pulls = Array2D<Float>(count * devices, 1, 0)
    distributions.logProbabilities(of: batch.actions, into: pulls.row(0))
    for sample in 0..<count {
      let advantage = batch.advantages[sample]
      let own = pulls.row(sample * devices)
      let old = batch.logProbabilities + sample * devices
      switch settings.ratio {
      case .joint:
        var logRatio: Float = 0
        for device in 0..<devices { logRatio += own[device] - old[device] }
        let pull = surrogate(logRatio, advantage, count, &sums)
        for device in 0..<devices { own[device] = pull }
      case .perDevice:
        for device in 0..<devices {
          own[device] = surrogate(
            own[device] - old[device], advantage, count, &sums, share: 1 / Double(devices))
        }
      }
      valueSlopes.pointer[sample] = valueSlope(
        values.pointer[sample * values.stride], old: batch.values[sample],
        target: batch.returns[sample], count, &sums)
    }
    sums.entropy += distributions.gradients(
      batch.actions, policy: pulls.row(0), entropy: -settings.entropyWeight / Float(count),
      into: slopes.pointer)
    sums.samples += Double(count)
    training.tape.seed(slopes, for: logits)
    training.tape.seed(valueSlopes, for: values)
    training.tape.backward()
  }

  /// The values of all parameters, one after the other.
  package var values: Tensor { training.trainable.values }

  /// The loss of all that was played last, and its gradient with respect to all parameters.
  package func lossAndGradient() -> (loss: Double, gradient: [Float]) {
    var sums = Sums()
    differentiate(Array(0..<rollout.samples)[...], &sums)
    let loss =
      sums.policy + Double(settings.valueWeight) * sums.value
      - Double(settings.entropyWeight) * sums.entropy
    return (loss / sums.samples, training.gradient.scalars)
  }

  /// The clipped surrogate of one ratio; returns ∂L/∂log π.
  ///
  /// - Parameter share: what it counts in the diagnostics.
  private func surrogate(
    _ logRatio: Float, _ advantage: Float, _ count: Int, _ sums: inout Sums, share: Double = 1
  ) -> Float {
    let bounded = min(max(logRatio, -20), 20)
    let ratio = exponential(bounded)
    let clipped = min(max(ratio, 1 - settings.clip), 1 + settings.clip)
    sums.policy += Double(max(-advantage * ratio, -advantage * clipped))
    sums.divergence += share * Double((ratio - 1) - bounded)
    if ratio != clipped { sums.clipped += share }
    let isClipped =
      advantage > 0 && ratio > 1 + settings.clip || advantage < 0 && ratio < 1 - settings.clip
    return isClipped ? 0 : -advantage * ratio / Float(count)
  }

  /// Adds to the value loss; returns ∂L/∂V.
  private func valueSlope(
    _ value: Float, old: Float, target: Float, _ count: Int, _ sums: inout Sums
  ) -> Float {
    let error = value - target
    let factor = settings.valueWeight / Float(count)
    guard let limit = settings.valueClip else {
      sums.value += 0.5 * Double(error * error)
      return factor * error
    }
    let moved = value - old
    let clippedError = old + min(max(moved, -limit), limit) - target
    sums.value += 0.5 * Double(max(error * error, clippedError * clippedError))
    if error * error >= clippedError * clippedError { return factor * error }
    return abs(moved) < limit ? factor * clippedError : 0
  }
}
