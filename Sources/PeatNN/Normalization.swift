import PeatTensor

/// The normalisation in front of a sub-layer: root mean square, or mean and variance.
public struct Normalization: Sendable {
  public let weight: Parameter
  /// Present in layer norm, absent in RMS norm.
  public let bias: Parameter?
  public let epsilon: Float
  /// What is added to an RMS norm's weights: 1 where they are kept as what they differ from 1 by.
  public let offset: Float

  public init(weight: Parameter, bias: Parameter?, epsilon: Float, offset: Float = 0) {
    self.weight = weight
    self.bias = bias
    self.epsilon = epsilon
    self.offset = offset
  }

  /// `[N, d]` → `[N, d]`.
  public func callAsFunction(_ x: Activation, on tape: Tape) -> Activation {
    if let bias {
      tape.layerNorm(x, weight: weight.weight, bias: bias.weight, epsilon: epsilon)
    } else {
      tape.rmsNorm(x, weight: weight.weight, epsilon: epsilon, offset: offset)
    }
  }

  public var parameters: [Parameter] { [weight] + (bias.map { [$0] } ?? []) }
}
