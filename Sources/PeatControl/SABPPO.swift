// SABPPO: single-agent action-branching proximal policy optimization, from top to bottom.
//
// One agent decides each round of a federation for every device: whether it takes part, whether it is sent an emulator, of which level, …
//
//     a network sees all devices and gives logits for every branch of every device's action, and a value V        — 1. Networks
//     masks (memory, exposure, link) take away what is not possible, gates what has no effect                      — 2. Distributions
//     first, if asked: the network learns to decide as an expert does, L = −mean log π(a_expert|o) + c_v ½ (V − R)²
//     then, `iterations` times:
//       every process plays `rounds` rounds with a ~ π(·|o)
//       backwards:  δ_t = r_t + γ_t V_{t+1} − V_t,  A_t = δ_t + γ_t λ A_{t+1},  γ_t = γ or exp(−T_t / τ)           — 3. Advantages
//       `epochs` times over all rounds in a new order, a minibatch at a time:                                      — 5. SABPPO
//         L = mean max(−A r, −A clip(r, 1 ± ε)) + c_v · value's loss − c_H · mean H,   r = π(a|o) / π_old(a|o)
//         one step of Adam along −∇L, cut to a norm; the learning rate falls to zero over the run                  — 4. Learner
//         no further where the policy has moved by 1.5 times the target divergence
//
// Sources: Schulman et al. 2017 (PPO), <https://arxiv.org/abs/1707.06347>; Tavakoli, Pardo and Kormushev 2018 (branches),
// <https://arxiv.org/abs/1711.08946>; Schulman et al. 2015 (GAE), <https://arxiv.org/abs/1506.02438>; Zaheer et al. 2017 (one encoder for
// all devices), <https://arxiv.org/abs/1703.06114>; Huang and Ontañón 2020 (masks), <https://arxiv.org/abs/2006.14171>; Ross, Gordon and
// Bagnell 2011 (imitation), <https://arxiv.org/abs/1011.0686>; Huang et al. 2022, *The 37 Implementation Details of PPO*. Gates are our own.
//
// What is played with stands in ControlEnvironment.swift, where a stretch of rounds is kept in Rollout.swift, whom to imitate and in which
// states in BehaviourCloning.swift, and what runs all of it, with checkpoints, in ControllerTraining.swift.

import PeatNN
import PeatTensor

// MARK: - 1. Networks

/// A network that gives the logits of every branch of every device, and an estimate of what is still to come.
public protocol ActorCritic: Sendable {
  var shape: ControlShape { get }
  var parameters: [Parameter] { get }

  /// `B` observations.
  ///
  /// - Parameter observations: `[B, observationSize]`.
  /// - Returns: logits, one row per device or per observation but `[B, devices, width]` in memory; values `[B, 1]`.
  func callAsFunction(
    _ observations: Tensor, on tape: Tape
  ) -> (logits: Activation, values: Activation)
}

/// Makes the matrix of a layer: rows, columns, and how long its rows or columns are.
typealias WeightMaker = (_ rows: Int, _ columns: Int, _ gain: Float) throws -> Tensor

/// A linear layer whose weight has orthogonal rows or columns of length `gain`, and no bias.
///
/// Source: Saxe, McClelland and Ganguli 2013, <https://arxiv.org/abs/1312.6120>.
private func layer(
  _ name: String, _ inputs: Int, _ outputs: Int, gain: Float, _ matrix: WeightMaker
) throws -> Linear {
  Linear(
    name, weight: Parameter(name + ".weight", try matrix(outputs, inputs, gain)),
    bias: Parameter(name + ".bias", Tensor(zeros: [outputs])), layout: .outputsByInputs)
}

/// Shared trunk, one branch per decision, over all devices at once.
///
///     z = tanh(W₂ tanh(W₁ o + b₁) + b₂)      logits = W_π z + b_π      value = w_v z + b_v
struct FlatActorCritic: ActorCritic {
  let shape: ControlShape
  private let first: Linear
  private let second: Linear
  private let policy: Linear
  private let value: Linear

  init(_ shape: ControlShape, width: Int, _ matrix: WeightMaker) throws {
    self.shape = shape
    let root2 = Float(2).squareRoot()
    first = try layer("first", shape.observationSize, width, gain: root2, matrix)
    second = try layer("second", width, width, gain: root2, matrix)
    policy = try layer("policy", width, shape.logits, gain: 0.01, matrix)
    value = try layer("value", width, 1, gain: 1, matrix)
  }

