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
      case .tanhApproximation: map(x.columns, source, into: place, TanhForm.self)
      case .exact: map(x.columns, source, into: place, ExactForm.self)
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
        map(
          x.columns, source, into: values.pointer + place, slopes.pointer + place, TanhForm.self)
      case .exact:
        map(
          x.columns, source, into: values.pointer + place, slopes.pointer + place, ExactForm.self)
      }
    }
    self.slopes = slopes
    return values
  }

  func forget() { slopes = nil }
}

/// A form's arithmetic. Types rather than closures: a closure that is called in two places stays a function of its own.
private protocol GELUArithmetic {
  static func value(_ x: Vector) -> Vector
  static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector)
}

private enum TanhForm: GELUArithmetic {
  /// ½(1 + tanh z) = sigmoid(2z): one exponential and one division.
  @inline(__always) static func value(_ x: Vector) -> Vector { x * sigmoid(argument(x)) }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    let s = sigmoid(argument(x))
    // Beyond ±10 the slope is 0 or 1, and the cube of a large x would be infinite.
    var near = x.replacing(with: broadcast(-10), where: x .< broadcast(-10))
    near = near.replacing(with: broadcast(10), where: near .> broadcast(10))
    // d(2z)/dx = 2√(2/π)(1 + 3·0.044715·x²)
    let rate = fma(
      near * near, broadcast(2 * 0.797_884_56 * 3 * 0.044715), broadcast(2 * 0.797_884_56))
    return (x * s, fma(near * rate, s * (broadcast(1) - s), s))
  }

  /// 2√(2/π) · (x + 0.044715·x³).
  @inline(__always) private static func argument(_ x: Vector) -> Vector {
    x * fma(x * x, broadcast(2 * 0.797_884_56 * 0.044715), broadcast(2 * 0.797_884_56))
  }
}

private enum ExactForm: GELUArithmetic {
  @inline(__always) static func value(_ x: Vector) -> Vector { x * normalDistribution(x).integral }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    let normal = normalDistribution(x)
    return (x * normal.integral, fma(x, normal.density, normal.integral))
  }
}

@inline(__always) private func map<Form: GELUArithmetic>(
  _ count: Int, _ x: FloatPointer, into values: FloatPointer, _ form: Form.Type
) {
  var i = 0
  while i &+ lanes <= count {
    store(Form.value(load(x + i)), values + i)
    i &+= lanes
  }
  if i < count {
    store(Form.value(load(x + i, first: count - i, fill: 0)), values + i, first: count - i)
  }
}

@inline(__always) private func map<Form: GELUArithmetic>(
  _ count: Int, _ x: FloatPointer, into values: FloatPointer, _ slopes: FloatPointer,
  _ form: Form.Type
) {
  var i = 0
  while i &+ lanes <= count {
    let result = Form.valueAndSlope(load(x + i))
    store(result.value, values + i)
    store(result.slope, slopes + i)
    i &+= lanes
  }
  if i < count {
    let result = Form.valueAndSlope(load(x + i, first: count - i, fill: 0))
    store(result.value, values + i, first: count - i)
    store(result.slope, slopes + i, first: count - i)
  }
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
