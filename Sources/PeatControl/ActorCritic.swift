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
  /// - Throws: `usage` as `validate` does; `interrupted` where somebody wanted it to stop.
  public func make(
    for shape: ControlShape, seed: UInt64, shouldStop: () -> Bool = { false }
  ) throws -> any ActorCritic {
    try validate()
    var weights = FreshWeights(SeededRandom(seed: seed, "network"))
    return try withoutActuallyEscaping(shouldStop) { shouldStop in
      try network(for: shape) {
        guard let matrix = weights.matrix($0, $1, gain: $2, shouldStop: shouldStop) else {
          throw PeatError(.interrupted, "Interrupted while the network was made.")
        }
        return matrix
      }
    }
  }

  /// A network of zeros, whose weights are still to come.
  func blank(for shape: ControlShape) throws -> any ActorCritic {
    try validate()
    return try network(for: shape) { rows, columns, _ in Tensor(zeros: [rows, columns]) }
  }

  private func network(
    for shape: ControlShape, _ matrix: WeightMaker
  ) throws -> any ActorCritic {
    switch kind {
    case .flat: try FlatActorCritic(shape, width: width, matrix)
    case .shared: try SharedActorCritic(shape, width: width, exchanges: exchanges, matrix)
    }
  }

  /// The name and shape of each weight of a network for a shape, without making one.
  public func layout(for shape: ControlShape) -> [String: [Int]] {
    var result: [String: [Int]] = [:]
    func layer(_ name: String, _ inputs: Int, _ outputs: Int, hasBias: Bool = true) {
      result[name + ".weight"] = [outputs, inputs]
      if hasBias { result[name + ".bias"] = [outputs] }
    }
    switch kind {
    case .flat:
      layer("first", shape.observationSize, width)
      layer("second", width, width)
      layer("policy", width, shape.logits)
    case .shared:
      layer("encoder", shape.deviceFeatures + shape.globalFeatures, width)
      for number in 0..<exchanges {
        layer("exchange.\(number).own", width, width)
        layer("exchange.\(number).common", 2 * width, width, hasBias: false)
      }
      layer("policy", width, shape.branches.width)
      layer("trunk", 2 * width, width)
    }
    layer("value", width, 1)
    return result
  }
}

/// Makes the matrix of a layer: rows, columns, and how long its rows or columns are.
private typealias WeightMaker = (_ rows: Int, _ columns: Int, _ gain: Float) throws -> Tensor

/// Orthogonal matrices, one after the other from one source of chance.
private struct FreshWeights {
  private var random: SeededRandom

  init(_ random: SeededRandom) { self.random = random }

  mutating func matrix(
    _ rows: Int, _ columns: Int, gain: Float, shouldStop: () -> Bool
  ) -> Tensor? {
    .orthogonal(
      rows: rows, columns: columns, gain: gain, using: &random, shouldStop: shouldStop)
  }
}

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
///
/// Source: Tavakoli, Pardo and Kormushev 2018, <https://arxiv.org/abs/1711.08946>.
struct FlatActorCritic: ActorCritic {
  let shape: ControlShape
  private let first: Linear
  private let second: Linear
  private let policy: Linear
  private let value: Linear

  fileprivate init(_ shape: ControlShape, width: Int, _ matrix: WeightMaker) throws {
    self.shape = shape
    let root2 = Float(2).squareRoot()
    first = try layer("first", shape.observationSize, width, gain: root2, matrix)
    second = try layer("second", width, width, gain: root2, matrix)
    policy = try layer("policy", width, shape.logits, gain: 0.01, matrix)
    value = try layer("value", width, 1, gain: 1, matrix)
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

  fileprivate init(
    _ shape: ControlShape, width: Int, exchanges count: Int, _ matrix: WeightMaker
  ) throws {
    self.shape = shape
    let root2 = Float(2).squareRoot()
    encoder = try layer(
      "encoder", shape.deviceFeatures + shape.globalFeatures, width, gain: root2, matrix)
    var exchanges: [Exchange] = []
    for number in 0..<count {
      exchanges.append(try Exchange("exchange.\(number)", width: width, matrix))
    }
    self.exchanges = exchanges
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