  var parameters: [Parameter] { [first, second, policy, value].flatMap(\.parameters) }

  func callAsFunction(
    _ observations: Tensor, on tape: Tape
  ) -> (logits: Activation, values: Activation) {
    let z = tape.tanh(second(tape.tanh(first(tape.input(observations), on: tape)), on: tape))
    return (policy(z, on: tape), value(z, on: tape))
  }
}

/// One encoder for each device, and what they have in common: the same for any order of the devices, and for any number.
///
///     h_i = tanh(W_e (o_i, g) + b_e)      p = (mean_i h_i, max_i h_i)      h_i ← tanh(W_u h_i + W_p p + b_u)
///     logits_i = W_π h_i + b_π            value = w_v tanh(W_t p + b_t) + b_v
///
/// g: what describes the round. The second line may be repeated, each time with weights of its own; the value is of its last p.
struct SharedActorCritic: ActorCritic {
  /// What a device makes of itself and of what all have in common.
  private struct Exchange {
    let own: Linear
    let common: Linear

    init(_ name: String, width: Int, _ matrix: WeightMaker) throws {
      // One orthogonal matrix over (h, p), cut into the columns of each.
      let joint = try matrix(width, 3 * width, Float(2).squareRoot()).scalars
      func weight(_ part: String, _ columns: Range<Int>) -> Parameter {
        Parameter(
          "\(name).\(part).weight",
          Tensor(
            (0..<width).flatMap { row in columns.map { joint[row * 3 * width + $0] } },
            shape: [width, columns.count]))
      }
      own = Linear(
        name + ".own", weight: weight("own", 0..<width),
        bias: Parameter(name + ".own.bias", Tensor(zeros: [width])), layout: .outputsByInputs)
      common = Linear(
        name + ".common", weight: weight("common", width..<3 * width), bias: nil,
        layout: .outputsByInputs)
    }
  }

  let shape: ControlShape
  private let encoder: Linear
  private let exchanges: [Exchange]
  private let policy: Linear
  private let trunk: Linear
  private let value: Linear

  init(_ shape: ControlShape, width: Int, exchanges count: Int, _ matrix: WeightMaker) throws {
    self.shape = shape
    let root2 = Float(2).squareRoot()
    encoder = try layer(
      "encoder", shape.deviceFeatures + shape.globalFeatures, width, gain: root2, matrix)
    exchanges = try (0..<count).map { try Exchange("exchange.\($0)", width: width, matrix) }
    policy = try layer("policy", width, shape.branches.width, gain: 0.01, matrix)
    trunk = try layer("trunk", 2 * width, width, gain: root2, matrix)
    value = try layer("value", width, 1, gain: 1, matrix)
  }

  var parameters: [Parameter] {
    ([encoder] + exchanges.flatMap { [$0.own, $0.common] } + [policy, trunk, value])
      .flatMap(\.parameters)
  }

  func callAsFunction(
    _ observations: Tensor, on tape: Tape
  ) -> (logits: Activation, values: Activation) {
    let batch = observations.shape[0]
    var h = tape.tanh(encoder(tape.input(deviceRows(observations)), on: tape))
    var pooled = tape.pool(h, groups: batch)
    for (number, exchange) in exchanges.enumerated() {
      if number > 0 { pooled = tape.pool(h, groups: batch) }
      h = tape.tanh(exchange.own(h, on: tape), plus: exchange.common(pooled, on: tape))
    }
    return (policy(h, on: tape), value(tape.tanh(trunk(pooled, on: tape)), on: tape))
  }

  /// (o_i, g) of every device, one after the other: `[B · devices, deviceFeatures + globalFeatures]`.
  private func deviceRows(_ observations: Tensor) -> Tensor {
    let (batch, size) = (observations.shape[0], observations.shape[1])
    let (features, globals) = (shape.deviceFeatures, shape.globalFeatures)
    let devices = (size - globals) / features
    let rows = Tensor(uninitialized: [batch * devices, features + globals])
    for sample in 0..<batch {
      let source = observations.pointer + sample * size
      for device in 0..<devices {
        let place = rows.pointer + (sample * devices + device) * (features + globals)
        place.update(from: source + device * features, count: features)
        (place + features).update(from: source + devices * features, count: globals)
      }
    }
    return rows
  }
}

