import PeatTensor

/// A small feed-forward layer behind a sublayer, which adds its result to the sublayer's: h + W₂ · f(W₁ · h + b₁) + b₂.
///
/// Source: Houlsby et al. 2019, <https://arxiv.org/abs/1902.00751>.
public final class BottleneckAdapter: Sendable {
  /// f, the function between the two layers.
  public enum Activation: String, ConfigurationWord {
    case relu
    /// With the exact error function.
    case gelu
  }

  /// W₁ `[m, d]` and b₁ `[m]`.
  public let down: Linear
  /// W₂ `[d, m]` and b₂ `[d]`.
  public let up: Linear
  public let activation: Activation

  public init(down: Linear, up: Linear, activation: Activation) {
    precondition(
      down.outputs == up.inputs && down.inputs == up.outputs,
      "BottleneckAdapter: \(down.inputs) → \(down.outputs), \(up.inputs) → \(up.outputs)")
    self.down = down
    self.up = up
    self.activation = activation
  }

  /// m: how many values there are between the two layers.
  public var size: Int { down.outputs }
  public var parameters: [Parameter] { down.parameters + up.parameters }

  /// - Parameters:
  ///   - h: the sublayer's result, `[N, d]`.
  ///   - residual: what came into the sublayer, `[N, d]`, where it is added here.
  /// - Returns: all these and the adapter's result added, `[N, d]`.
  public func callAsFunction(
    _ h: PeatTensor.Activation, on tape: Tape, residual: PeatTensor.Activation?
  ) -> PeatTensor.Activation {
    let narrow = down(h, on: tape)
    let active =
      switch activation {
      case .relu: tape.activated(narrow, by: .relu)
      case .gelu: tape.activated(narrow, by: .gelu)
      }
    return up(active, on: tape, residual: residual.map { tape.addition(h, $0) } ?? h)
  }
}
