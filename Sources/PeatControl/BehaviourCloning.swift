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

/// How far cloning has come: rounds that the expert was asked in and rounds that were learned from (again in each epoch of each iteration),
/// all processes together, and how many there are to be.
public struct CloningProgress: Sendable, Equatable {
  /// The one that is under way, from 1.
  public var iteration: Int
  public var iterations: Int
  public var played: Int
  public var toPlay: Int
  public var learned: Int
  public var toLearn: Int
}

/// Teaches a network to decide as another policy does, as a warm start for PPO.
///
/// The expert is asked in states that it reaches itself and then in states that the network reaches, so that the network also
/// learns what to do after its own mistakes. The loss is `Learner.imitate`'s, of all that the expert ever said.
///
/// Source: Ross, Gordon and Bagnell 2011, *DAgger*, <https://arxiv.org/abs/1011.0686>.
public final class BehaviourCloning<Environment: ControlEnvironment> {
  private let environment: Environment
  private let expert: any ControlPolicy<Environment>
  private let settings: CloningSettings
  private let learner: Learner
  private var random: SeededRandom
  /// All that the expert has said so far.
  private var lessons: [Lesson] = []
  private var iteration = 0

  /// Rounds with the expert's decisions, and what was done in them.
  private struct Lesson {
    let rollout: Rollout
    let played: Array2D<Int32>
    /// Of the episodes that ended.
    var returns: [Double] = []
  }

  public init(
    _ environment: Environment, expert: any ControlPolicy<Environment>, network: any ActorCritic,
    settings: CloningSettings = CloningSettings(), seed: UInt64
  ) throws {
    try settings.validate()
    self.environment = environment
    self.expert = expert
    self.settings = settings
    learner = try Learner(network, in: environment.shape, gated: true)
    random = SeededRandom(seed: seed, "cloning")
  }

  public var isFinished: Bool { iteration >= settings.iterations }

  /// Freezes the network again.
  public func finish() { learner.weights.release() }

  /// Plays and asks, then learns from all that was ever said.
  ///
  /// - Parameter onProgress: called after each round of all processes and after each minibatch.
  /// - Returns: `nil` where somebody wanted it to stop: then the network is of no use, and what can be gone on from is the state before.
  public func advance(
    shouldStop: () -> Bool = { false }, onProgress: (CloningProgress) -> Void = { _ in }
  ) -> CloningReport? {
    var progress = startOfIteration
    let stretch = environment.count
    let lesson = play(shouldStop: shouldStop) { place, played in
      expert.decide(environment, into: place.actions)
      if iteration == 0 {
        played.update(from: place.actions, count: stretch * environment.shape.choices)
      } else {
        _ = learner.look(at: place)
        learner.distributions.sample(into: played, using: &random)
      }
      progress.played += stretch
      onProgress(progress)
    }
    guard let lesson else { return nil }
    lessons.append(lesson)
    let total = settings.iterations * settings.epochs
    var loss = 0.0
    for epoch in 0..<settings.epochs {
      let share = Float(iteration * settings.epochs + epoch) / Float(total)
      let mean = learn(rate: settings.learningRate * (1 - share), shouldStop: shouldStop) {
        progress.learned += $0
        onProgress(progress)
      }
      guard let mean else { return nil }
      loss = mean
    }
    iteration += 1
    let returns = lesson.returns
    return CloningReport(
      iteration: iteration, loss: loss,
      meanReturn: returns.isEmpty ? nil : returns.reduce(0, +) / Double(returns.count))
  }

  private var startOfIteration: CloningProgress {
    let stretch = settings.rounds * environment.count
    // An iteration learns from its own rounds and from those of all before it.
    func learned(_ iterations: Int) -> Int {
      iterations * (iterations + 1) / 2 * settings.epochs * stretch
    }
    return CloningProgress(
      iteration: iteration + 1, iterations: settings.iterations, played: iteration * stretch,
      toPlay: settings.iterations * stretch, learned: learned(iteration),
      toLearn: learned(settings.iterations))
  }