// MARK: - 2. Distributions

/// The choice probabilities of many devices, from a network's logits.
///
/// `π_b` is the softmax of branch b's allowed logits. A joint action's log-probability and entropy are, where branches are
/// gated, those of what the action does:
///
///     log π(a) = Σ_b  open_b(a) · log π_b(a_b)          open_b: the choices that gate b were made
///     H        = Σ_b  reach_b · H(π_b)                  reach_b: the probability that they are
///
/// and without gating plain sums (`open = reach = 1`). Masked choices have probability 0 and take no gradient.
package final class BranchDistributions {
  let branches: ActionBranches
  package private(set) var rows = 0
  /// `[rows, width]`.
  private var probabilities = Array2D<Float>(0, 1, 0)
  private var logProbabilities = Array2D<Float>(0, 1, 0)
  private var capacity = 0
  /// The branches' facts, where loops over thousands of rows read them without counting references.
  private let facts: Array2D<Facts>
  private let count: Int

  private struct Facts: BitwiseCopyable {
    /// Where its logits begin, and how many there are.
    var offset: Int
    var choices: Int
    /// -1: none.
    var gate: Int
    /// The logit of the choice that opens it.
    var opening: Int
    var openingChoice: Int32
  }

  package init(_ branches: ActionBranches, gated: Bool) {
    self.branches = branches
    count = branches.count
    facts = Array2D(
      branches.count, 1,
      Facts(offset: 0, choices: 0, gate: -1, opening: 0, openingChoice: 0))
    for (number, branch) in branches.list.enumerated() {
      facts.row(number)[0] = Facts(
        offset: branches.offsets[number], choices: branch.choices, gate: -1, opening: 0,
        openingChoice: 0)
      if gated, let gate = branch.gate {
        facts.row(number)[0].gate = gate.branch
        facts.row(number)[0].opening = branches.offsets[gate.branch] + gate.choice
        facts.row(number)[0].openingChoice = Int32(gate.choice)
      }
    }
  }

  /// Takes over new logits.
  ///
  /// - Parameters:
  ///   - logits: `[rows, width]`.
  ///   - mask: likewise, 0 where a choice is not allowed; each branch allows one.
  package func update(logits: UnsafePointer<Float>, mask: UnsafePointer<UInt8>, rows: Int) {
    let width = branches.width
    if capacity < rows {
      capacity = rows
      probabilities = Array2D(rows, width, 0)
      logProbabilities = Array2D(rows, width, 0)
    }
    self.rows = rows
    let p = probabilities.row(0)
    let logP = logProbabilities.row(0)
    let (facts, count) = (facts.row(0), count)
    for row in 0..<rows {
      for branch in 0..<count {
        let first = row &* width &+ facts[branch].offset
        let end = first &+ facts[branch].choices
        var top = -Float.infinity
        for j in first..<end { top = max(top, mask[j] != 0 ? logits[j] : -.infinity) }
        for j in first..<end { logP[j] = max(logits[j] - top, -1e30) }
      }
    }
    exponentials(rows * width, logP, into: p)
    for row in 0..<rows {
      for branch in 0..<count {
        let first = row &* width &+ facts[branch].offset
        let end = first &+ facts[branch].choices
        var sum: Float = 0
        for j in first..<end {
          p[j] = mask[j] == 0 ? 0 : p[j]
          sum += p[j]
        }
        if !(sum > 0 && sum < .infinity) {
          // Logits that are no numbers say nothing: what is allowed is equally likely.
          sum = 0
          for j in first..<end {
            (p[j], logP[j]) = (mask[j] == 0 ? 0 : 1, 0)
            sum += p[j]
          }
        }
        let inverse = 1 / sum
        let logSum = logarithm(sum)
        for j in first..<end {
          p[j] *= inverse
          logP[j] -= logSum
        }
      }
    }
  }

  /// Draws each row's action.
  package func sample(into actions: UnsafeMutablePointer<Int32>, using random: inout SeededRandom) {
    choose(into: actions) { p, count in
      var left = random.uniform()
      var last = 0
      for j in 0..<count where p[j] > 0 {
        last = j
        left -= p[j]
        if left < 0 { break }
      }
      return last
    }
  }

  /// Each branch's likeliest choice.
  package func greedy(into actions: UnsafeMutablePointer<Int32>) {
    choose(into: actions) { p, count in
      var best = 0
      for j in 1..<max(count, 1) where p[j] > p[best] { best = j }
      return best
    }
  }

  @inline(__always) private func choose(
    into actions: UnsafeMutablePointer<Int32>, _ pick: (UnsafePointer<Float>, Int) -> Int
  ) {
    let p = UnsafePointer(probabilities.row(0))
    let (facts, count, width) = (facts.row(0), count, branches.width)
    for row in 0..<rows {
      for branch in 0..<count {
        actions[row &* count &+ branch] = Int32(
          pick(p + (row &* width &+ facts[branch].offset), facts[branch].choices))
      }
    }
  }

  /// Whether an action's other choices let a branch matter.
  @inline(__always) private static func isOpen(
    _ branch: Int, _ action: UnsafePointer<Int32>, _ facts: UnsafePointer<Facts>
  ) -> Bool {
    var branch = branch
    while facts[branch].gate >= 0 {
      if action[facts[branch].gate] != facts[branch].openingChoice { return false }
      branch = facts[branch].gate
    }
    return true
  }

  /// log π of each row's action.
  ///
  /// - Parameters:
  ///   - actions: `[rows, branches]`.
  ///   - result: `[rows]`.
  package func logProbabilities(
    of actions: UnsafePointer<Int32>, into result: UnsafeMutablePointer<Float>
  ) {
    let (facts, count, width) = (facts.row(0), count, branches.width)
    let logP = logProbabilities.row(0)
    for row in 0..<rows {
      let own = logP + row &* width
      let action = actions + row &* count
      var sum: Float = 0
      for branch in 0..<count where Self.isOpen(branch, action, facts) {
        sum += own[facts[branch].offset &+ Int(action[branch])]
      }
      result[row] = sum
    }
  }

  /// The sum of all rows' entropies, and the gradient of `Σ policy · log π(action) + weight · H` with respect to the logits.
  ///
  /// `H` of a branch with all that it gates is V_b = H(π_b) + Σ_c π_b(gate of c) · V_c, and
  ///
  ///     ∂log π_b(a) / ∂l_j = 1[j = a] − p_j
  ///     ∂V_b / ∂l_j = −p_j (log p_j + H(π_b)) + Σ_c V_c · π_b(gate of c) · (1[j = gate of c] − p_j).
  ///
  /// - Parameters:
  ///   - actions: `[rows, branches]`.
  ///   - policy: `[rows]`.
  ///   - out: `[rows, width]`, overwritten.
  package func gradients(
    _ actions: UnsafePointer<Int32>, policy: UnsafePointer<Float>, entropy weight: Float,
    into out: UnsafeMutablePointer<Float>
  ) -> Double {
    let (facts, count, width) = (facts.row(0), count, branches.width)
    let (p, logP) = (probabilities.row(0), logProbabilities.row(0))
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 &* count) { space in
      guard let whole = space.baseAddress else { return 0 }
      let reach = whole + count
      var total = 0.0
      for row in 0..<rows {
        total += Double(
          Self.gradient(
            p + row &* width, logP + row &* width, actions + row &* count, policy[row], weight,
            facts, count, whole, reach, into: out + row &* width))
      }
      return total
    }
  }

  @inline(__always) private static func gradient(
    _ p: UnsafePointer<Float>, _ logP: UnsafePointer<Float>, _ action: UnsafePointer<Int32>,
    _ policy: Float, _ weight: Float, _ facts: UnsafePointer<Facts>, _ count: Int,
    _ whole: UnsafeMutablePointer<Float>, _ reach: UnsafeMutablePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) -> Float {
    for branch in 0..<count {
      let first = facts[branch].offset
      var sum: Float = 0
      // Masked choices have probability 0, and a logarithm that is a number.
      for j in first..<first &+ facts[branch].choices { sum -= p[j] * logP[j] }
      whole[branch] = sum
      let gate = facts[branch].gate
      reach[branch] = gate < 0 ? 1 : reach[gate] * p[facts[branch].opening]
    }
    var total: Float = 0
    for branch in stride(from: count &- 1, through: 0, by: -1) {
      let gate = facts[branch].gate
      if gate < 0 {
        total += whole[branch]
      } else {
        whole[gate] += p[facts[branch].opening] * whole[branch]
      }
    }
    for branch in 0..<count {
      let first = facts[branch].offset
      let g = isOpen(branch, action, facts) ? policy : 0
      let e = weight * reach[branch]
      // What the gated branches add comes with the choice that opens them, and is taken from all by their share.
      let base = g + e * whole[branch]
      for j in first..<first &+ facts[branch].choices { out[j] = -p[j] * (base + e * logP[j]) }
      out[first &+ Int(action[branch])] += g
    }
    if weight != 0 {
      for branch in 0..<count where facts[branch].gate >= 0 {
        let place = facts[branch].opening
        out[place] += weight * reach[facts[branch].gate] * p[place] * whole[branch]
      }
    }
    return total
  }
}

