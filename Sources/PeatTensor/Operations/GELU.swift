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
        // ½(1 + tanh z) = sigmoid(2z): one exponential and one division.
        mapVectors(x.columns, source, into: place) { x in x * sigmoid(geluArgument(x)) }
      case .exact:
        mapVectors(x.columns, source, into: place) { x in x * normalDistribution(x).integral }
      }
    }
    guard output.needsGradient else { return output }
    let values = GELUValues(x: x, form: form)
    let recomputation = Recomputation { pool in values.compute(pool) }
    record(
      .gelu(
        GELURecord(
          values: values, output: output.shapeOnly, recomputation: recomputation)))
    return output.recomputed(by: recomputation)
  }
}

/// The values once more, and the slopes with them: one exponential serves both.
final class GELUValues {
  let x: Activation
  private let form: GELUForm
  private(set) var slopes: Buffer?

  init(x: Activation, form: GELUForm) {
    self.x = x
    self.form = form
  }

  func compute(_ pool: BufferPool) -> Buffer {
    let values = pool.take(x.rows * x.columns)
    let slopes = pool.take(x.rows * x.columns)
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let place = row * x.columns
      switch form {
      case .tanhApproximation:
        mapToTwo(
          x.columns, source, into: values.pointer + place, slopes.pointer + place, tanhForm)
      case .exact:
        mapToTwo(
          x.columns, source, into: values.pointer + place, slopes.pointer + place, exactForm)
      }
    }
    self.slopes = slopes
    return values
  }

  func forget() { slopes = nil }
}

@inline(__always) private func tanhForm(_ x: Vector) -> (value: Vector, slope: Vector) {
  let s = sigmoid(geluArgument(x))
  // Beyond ±10 the slope is 0 or 1, and the cube of a large x would be infinite.
  var near = x.replacing(with: broadcast(-10), where: x .< broadcast(-10))
  near = near.replacing(with: broadcast(10), where: near .> broadcast(10))
  // d(2z)/dx = 2√(2/π)(1 + 3·0.044715·x²)
  let rate = fma(
    near * near, broadcast(2 * 0.797_884_56 * 3 * 0.044715), broadcast(2 * 0.797_884_56))
  return (x * s, fma(near * rate, s * (broadcast(1) - s), s))
}

@inline(__always) private func exactForm(_ x: Vector) -> (value: Vector, slope: Vector) {
  let normal = normalDistribution(x)
  return (x * normal.integral, fma(x, normal.density, normal.integral))
}

/// Two results of each of `count` floats.
@inline(__always) private func mapToTwo(
  _ count: Int, _ a: FloatPointer, into first: FloatPointer, _ second: FloatPointer,
  _ body: (Vector) -> (value: Vector, slope: Vector)
) {
  var i = 0
  while i &+ lanes <= count {
    let result = body(load(a + i))
    store(result.value, first + i)
    store(result.slope, second + i)
    i &+= lanes
  }
  if i < count {
    let result = body(load(a + i, first: count - i, fill: 0))
    store(result.value, first + i, first: count - i)
    store(result.slope, second + i, first: count - i)
  }
}

/// 2√(2/π) · (x + 0.044715·x³).
@inline(__always) private func geluArgument(_ x: Vector) -> Vector {
  x * fma(x * x, broadcast(2 * 0.797_884_56 * 0.044715), broadcast(2 * 0.797_884_56))
}

struct GELURecord {
  let values: GELUValues
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