  /// - Parameter decide: given where a round is written, whose actions are to be the expert's, and where those go that are carried out.
  private func play(
    shouldStop: () -> Bool = { false },
    _ decide: (_ place: Rollout.Places, _ played: UnsafeMutablePointer<Int32>) -> Void
  ) -> Lesson? {
    let (count, choices) = (environment.count, environment.shape.choices)
    let rollout = Rollout(environment.shape, processes: count, rounds: settings.rounds)
    let played = Array2D<Int32>(rollout.samples, choices, 0)
    var lesson = Lesson(rollout: rollout, played: played)
    var returns = Array(repeating: 0.0, count: count)
    for process in 0..<count { environment.reset(process) }
    for round in 0..<settings.rounds {
      if shouldStop() { return nil }
      let place = rollout.places(of: round)
      let own = played.row(round * count)
      environment.observe(into: place.observations.pointer)
      environment.mask(into: place.masks)
      decide(place, own)
      environment.step(own, into: place.outcomes)
      for process in 0..<count {
        returns[process] += Double(place.outcomes[process].reward)
        guard place.outcomes[process].ending != .goesOn else { continue }
        lesson.returns.append(returns[process])
        returns[process] = 0
        environment.reset(process)
      }
    }
    // Plain returns: λ = 1, and nothing is expected beyond the end.
    rollout.estimateAdvantages(discount: settings.discount, lambda: 1)
    return lesson
  }

  /// One epoch; returns the mean loss of the policy, `nil` where somebody wanted it to stop.
  private func learn(
    rate: Float, shouldStop: () -> Bool, onProgress: (Int) -> Void
  ) -> Double? {
    let samples = lessons.indices.flatMap { lesson in
      (0..<lessons[lesson].rollout.samples).map { (lesson, $0) }
    }
    let order = random.shuffled(samples)
    var loss = 0.0
    for start in stride(from: 0, to: order.count, by: settings.minibatch) {
      if shouldStop() { return nil }
      let part = order[start..<min(start + settings.minibatch, order.count)]
      for lesson in lessons.indices {
        let own = part.filter { $0.0 == lesson }.map(\.1)
        guard !own.isEmpty else { continue }
        loss += learner.imitate(
          lessons[lesson].rollout.gather(own[...]), of: part.count,
          valueWeight: settings.valueWeight)
      }
      learner.update(rate: rate)
      onProgress(part.count)
    }
    return loss / Double(order.count)
  }
}

// MARK: - Going on after a break

/// Cloning between two iterations: what was decided, from which environments are played again to the same bits.
struct CloningState {
  var iteration: Int
  var random: SeededRandom
  var learner: Learner.State
  /// Of each iteration the expert's choices and those that were carried out, one after the other; none where nothing is left to learn.
  var decisions: [(expert: [UInt16], played: [UInt16])]
}

extension BehaviourCloning {
  var state: CloningState {
    let count = settings.rounds * environment.count * environment.shape.choices
    func choices(_ actions: UnsafeMutablePointer<Int32>) -> [UInt16] {
      UnsafeBufferPointer(start: actions, count: count).map { UInt16(truncatingIfNeeded: $0) }
    }
    return CloningState(
      iteration: iteration, random: random, learner: learner.state,
      decisions: isFinished
        ? []
        : lessons.map { (choices($0.rollout.actions.row(0)), choices($0.played.row(0))) })
  }

  /// Goes on where a state was taken, in an environment that was made as that one was.
  ///
  /// - Returns: false where somebody wanted it to stop.
  /// - Throws: `badData` where the state is of another network or environment.
  func resume(_ state: CloningState, shouldStop: () -> Bool) throws -> Bool {
    try learner.resume(state.learner)
    let shape = environment.shape
    let stretch = environment.count * shape.choices
    let limits = shape.branches.list.map(\.choices)
    for (number, decisions) in state.decisions.enumerated() {
      for choices in [decisions.expert, decisions.played] {
        guard choices.count == settings.rounds * stretch,
          choices.indices.allSatisfy({ Int(choices[$0]) < limits[$0 % limits.count] })
        else {
          throw PeatError.badData(
            "The saved training's iteration \(number + 1) of imitating holds decisions that can't be. It is damaged; begin anew without --resume."
          )
        }
      }
      var place = 0
      let lesson = play(shouldStop: shouldStop) { round, played in
        for choice in 0..<stretch {
          round.actions[choice] = Int32(decisions.expert[place + choice])
          played[choice] = Int32(decisions.played[place + choice])
        }
        place += stretch
      }
      guard let lesson else { return false }
      lessons.append(lesson)
    }
    random = state.random
    iteration = state.iteration
    return true
  }
}