// MARK: - 3. Advantages

extension Rollout {
  /// Generalised advantage estimation, from the last round back:
  ///
  ///     δ_t = r_t + γ_t (1 − d_t) V_{t+1} − V_t      A_t = δ_t + γ_t λ (1 − d_t) A_{t+1}      R_t = A_t + V_t
  ///
  /// d_t: the episode ended with round t. One that was cut short goes on with V_{t+1} of what it left, and with no A_{t+1}.
  ///
  /// - Parameters:
  ///   - discount: γ_t of every round, where there is no time constant.
  ///   - timeConstant: τ of γ_t = exp(−T_t / τ), with T_t the round's duration.
  package func estimateAdvantages(discount: Float, timeConstant: Float? = nil, lambda: Float) {
    for process in 0..<processes {
      var next = lastValues[process]
      var advantage: Float = 0
      for round in stride(from: rounds - 1, through: 0, by: -1) {
        let sample = round * processes + process
        let outcome = outcomes.row(sample)[0]
        let value = values.row(sample)[0]
        let discount = timeConstant.map { exponential(-outcome.duration / $0) } ?? discount
        switch outcome.ending {
        case .goesOn: break
        case .isOver: (next, advantage) = (0, 0)
        case .isCutShort: (next, advantage) = (followingValues.row(sample)[0], 0)
        }
        let surprise = outcome.reward + discount * next - value
        advantage = surprise + discount * lambda * advantage
        advantages[sample] = advantage
        returns[sample] = advantage + value
        next = value
      }
    }
  }
}

