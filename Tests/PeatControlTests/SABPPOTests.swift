import PeatControl
import PeatNN
import PeatTensor
import TestSupport
import Testing

@Suite("SABPPO") struct SABPPOTests {
  // MARK: The two-device process

  @Test func `value iteration finds the optimum of the two-device process`() {
    let optimum = TwoDeviceProcess.optimum()
    let golden = [4.695752, 4.608113, 4.483341, 4.226820]
    for (found, wanted) in zip(TwoDeviceProcess.start(optimum.values), golden) {
      #expect(abs(found - wanted) < 1e-6)
    }
    let own = TwoDeviceProcess.start(TwoDeviceProcess.costs(of: optimum.actions))
    for (found, wanted) in zip(own, golden) { #expect(abs(found - wanted) < 1e-6) }
    let idle = TwoDeviceProcess.costs(of: Array(repeating: 0, count: optimum.actions.count))
    for cost in TwoDeviceProcess.start(idle) { #expect(abs(cost - 20) < 1e-6) }
  }

  @Test(arguments: 0..<5)
  func `learns the two-device process to within 2 % of its optimum`(seed: UInt64) throws {
    let environment = try TwoDeviceEnvironment(count: 64, seed: seed)
    var settings = SABPPO.Settings()
    settings.discount = Float(TwoDeviceProcess.discount)
    settings.learningRate = 3e-3
    settings.rounds = 60
    settings.minibatch = 960
    settings.entropyWeight = 0.003
    let network = try NetworkConfiguration(.flat).make(for: environment.shape, seed: seed)
    let ppo = try SABPPO(
      environment, network: network, settings: settings, iterations: 150, seed: seed)
    for _ in 0..<150 { _ = try ppo.advance() }
    ppo.finish()
    let costs = TwoDeviceProcess.start(TwoDeviceProcess.costs(of: tabulate(network)))
    let best = [4.695752, 4.608113, 4.483341, 4.226820]
    let excess = costs.reduce(0, +) / best.reduce(0, +) - 1
    #expect(excess < 0.02, "\(costs), \(100 * excess) % above the optimum")
  }

  // MARK: Gradients

  @Test(arguments: NetworkConfiguration.Kind.allCases, SABPPO.Settings.Ratio.allCases)
  func `gradients of the whole loss agree with differences`(
    kind: NetworkConfiguration.Kind, ratio: SABPPO.Settings.Ratio
  ) throws {
    let environment = try TwoDeviceEnvironment(count: 6, seed: 4)
    var settings = SABPPO.Settings()
    settings.rounds = 5
    settings.ratio = ratio
    settings.entropyWeight = 0.05
    let network = try NetworkConfiguration(kind, width: 16).make(for: environment.shape, seed: 4)
    let ppo = try SABPPO(environment, network: network, settings: settings, iterations: 1, seed: 4)
    _ = ppo.collect()
    var random = SeededRandom(seed: 8)
    let values = ppo.values
    // Away from the policy that played, so that some ratios are clipped.
    for i in 0..<values.count { values.pointer[i] += 0.05 * random.normal() }
    let (_, gradient) = ppo.lossAndGradient()
    let start = values.scalars
    let size = gradient.reduce(0) { $0 + Double($1 * $1) }.squareRoot()
    for _ in 0..<6 {
      let direction = (0..<values.count).map { _ in Double(random.normal()) }
      let norm = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
      func loss(_ step: Double) -> Double {
        for i in 0..<values.count {
          values.pointer[i] = start[i] + Float(step * direction[i] / norm)
        }
        return ppo.lossAndGradient().loss
      }
      let along = zip(gradient, direction).reduce(0) { $0 + Double($1.0) * $1.1 } / norm
      let h = 2e-3
      let wanted = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
      #expect(abs(along - wanted) < 1e-3 * size, "\(along), \(wanted), gradient \(size)")
    }
  }

  // MARK: Advantages

  @Test(arguments: [nil, Float(3)])
  func `advantages are those of their definition`(timeConstant: Float?) {
    let shape = ControlShape(
      devices: 1, deviceFeatures: 1, globalFeatures: 0,
      branches: try! ActionBranches([ActionBranch("a", choices: 2)]))
    let (processes, rounds) = (3, 20)
    let rollout = Rollout(shape, processes: processes, rounds: rounds)
    var random = SeededRandom(seed: 12)
    for round in 0..<rounds {
      let place = rollout.places(of: round)
      for process in 0..<processes {
        place.values[process] = random.normal()
        place.followingValues[process] = random.normal()
        place.outcomes[process] = ControlOutcome(
          reward: random.normal(), duration: random.uniform(0.5, 2),
          ending: [.goesOn, .goesOn, .goesOn, .isOver, .isCutShort][random.integer(below: 5)])
      }
    }
    for process in 0..<processes { rollout.lastValues[process] = random.normal() }
    var settings = SABPPO.Settings()
    settings.timeConstant = timeConstant
    rollout.estimateAdvantages(
      discount: settings.discount, timeConstant: settings.timeConstant,
      lambda: settings.gaeLambda)
    for process in 0..<processes {
      for first in 0..<rounds {
        // Σ over l of (γλ)^l δ, as far as the episode goes.
        var (sum, weight) = (0.0, 1.0)
        for round in first..<rounds {
          let place = rollout.places(of: round)
          let outcome = place.outcomes[process]
          let discount = timeConstant.map { exponential(Double(-outcome.duration / $0)) } ?? 0.97
          let following: Double =
            switch outcome.ending {
            case .isOver: 0
            case .isCutShort: Double(place.followingValues[process])
            case .goesOn:
              Double(
                round + 1 < rounds
                  ? rollout.places(of: round + 1).values[process] : rollout.lastValues[process])
            }
          sum +=
            weight * (Double(outcome.reward) + discount * following - Double(place.values[process]))
          if outcome.ending != .goesOn { break }
          weight *= discount * 0.95
        }
        let sample = first * processes + process
        #expect(abs(Double(rollout.advantages[sample]) - sum) < 1e-5)
        #expect(
          abs(
            rollout.returns[sample] - rollout.advantages[sample]
              - rollout.places(of: first).values[process]) < 1e-5)
      }
    }
  }

  // MARK: Networks

  @Test func `the shared network does not mind the order of devices, nor their number`() throws {
    let shape = ControlShape(
      devices: 5, deviceFeatures: 3, globalFeatures: 2, branches: try .round(levels: 4))
    let network = try NetworkConfiguration(.shared, width: 24).make(for: shape, seed: 3)
    var random = SeededRandom(seed: 1)
    for devices in [1, 2, 5, 40] {
      let features = (0..<devices).map { _ in (0..<3).map { _ in random.normal() } }
      let globals = [random.normal(), random.normal()]
      let order = random.shuffled(Array(0..<devices))
      func run(_ order: [Int]) -> (Tensor, Tensor) {
        let observation = Tensor(
          order.flatMap { features[$0] } + globals, shape: [1, devices * 3 + 2])
        let (logits, values) = network(observation, on: Tape())
        return (logits.tensor(), values.tensor())
      }
      let (logits, value) = run(Array(0..<devices))
      let (moved, movedValue) = run(order)
      #expect(logits.shape == [devices, shape.branches.width])
      let width = shape.branches.width
      for (place, device) in order.enumerated() {
        for j in 0..<width {
          #expect(
            abs(moved.scalars[place * width + j] - logits.scalars[device * width + j]) < 1e-6)
        }
      }
      #expect(abs(value.scalars[0] - movedValue.scalars[0]) < 1e-5)
    }
  }

