/// Which of the two formulas in use for the Gaussian error linear unit.
public enum GELUForm: Sendable {
  /// `x · Φ(x)` with the exact error function ("gelu").
  case exact
  /// `½x (1 + tanh(√(2/π)(x + 0.044715x³)))` ("gelu_new", "gelu_pytorch_tanh").
  case tanhApproximation
}

extension Tape {
  /// The Gaussian error linear unit of each value.
  ///
  /// - Parameter x: `[N, d]`.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>.
  public func gelu(_ x: Activation, form: GELUForm) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let output = makeActivation(rows: x.rows, columns: x.columns, needsGradient: x.needsGradient)
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let place = output.pointer + row * x.columns
      switch form {
      case .tanhApproximation:
        mapVectors(x.columns, source, into: place) { x in
          // ½(1 + tanh z) = sigmoid(2z): one exponential and one division.
          x * sigmoid(geluArgument(x))
        }
      case .exact:
        mapVectors(x.columns, source, into: place) { x in x * normalDistribution(x).integral }
      }
    }
    if output.needsGradient { record(.gelu(GELURecord(x: x, form: form, output: output))) }
    return output
  }
}

/// 2√(2/π) · (x + 0.044715·x³).
@inline(__always) private func geluArgument(_ x: Vector) -> Vector {
  x * fma(x * x, broadcast(2 * 0.797_884_56 * 0.044715), broadcast(2 * 0.797_884_56))
}

struct GELURecord {
  let x: Activation
  let form: GELUForm
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = x.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let width = x.columns
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let dy = gradient.pointer + row * width
      // dy is not needed afterwards: its memory takes the result.
      switch form {
      case .tanhApproximation:
        mapVectors(width, source, dy, into: dy) { x, dy in
          // Beyond ±10 the slope is 0 or 1, and the cube of a large x would be infinite.
          var x = x.replacing(with: broadcast(-10), where: x .< broadcast(-10))
          x = x.replacing(with: broadcast(10), where: x .> broadcast(10))
          let s = sigmoid(geluArgument(x))
          // d(2z)/dx = 2√(2/π)(1 + 3·0.044715·x²)
          let slope = fma(
            x * x, broadcast(2 * 0.797_884_56 * 3 * 0.044715), broadcast(2 * 0.797_884_56))
          return dy * fma(x * slope, s * (broadcast(1) - s), s)
        }
      case .exact:
        mapVectors(width, source, dy, into: dy) { x, dy in
          let normal = normalDistribution(x)
          return dy * fma(x, normal.density, normal.integral)
        }
      }
    }
    if x.columns == x.stride {
      tape.give(gradient, to: x)
      return
    }
    let (target, _) = tape.gradientTarget(for: x, in: slot)
    for row in 0..<x.rows {
      add(width, gradient.pointer + row * width, to: target + row * x.stride)
    }
  }
}