// MARK: - 4. Learner

/// A network with what learning takes: its choices' probabilities, a gradient and Adam.
final class Learner {
  let network: any ActorCritic
  /// Of what was looked at last.
  let distributions: BranchDistributions
  let weights: TrainableParameters
  /// Of all weights, one after the other.
  let gradient: Tensor
  private let tape: Tape
  /// Computes and records nothing.
  private let acting = Tape()
  var optimizer: AdamW

  /// - Throws: `usage` where the network is for another environment.
  init(_ network: any ActorCritic, in shape: ControlShape, gated: Bool) throws {
    guard network.shape == shape else {
      throw PeatError.usage("The network was built for another environment than it is to learn in.")
    }
    self.network = network
    distributions = BranchDistributions(shape.branches, gated: gated)
    weights = TrainableParameters(network.parameters)
    optimizer = AdamW(count: weights.count, settings: .init(epsilon: 1e-5))
    gradient = Tensor(zeros: [weights.count])
    tape = Tape(pool: BufferPool(), weightGradients: gradient.pointer)
  }

  /// V of what is seen.
  func values(of observations: Tensor) -> Activation { network(observations, on: acting).values }

  /// V of what is seen, and then the probabilities of what there is to choose.
  func look(at place: Rollout.Places) -> Activation {
    let (logits, values) = network(place.observations, on: acting)
    distributions.update(
      logits: logits.pointer, mask: place.masks,
      rows: place.observations.shape[0] * network.shape.devices)
    return values
  }

  /// Adds the gradient of a minibatch's loss to `gradient`.
  ///
  /// - Parameters:
  ///   - weight: what the loss has of the entropy, `weight · Σ H`.
  ///   - loss: gets log π of each device's part of the actions, `[B · devices]`, and V, `[B]`, and writes ∂L/∂log π and ∂L/∂V in their places.
  /// - Returns: Σ H.
  func differentiate(
    _ batch: Rollout.Batch, entropy weight: Float,
    _ loss: (_ logProbabilities: UnsafeMutablePointer<Float>, _ values: UnsafeMutablePointer<Float>)
      -> Void
  ) -> Double {
    let rows = batch.count * network.shape.devices
    let (logits, values) = network(batch.observations, on: tape)
    distributions.update(logits: logits.pointer, mask: batch.masks, rows: rows)
    let pulls = Tensor(uninitialized: [rows])
    let valueSlopes = Tensor(uninitialized: [batch.count, 1])
    distributions.logProbabilities(of: batch.actions, into: pulls.pointer)
    for sample in 0..<batch.count {
      valueSlopes.pointer[sample] = values.pointer[sample * values.stride]
    }
    loss(pulls.pointer, valueSlopes.pointer)
    let slopes = Tensor(uninitialized: [logits.rows, logits.columns])
    let entropy = withExtendedLifetime(pulls) {
      distributions.gradients(
        batch.actions, policy: pulls.pointer, entropy: weight, into: slopes.pointer)
    }
    tape.seed(slopes, for: logits)
    tape.seed(valueSlopes, for: values)
    tape.backward()
    return entropy
  }

