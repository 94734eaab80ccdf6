import PeatTensor

/// A linear layer, `x · Wᵀ + b`, beside which a low-rank update may stand.
///
/// Unchecked Sendable: `lowRank` is set before training starts, by the owner of the model.
public final class Linear: @unchecked Sendable {
  /// Its path in the checkpoint without ".weight": `model.layers.3.self_attn.q_proj`.
  public let name: String
  public let weight: Parameter
  /// The first of two factors: then the layer is x · Rᵀ · Wᵀ + b, and R, `[r, inputs]`, is this.
  public let reduction: Parameter?
  public let bias: Parameter?
  public let layout: WeightLayout
  /// LoRA's matrices, where the layer is tuned that way.
  public var lowRank: LowRankPair?

  public init(
    _ name: String, reduction: Parameter? = nil, weight: Parameter, bias: Parameter?,
    layout: WeightLayout
  ) {
    self.name = name
    self.reduction = reduction
    self.weight = weight
    self.bias = bias
    self.layout = layout
  }

  public var inputs: Int {
    (reduction ?? weight).shape[layout == .outputsByInputs ? 1 : 0]
  }
  public var outputs: Int { weight.shape[layout == .outputsByInputs ? 0 : 1] }

  /// - Parameters:
  ///   - x: `[N, inputs]`.
  ///   - residual: `[N, outputs]`, added to the result.
  /// - Returns: `[N, outputs]`.
  public func callAsFunction(
    _ x: Activation, on tape: Tape, residual: Activation? = nil
  ) -> Activation {
    let reduced =
      reduction.map { reduction in
        let output = tape.linear(x, weight: reduction.weight, layout: layout)
        tape.observe(reduction.name, input: x, output: output)
        return output
      } ?? x
    let output = tape.linear(
      reduced, weight: weight.weight, layout: layout, bias: bias?.weight, residual: residual,
      lowRank: lowRank?.weights)
    tape.observe(weight.name, input: reduced, output: output)
    return output
  }

  /// Its own parameters, without those of a low-rank update.
  public var parameters: [Parameter] {
    (reduction.map { [$0] } ?? []) + [weight] + (bias.map { [$0] } ?? [])
  }
}

/// LoRA's two matrices beside one linear layer: W + s · B · A.
public final class LowRankPair: Sendable {
  /// A, `[r, inputs]`.
  public let down: Parameter
  /// B, `[outputs, r]`.
  public let up: Parameter
  /// s.
  public let scale: Float

  public init(down: Parameter, up: Parameter, scale: Float) {
    self.down = down
    self.up = up
    self.scale = scale
  }

  var weights: LowRankWeights {
    LowRankWeights(down: down.weight, up: up.weight, scale: scale)
  }
}