  @Test func `fresh weights are orthogonal, and as many as the formulas say`() throws {
    let shape = ControlShape(
      devices: 10, deviceFeatures: 6, globalFeatures: 2, branches: try .round(levels: 8))
    let flat = try NetworkConfiguration(.flat).make(for: shape, seed: 1)
    let shared = try NetworkConfiguration(.shared).make(for: shape, seed: 1)
    #expect(flat.parameters.reduce(0) { $0 + $1.count } == 16_057)
    #expect(shared.parameters.reduce(0) { $0 + $1.count } == 22_029)
    for parameter in flat.parameters where parameter.shape.count == 2 {
      let (rows, columns) = (parameter.shape[0], parameter.shape[1])
      let values = parameter.tensor.scalars.map(Double.init)
      let gain =
        parameter.name.hasPrefix("policy")
        ? 0.01 : parameter.name.hasPrefix("value") ? 1 : 2.0.squareRoot()
      let count = min(rows, columns)
      for a in 0..<count {
        for b in 0...a {
          var dot = 0.0
          for i in 0..<max(rows, columns) {
            dot +=
              rows <= columns
              ? values[a * columns + i] * values[b * columns + i]
              : values[i * columns + a] * values[i * columns + b]
          }
          #expect(abs(dot - (a == b ? gain * gain : 0)) < 1e-5 * gain)
        }
      }
    }
  }