  /// The gradient of imitation's loss on a part of a minibatch, with an expert's decision a and the return R of what was played:
  ///
  ///     L = −mean log π(a|o) + c_v · ½ mean (V − R)²
  ///
  /// - Parameter size: of the whole minibatch.
  /// - Returns: −Σ log π(a|o).
  func imitate(_ batch: Rollout.Batch, of size: Int, valueWeight: Float) -> Double {
    var loss = 0.0
    let rows = batch.count * network.shape.devices
    _ = differentiate(batch, entropy: 0) { pulls, values in
      for row in 0..<rows { loss -= Double(pulls[row]) }
      pulls.update(repeating: -1 / Float(size), count: rows)
      for sample in 0..<batch.count {
        values[sample] = valueWeight * (values[sample] - batch.returns[sample]) / Float(size)
      }
    }
    return loss
  }

  /// One step of Adam; the gradient is 0 afterwards.
  ///
  /// - Parameter limit: the longest gradient that is taken as it is.
  func update(rate: Float, limit: Float? = nil) {
    if let limit {
      let norm = squaredNorm(gradient.count, gradient.pointer).squareRoot()
      if norm > Double(limit) {
        scale(gradient.count, gradient.pointer, by: Float(Double(limit) / (norm + 1e-6)))
      }
    }
    optimizer.update(weights, gradient: gradient.pointer, learningRate: rate)
    clearGradient()
  }

  func clearGradient() { gradient.pointer.update(repeating: 0, count: gradient.count) }
}

// MARK: - 5. SABPPO

/// Plays rounds in many processes at once, estimates advantages, and improves a branching policy by them.
public final class SABPPO {
  public struct Settings: Sendable, Codable, Equatable {
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
    /// ε.
    public var clip: Float = 0.2
    /// ε_v: how far a value may move from the old one; `nil`: as far as it wants.
    public var valueClip: Float? = 0.2
    /// c_v.
    public var valueWeight: Float = 0.5
    /// c_H.
    public var entropyWeight: Float = 0.001
    /// Largest norm of a gradient.
    public var gradientNorm: Float = 0.5
    /// Epochs end early where the policy has moved by 1.5 times this, in nats; `nil`: never.
    public var targetDivergence: Float?
    public var ratio: Ratio = .joint
    /// Whether branches that have no effect are left out of probability and entropy.
    public var isGated = true

    public init() {}
  }

  public let settings: Settings
  private let learner: Learner
  private var environment: any ControlEnvironment
  private var random: SeededRandom
  private let rollout: Rollout
  private var episodeReturns: [Double]
  /// Updates made so far, and what they are a share of where the learning rate falls.
  public private(set) var iteration = 0
  public let iterations: Int

  /// - Parameter iterations: how many are planned.
  /// - Throws: `usage` where settings are out of range or the network is for another environment.
  public init(
    _ environment: any ControlEnvironment, network: any ActorCritic, settings: Settings,
    iterations: Int, seed: UInt64
  ) throws {
    try settings.validate()
    self.settings = settings
    self.iterations = iterations
    learner = try Learner(network, in: environment.shape, gated: settings.isGated)
    self.environment = environment
    random = SeededRandom(seed: seed, "actions")
    rollout = Rollout(environment.shape, processes: environment.count, rounds: settings.rounds)
    episodeReturns = Array(repeating: 0, count: environment.count)
  }

  /// Goes on in a fresh environment of the same shape and as many processes, with chance of its own.
  func restart(in environment: any ControlEnvironment, seed: UInt64) {
    precondition(
      environment.shape == self.environment.shape && environment.count == self.environment.count,
      "SABPPO: restarted in another environment")
    self.environment = environment
    random = SeededRandom(seed: seed, "actions")
    episodeReturns = Array(repeating: 0, count: environment.count)
  }

