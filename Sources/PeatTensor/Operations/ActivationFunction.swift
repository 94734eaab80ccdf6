/// What stands between the two layers of a feed-forward block, value by value.
public enum ActivationFunction: String, Sendable, Codable, CaseIterable {
  /// `max(x, 0)`. Nair and Hinton 2010.
  case relu
  /// `x · σ(x)`, also called Swish. Elfwing et al. 2017, <https://arxiv.org/abs/1702.03118>.
  case silu
  /// `x · Φ(x)` with the exact error function. Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>.
  case gelu
  /// `½x (1 + tanh(√(2/π)(x + 0.044715x³)))`, from the same paper.
  case tanhGELU
  /// `x · σ(1.702x)`, from the same paper.
  case quickGELU
  /// The hyperbolic tangent.
  case tanh

  /// By the name that config.json has for it; `nil` for one that is not known.
  public init?(configurationName name: String) {
    switch name {
    case "relu": self = .relu
    case "silu", "swish": self = .silu
    case "gelu": self = .gelu
    case "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate": self = .tanhGELU
    case "quick_gelu": self = .quickGELU
    case "tanh": self = .tanh
    default: return nil
    }
  }
}

extension Tape {
  /// An activation function of each value.
  ///
  /// - Parameter x: `[N, d]`.
  /// - Returns: `[N, d]`.
  public func activated(_ x: Activation, by function: ActivationFunction) -> Activation {
    // The results of these alone say what the backward pass needs.
    if function == .relu { return relu(x) }
    if function == .tanh { return tanh(x) }
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let output = makeActivation(rows: x.rows, columns: x.columns, needsGradient: x.needsGradient)
    for row in 0..<x.rows {
      map(
        x.columns, x.pointer + row * x.stride, into: output.pointer + row * x.columns, by: function)
    }
    guard output.needsGradient else { return output }
    let values = ActivatedValues(x: x, function: function)
    let recomputation = Recomputation { pool in values.compute(pool) }
    record(
      .activated(
        ActivatedRecord(
          values: values, output: output.shapeOnly, recomputation: recomputation)))
    return output.recomputed(by: recomputation)
  }
}

/// The values once more, and the slopes with them: one exponential serves both.
final class ActivatedValues {
  let x: Activation
  private let function: ActivationFunction
  private(set) var slopes: Buffer?

  init(x: Activation, function: ActivationFunction) {
    self.x = x
    self.function = function
  }

  func compute(_ pool: BufferPool) -> Buffer {
    let values = pool.take(x.rows * x.columns)
    let slopes = pool.take(x.rows * x.columns)
    for row in 0..<x.rows {
      let place = row * x.columns
      map(
        x.columns, x.pointer + row * x.stride, into: values.pointer + place,
        slopes.pointer + place, by: function)
    }
    self.slopes = slopes
    return values
  }

  func forget() { slopes = nil }
}

struct ActivatedRecord {
  let values: ActivatedValues
  let output: Activation
  let recomputation: Recomputation

  func backward(_ tape: Tape) {
    let x = values.x
    guard let gradient = tape.takeGradient(of: output), let slot = x.slot else {
      recomputation.forget()
      values.forget()
      return
    }
    defer { withExtendedLifetime(gradient) {} }
    // Whoever wanted the values has had the slopes computed too.
    if values.slopes == nil { _ = recomputation.restored(tape.pool) }
    recomputation.forget()
    if let slopes = values.slopes {
      // dy is not needed afterwards: its memory takes the result.
      mapVectors(x.rows * x.columns, gradient.pointer, slopes.pointer, into: gradient.pointer) {
        $0 * $1
      }
    }
    values.forget()
    if x.columns == x.stride {
      tape.give(gradient, to: x)
      return
    }
    let (target, _) = tape.gradientTarget(for: x, in: slot)
    for row in 0..<x.rows {
      add(x.columns, gradient.pointer + row * x.columns, to: target + row * x.stride)
    }
  }
}
