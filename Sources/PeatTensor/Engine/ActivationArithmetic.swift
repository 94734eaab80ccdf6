/// f(x) for each value.
func map(
  _ count: Int, _ x: FloatPointer, into values: FloatPointer, by function: ActivationFunction
) {
  switch function {
  case .relu: map(count, x, into: values, ReLUArithmetic.self)
  case .silu: map(count, x, into: values, SiLUArithmetic.self)
  case .gelu: map(count, x, into: values, GELUArithmetic.self)
  case .tanhGELU: map(count, x, into: values, TanhGELUArithmetic.self)
  case .quickGELU: map(count, x, into: values, QuickGELUArithmetic.self)
  case .tanh: map(count, x, into: values, TanhArithmetic.self)
  }
}

/// f(x) and f′(x) for each value.
func map(
  _ count: Int, _ x: FloatPointer, into values: FloatPointer, _ slopes: FloatPointer,
  by function: ActivationFunction
) {
  switch function {
  case .relu: map(count, x, into: values, slopes, ReLUArithmetic.self)
  case .silu: map(count, x, into: values, slopes, SiLUArithmetic.self)
  case .gelu: map(count, x, into: values, slopes, GELUArithmetic.self)
  case .tanhGELU: map(count, x, into: values, slopes, TanhGELUArithmetic.self)
  case .quickGELU: map(count, x, into: values, slopes, QuickGELUArithmetic.self)
  case .tanh: map(count, x, into: values, slopes, TanhArithmetic.self)
  }
}

/// A function's arithmetic. Types rather than closures: a closure that is called in two places stays a function of its own.
protocol ActivationArithmetic {
  static func value(_ x: Vector) -> Vector
  static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector)
}

enum TanhGELUArithmetic: ActivationArithmetic {
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

enum GELUArithmetic: ActivationArithmetic {
  @inline(__always) static func value(_ x: Vector) -> Vector { x * normalDistribution(x).integral }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    let normal = normalDistribution(x)
    return (x * normal.integral, fma(x, normal.density, normal.integral))
  }
}

enum SiLUArithmetic: ActivationArithmetic {
  @inline(__always) static func value(_ x: Vector) -> Vector { x * sigmoid(x) }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    let s = sigmoid(x)
    return (x * s, s * fma(x, broadcast(1) - s, broadcast(1)))
  }
}

enum QuickGELUArithmetic: ActivationArithmetic {
  @inline(__always) static func value(_ x: Vector) -> Vector { x * sigmoid(x * broadcast(1.702)) }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    let s = sigmoid(x * broadcast(1.702))
    return (x * s, s * fma(x * broadcast(1.702), broadcast(1) - s, broadcast(1)))
  }
}

enum TanhArithmetic: ActivationArithmetic {
  @inline(__always) static func value(_ x: Vector) -> Vector { tanh(x) }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    let t = tanh(x)
    return (t, fma(-t, t, broadcast(1)))
  }
}

enum ReLUArithmetic: ActivationArithmetic {
  @inline(__always) static func value(_ x: Vector) -> Vector {
    // What is not a number stays so.
    x.replacing(with: 0, where: x .< .zero)
  }

  @inline(__always) static func valueAndSlope(_ x: Vector) -> (value: Vector, slope: Vector) {
    (value(x), broadcast(1).replacing(with: 0, where: x .<= .zero))
  }
}

@inline(__always) func map<Form: ActivationArithmetic>(
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

@inline(__always) func map<Form: ActivationArithmetic>(
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
