import PeatNN
import PeatTensor

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

/// How a controller's network is built.
public struct NetworkConfiguration: Sendable, Codable, Equatable {
  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// One trunk reads all devices side by side: for a fixed number of them, in a fixed order.
    case flat
    /// One encoder reads each device by itself, and all see what they have in common: for any number, in any order.
    case shared
  }

  public var kind: Kind
  public var width: Int
  /// How often devices of the shared network look at what all have in common.
  public var exchanges: Int

  public init(_ kind: Kind = .shared, width: Int = 64, exchanges: Int = 1) {
    self.kind = kind
    self.width = width
    self.exchanges = exchanges
  }

  /// Throws `usage` where the width is not between 1 and 4096, or there are not 1 to 16 exchanges.
  public func validate() throws {
    guard (1...4096).contains(width) else {
      throw PeatError.usage("A network's width is \(width); it must be between 1 and 4096.")
    }
    guard (1...16).contains(exchanges) else {
      throw PeatError.usage("A network has \(exchanges) exchanges; it must be between 1 and 16.")
    }
  }

  /// A network with fresh weights.
  ///
  /// - Throws: `usage` as `validate` does.
  public func make(for shape: ControlShape, seed: UInt64) throws -> any ActorCritic {
    try validate()
    var random = SeededRandom(seed: seed, "network")
    return switch kind {
    case .flat: FlatActorCritic(shape, width: width, &random)
    case .shared: SharedActorCritic(shape, width: width, exchanges: exchanges, &random)
    }
  }
}

/// A linear layer whose weight has orthogonal rows or columns of length `gain`, and no bias.
///
/// Source: Saxe, McClelland and Ganguli 2013, <https://arxiv.org/abs/1312.6120>.
private func layer(
  _ name: String, _ inputs: Int, _ outputs: Int, gain: Float, _ random: inout SeededRandom
) -> Linear {
  Linear(
    name,
    weight: Parameter(
      name + ".weight", .orthogonal(rows: outputs, columns: inputs, gain: gain, using: &random)),
    bias: Parameter(name + ".bias", Tensor(zeros: [outputs])), layout: .outputsByInputs)
}

/// Shared trunk, one branch per decision, over all devices at once.
///
///     z = tanh(W₂ tanh(W₁ o + b₁) + b₂)      logits = W_π z + b_π      value = w_v z + b_v
///
/// Source: Tavakoli, Pardo and Kormushev 2018, <https://arxiv.org/abs/1711.08946>.
struct FlatActorCritic: ActorCritic {
  let shape: ControlShape
  private let first: Linear
  private let second: Linear
  private let policy: Linear
  private let value: Linear

  init(_ shape: ControlShape, width: Int, _ random: inout SeededRandom) {
    self.shape = shape
    let root2 = Float(2).squareRoot()
    first = layer("first", shape.observationSize, width, gain: root2, &random)
    second = layer("second", width, width, gain: root2, &random)
    policy = layer("policy", width, shape.logits, gain: 0.01, &random)
    value = layer("value", width, 1, gain: 1, &random)
  }

  var parameters: [Parameter] {
    [first, second, policy, value].flatMap(\.parameters)
  }

  func callAsFunction(
    _ observations: Tensor, on tape: Tape
  ) -> (logits: Activation, values: Activation) {
    let z = tape.tanh(second(tape.tanh(first(tape.input(observations), on: tape)), on: tape))
    return (policy(z, on: tape), value(z, on: tape))
  }
}

/// One encoder for each device, and what they have in common: the same for any order of the devices.
///
///     h_i = tanh(W_e (o_i, g) + b_e)      p = (mean_i h_i, max_i h_i)      h_i ← tanh(W_u h_i + W_p p + b_u)
///     logits_i = W_π h_i + b_π            value = w_v tanh(W_t p + b_t) + b_v
///
/// g: what describes the round. The second line may be repeated, each time with weights of its own; the value is of its last p.
///
/// Source: Zaheer et al. 2017, <https://arxiv.org/abs/1703.06114>.
struct SharedActorCritic: ActorCritic {
  /// What a device makes of itself and of what all have in common.
  private struct Exchange {
    let own: Linear
    let common: Linear

    init(_ name: String, width: Int, _ random: inout SeededRandom) {
      // One orthogonal matrix over (h, p), cut into the columns of each.
      let joint = Tensor.orthogonal(
        rows: width, columns: 3 * width, gain: Float(2).squareRoot(), using: &random
      ).scalars
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

  init(_ shape: ControlShape, width: Int, exchanges count: Int, _ random: inout SeededRandom) {
    self.shape = shape
    let root2 = Float(2).squareRoot()
    encoder = layer(
      "encoder", shape.deviceFeatures + shape.globalFeatures, width, gain: root2, &random)
    var exchanges: [Exchange] = []
    for number in 0..<count {
      exchanges.append(Exchange("exchange.\(number)", width: width, &random))
    }
    self.exchanges = exchanges
    policy = layer("policy", width, shape.branches.width, gain: 0.01, &random)
    trunk = layer("trunk", 2 * width, width, gain: root2, &random)
    value = layer("value", width, 1, gain: 1, &random)
  }

  var parameters: [Parameter] {
    ([encoder] + exchanges.flatMap { [$0.own, $0.common] } + [policy, trunk, value])
      .flatMap(\.parameters)
  }

  func callAsFunction(
    _ observations: Tensor, on tape: Tape
  ) -> (logits: Activation, values: Activation) {
    let batch = observations.shape[0]
    let (features, globals) = (shape.deviceFeatures, shape.globalFeatures)
    let devices = (observations.shape[1] - globals) / features
    let rows = Tensor(uninitialized: [batch * devices, features + globals])
    for sample in 0..<batch {
      let source = observations.pointer + sample * observations.shape[1]
      for device in 0..<devices {
        let place = rows.pointer + (sample * devices + device) * (features + globals)
        place.update(from: source + device * features, count: features)
        (place + features).update(from: source + devices * features, count: globals)
      }
    }
    var h = tape.tanh(encoder(tape.input(rows), on: tape))
    var pooled = tape.pool(h, groups: batch)
    for (number, exchange) in exchanges.enumerated() {
      if number > 0 { pooled = tape.pool(h, groups: batch) }
      h = tape.tanh(exchange.own(h, on: tape), plus: exchange.common(pooled, on: tape))
    }
    return (policy(h, on: tape), value(tape.tanh(trunk(pooled, on: tape)), on: tape))
  }
}