  /// What a checkpoint holds of the network and its optimizer.
  var state: Learner.State { learner.state }

  /// Goes on where a checkpoint was made.
  func resume(_ state: Learner.State, after iteration: Int) throws {
    try learner.resume(state)
    self.iteration = iteration
  }

  /// Freezes the network again; afterwards it can be saved or used.
  public func finish() { learner.weights.release() }

  /// One iteration: plays, estimates, learns.
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

  // MARK: Playing

  /// Plays `rounds` rounds in every process and estimates advantages; returns the returns of the episodes that ended.
  package func collect() -> [Double] {
    var ended: [Double] = []
    for round in 0..<settings.rounds {
      let place = rollout.places(of: round)
      environment.observe(into: place.observations.pointer)
      environment.mask(into: place.masks)
      let values = learner.look(at: place)
      learner.distributions.sample(into: place.actions, using: &random)
      learner.distributions.logProbabilities(of: place.actions, into: place.logProbabilities)
      environment.step(place.actions, into: place.outcomes)
      for process in 0..<environment.count {
        place.values[process] = values.pointer[process * values.stride]
        episodeReturns[process] += Double(place.outcomes[process].reward)
      }
      end(place, &ended)
    }
    lookAhead(into: &rollout.lastValues)
    rollout.estimateAdvantages(
      discount: settings.discount, timeConstant: settings.timeConstant,
      lambda: settings.gaeLambda)
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
    let found = learner.values(of: rollout.lastObservations)
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
    let progress = Float(iteration) / Float(max(iterations, 1))
    let rate = settings.learningRate * (settings.anneals ? max(0, 1 - progress) : 1)
    let samples = rollout.samples
    let size = min(settings.minibatch, samples)
    epochs: for _ in 0..<settings.epochs {
      let order = random.shuffled(Array(0..<samples))
      for start in stride(from: 0, to: samples, by: size) {
        let part = order[start..<min(start + size, samples)]
        let before = sums.divergence
        differentiate(rollout.gather(part), &sums)
        learner.update(rate: rate, limit: settings.gradientNorm)
        let moved = (sums.divergence - before) / Double(part.count)
        if let target = settings.targetDivergence, moved > Double(1.5 * target) { break epochs }
      }
    }
    return Report(
      iteration: 0, steps: 0, policyLoss: sums.policy / sums.samples,
      valueLoss: sums.value / sums.samples, entropy: sums.entropy / sums.samples,
      divergence: sums.divergence / sums.samples, clippedShare: sums.clipped / sums.samples,
      explainedVariance: rollout.explainedVariance)
  }

  /// The gradient of a minibatch's loss, with ratio r = π(a|o) / π_old(a|o), advantage A (of mean 0 and deviation 1 in the minibatch),
  /// value V and return R:
  ///
  ///     L = mean max(−A r, −A clip(r, 1−ε, 1+ε))
  ///       + c_v · ½ mean max((V − R)², (V_old + clip(V − V_old, −ε_v, ε_v) − R)²) − c_H · mean H
  private func differentiate(_ batch: Rollout.Batch, _ sums: inout Sums) {
    let (count, devices) = (batch.count, environment.shape.devices)
    let entropy = learner.differentiate(batch, entropy: -settings.entropyWeight / Float(count)) {
      pulls, values in
      for sample in 0..<count {
        let advantage = batch.advantages[sample]
        let own = pulls + sample * devices
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
        values[sample] = valueSlope(
          values[sample], old: batch.values[sample], target: batch.returns[sample], count, &sums)
      }
    }
    sums.entropy += entropy
    sums.samples += Double(count)
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

  /// The weights, one after the other.
  package var values: Tensor { learner.weights.values }

  /// The loss of all that was played last, and its gradient with respect to all weights.
  package func lossAndGradient() -> (loss: Double, gradient: [Float]) {
    var sums = Sums()
    differentiate(rollout.gather(Array(0..<rollout.samples)[...]), &sums)
    defer { learner.clearGradient() }
    let loss =
      sums.policy + Double(settings.valueWeight) * sums.value
      - Double(settings.entropyWeight) * sums.entropy
    return (loss / sums.samples, learner.gradient.scalars)
  }
}
