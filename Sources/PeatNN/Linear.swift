import PeatTensor

/// A linear layer, `x · Wᵀ + b`, beside which a low-rank update may stand.
///
/// Unchecked Sendable: what a tuning method puts beside it is set before training starts, by the owner of the model.
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
  /// DoRA's norms of the rows of W + s · B · A, which then gives directions only; there is a low-rank pair as well.
  public var magnitude: Magnitude?
  /// What the input's columns are multiplied with, `[1, inputs]` (IA³ of a feed-forward layer).
  public var inputScale: Parameter?
  /// What the output's columns are multiplied with, bias included, `[outputs, 1]` (IA³ elsewhere).
  public var outputScale: Parameter?

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
    let x = inputScale.map { tape.scaledColumns(x, by: $0.weight) } ?? x
    let reduced =
      reduction.map { reduction in
        let output = tape.linear(x, weight: reduction.weight, layout: layout)
        tape.observe(reduction.name, input: x, output: output)
        return output
      } ?? x
    let output = output(reduced, on: tape, residual: residual)
    tape.observe(weight.name, input: reduced, output: output)
    return output
  }

  private func output(_ x: Activation, on tape: Tape, residual: Activation?) -> Activation {
    if let magnitude, let lowRank {
      let pair = lowRank.weights
      let whole = x
      var (x, shift, residual) = (x, bias?.weight, residual)
      if lowRank.dropout > 0, tape.dropoutPlace != nil {
        // As PEFT computes it: W · x is whole, and what the method adds to it, (m / ‖W + s · B · A‖ − 1) · W · x and the pair's part, is of dropped values
        // d. Together W · (x − d) + m / ‖W + s · B · A‖ · (W + s · B · A) · d.
        func dropped(_ sign: Float) -> Activation {
          tape.dropout(whole, rate: lowRank.dropout, scale: sign, key: lowRank.dropoutKey)
        }
        residual = tape.linear(
          tape.addition(whole, dropped(-1)), weight: weight.weight, layout: layout, bias: shift,
          residual: residual)
        (x, shift) = (dropped(1), nil)
      }
      let directions = tape.linear(x, weight: weight.weight, layout: layout, lowRank: pair)
      let norms = tape.rowNorms(
        of: weight.weight, layout: layout, squares: magnitude.squares, lowRank: pair)
      return tape.scaledColumns(
        directions, by: magnitude.parameter.weight, dividedBy: norms, bias: shift,
        residual: residual)
    }
    if let outputScale {
      return tape.scaledColumns(
        tape.linear(x, weight: weight.weight, layout: layout, bias: bias?.weight),
        by: outputScale.weight, residual: residual)
    }
    if let lowRank, lowRank.dropout > 0, tape.dropoutPlace != nil {
      let kept = tape.dropout(
        x, rate: lowRank.dropout, scale: lowRank.scale, key: lowRank.dropoutKey)
      return tape.linear(
        tape.linear(kept, weight: lowRank.down.weight), weight: lowRank.up.weight,
        residual: tape.linear(
          x, weight: weight.weight, layout: layout, bias: bias?.weight, residual: residual))
    }
    return tape.linear(
      x, weight: weight.weight, layout: layout, bias: bias?.weight, residual: residual,
      lowRank: lowRank?.weights)
  }

  /// What a tuning method has put beside it.
  public var added: [Parameter] {
    (lowRank.map { [$0.down, $0.up] } ?? []) + (magnitude.map { [$0.parameter] } ?? [])
      + [inputScale, outputScale].compactMap { $0 }
  }

  /// Whether a tuning method is at work in it.
  public var isTuned: Bool { !added.isEmpty || parameters.contains(where: \.isReplaced) }

  /// Weight and bias with what stands beside them worked in; `nil` for what stays as it is.
  package var merged: (weight: Tensor?, bias: Tensor?) {
    let scale = outputScale?.tensor
    var result: Tensor?
    if let lowRank {
      let sum = mergingLowRank(
        weight.tensor, down: lowRank.down.tensor, up: lowRank.up.tensor, scale: lowRank.scale,
        layout: layout)
      guard let magnitude else { return (sum, nil) }
      let squares = squaredRowNorms(sum, layout: layout)
      let lengths = magnitude.parameter.tensor
      result = scalingOutputs(
        sum,
        by: (0..<outputs).map {
          lengths.pointer[$0] / max(squares.pointer[$0], 1e-24).squareRoot()
        }, layout: layout)
    } else if let scale {
      result = scalingOutputs(
        weight.tensor, by: (0..<outputs).map { scale.pointer[$0] }, layout: layout)
    } else if let inputScale, reduction == nil {
      let scale = inputScale.tensor
      // The other way round inputs are what outputs are here.
      result = scalingOutputs(
        weight.tensor, by: (0..<inputs).map { scale.pointer[$0] },
        layout: layout == .outputsByInputs ? .inputsByOutputs : .outputsByInputs)
    }
    guard let scale, let bias else { return (result, nil) }
    let shift = bias.tensor.copied()
    for output in 0..<outputs { shift.pointer[output] *= scale.pointer[output] }
    return (result, shift)
  }

  /// Its own parameters, without what a tuning method has put beside it.
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
  /// How probable it is in training that a value of what goes into A becomes zero.
  public let dropout: Float
  /// Layers with other keys drop other values.
  public let dropoutKey: UInt64

  public init(
    down: Parameter, up: Parameter, scale: Float, dropout: Float = 0, dropoutKey: UInt64 = 0
  ) {
    self.down = down
    self.up = up
    self.scale = scale
    self.dropout = dropout
    self.dropoutKey = dropoutKey
  }

  var weights: LowRankWeights {
    LowRankWeights(down: down.weight, up: up.weight, scale: scale)
  }
}

/// DoRA's m beside a low-rank pair: the layer is then m ⊙ (W + s · B · A) / ‖W + s · B · A‖, row by row. The norm counts as a constant
/// in the gradient.
///
/// Source: Liu et al. 2024, <https://arxiv.org/abs/2402.09353>, section 4.3 for the constant.
public final class Magnitude: Sendable {
  /// m, `[outputs]`.
  public let parameter: Parameter
  /// ‖wᵢ‖² of the frozen weight, `[outputs]`.
  let squares: Tensor

  /// - Parameter layer: as it is while the magnitude is in it.
  public init(_ parameter: Parameter, for layer: Linear) {
    self.parameter = parameter
    squares = squaredRowNorms(layer.weight.tensor, layout: layer.layout)
  }
}