  // MARK: The whole

  @Test func `the same seed gives the same bits, another seed others`() throws {
    func train(_ seed: UInt64) throws -> [Float] {
      let environment = try TwoDeviceEnvironment(count: 8, seed: seed)
      var settings = SABPPO.Settings()
      settings.rounds = 20
      settings.minibatch = 40
      let network = try NetworkConfiguration(.shared, width: 16).make(
        for: environment.shape, seed: seed)
      let ppo = try SABPPO(
        environment, network: network, settings: settings, iterations: 5, seed: seed)
      for _ in 0..<5 { _ = try ppo.advance() }
      return ppo.values.scalars
    }
    let first = try train(1)
    #expect(try train(1) == first)
    #expect(try train(2) != first)
    #expect(first.allSatisfy { $0.isFinite })
  }

  @Test func `a policy that moves far ends its epochs`() throws {
    func divergence(_ target: Float?) throws -> Double {
      let environment = try TwoDeviceEnvironment(count: 8, seed: 3)
      var settings = SABPPO.Settings()
      settings.learningRate = 0.02
      settings.epochs = 20
      settings.minibatch = 100
      settings.targetDivergence = target
      let network = try NetworkConfiguration(.flat, width: 16).make(for: environment.shape, seed: 3)
      let ppo = try SABPPO(
        environment, network: network, settings: settings, iterations: 1, seed: 3)
      return try ppo.advance().divergence
    }
    let (early, whole) = (try divergence(0.01), try divergence(nil))
    #expect(early < 0.5 * whole)
  }

  @Test func `settings out of their range are refused`() throws {
    let environment = try TwoDeviceEnvironment(count: 2, seed: 1)
    let network = try NetworkConfiguration(.flat).make(for: environment.shape, seed: 1)
    func refuse(_ what: String, _ change: (inout SABPPO.Settings) -> Void) {
      var settings = SABPPO.Settings()
      change(&settings)
      expectError(.usage, what) {
        _ = try SABPPO(environment, network: network, settings: settings, iterations: 1, seed: 1)
      }
    }
    refuse("learning rate") { $0.learningRate = .nan }
    refuse("rounds") { $0.rounds = 0 }
    refuse("minibatch") { $0.minibatch = -1 }
    refuse("discount") { $0.discount = 1.5 }
    refuse("clip") { $0.clip = 0 }
    refuse("weight of the entropy") { $0.entropyWeight = .nan }
    refuse("time constant") { $0.timeConstant = -1 }
    expectError(.usage, "width is 0") {
      _ = try NetworkConfiguration(.flat, width: 0).make(for: environment.shape, seed: 1)
    }
    let other = try NetworkConfiguration(.flat).make(
      for: ControlShape(
        devices: 3, deviceFeatures: 9, globalFeatures: 2, branches: environment.shape.branches),
      seed: 1)
    expectError(.usage, "another environment") {
      _ = try SABPPO(
        environment, network: other, settings: SABPPO.Settings(), iterations: 1, seed: 1)
    }
  }
}
