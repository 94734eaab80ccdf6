import PeatTensor

/// The normalisation in front of a sub-layer: root mean square, or mean and variance.
public struct Normalization: Sendable {
  public let weight: Parameter
  /// Present in layer norm, absent in RMS norm.
  public let bias: Parameter?
  public let epsilon: Float

  public init(weight: Parameter, bias: Parameter?, epsilon: Float) {
    self.weight = weight
    self.bias = bias
    self.epsilon = epsilon
  }

  /// `[N, d]` → `[N, d]`.
  public func callAsFunction(_ x: Activation, on tape: Tape) -> Activation {
    if let bias {
      tape.layerNorm(x, weight: weight.weight, bias: bias.weight, epsilon: epsilon)
    } else {
      tape.rmsNorm(x, weight: weight.weight, epsilon: epsilon)
    }
  }

  public var parameters: [Parameter] { [weight] + (bias.map { [$0] } ?? []) }
}
