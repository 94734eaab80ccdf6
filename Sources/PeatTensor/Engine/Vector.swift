import CPeatHints

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

#if PEAT_WIDE
  /// The kernels' register: sixteen floats where the processor has AVX-512, eight elsewhere.
  typealias Vector = SIMD16<Float>
  typealias IntegerVector = SIMD16<Int32>
  typealias BitVector = SIMD16<UInt32>
  typealias ShortVector = SIMD16<UInt16>
#else
  /// The kernels' register: sixteen floats where the processor has AVX-512, eight elsewhere.
  typealias Vector = SIMD8<Float>
  typealias IntegerVector = SIMD8<Int32>
  typealias BitVector = SIMD8<UInt32>
  typealias ShortVector = SIMD8<UInt16>
#endif
package typealias FloatPointer = UnsafeMutablePointer<Float>

/// Floats in a register.
var lanes: Int { @inline(__always) get { Vector.scalarCount } }

@inline(__always) func load(_ pointer: FloatPointer) -> Vector {
  UnsafeRawPointer(pointer).loadUnaligned(as: Vector.self)
}

@inline(__always) func store(_ value: Vector, _ pointer: FloatPointer) {
  UnsafeMutableRawPointer(pointer).storeBytes(of: value, as: Vector.self)
}

@inline(__always) func broadcast(_ value: Float) -> Vector { Vector(repeating: value) }

/// `a · b + c`, in one rounding where the machine has the instruction.
///
/// Without the instruction `addingProduct` is a call into libm for each lane, so the portable build rounds twice.
@inline(__always) func fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector {
  #if PEAT_WIDE
    peat_fma_16(a, b, c)
  #elseif PEAT_FMA
    peat_fma_8(a, b, c)
  #else
    a * b + c
  #endif
}

/// The first `count` floats (fewer than a register holds), the other lanes set to `fill`.
@inline(__always) func load(_ pointer: FloatPointer, first count: Int, fill: Float) -> Vector {
  var result = broadcast(fill)
  withUnsafeMutableBytes(of: &result) {
    $0.baseAddress?.copyMemory(from: pointer, byteCount: count &* MemoryLayout<Float>.stride)
  }
  return result
}

@inline(__always) func store(_ value: Vector, _ pointer: FloatPointer, first count: Int) {
  withUnsafeBytes(of: value) {
    guard let source = $0.baseAddress else { return }
    UnsafeMutableRawPointer(pointer).copyMemory(
      from: source, byteCount: count &* MemoryLayout<Float>.stride)
  }
}

/// eˣ with a relative error below 3e-7 for x in [-87.3, 88.3]; clamped to that range; NaN stays NaN.
///
/// Cody–Waite reduction to r = x − n·ln 2 and a polynomial of degree 6; n is rounded by adding 1.5·2²³, which
/// leaves it in the low bits of the sum.
@inline(__always) func exp(_ input: Vector) -> Vector {
  var x = input.replacing(with: broadcast(-87.3), where: input .< broadcast(-87.3))
  x = x.replacing(with: broadcast(88.3), where: x .> broadcast(88.3))
  let shifted = fma(x, broadcast(1.442_695_04), broadcast(12_582_912))
  let n = shifted - broadcast(12_582_912)
  var r = fma(n, broadcast(-0.693_145_752), x)
  r = fma(n, broadcast(-1.428_606_77e-6), r)
  var p = broadcast(1.388_888_9e-3)
  p = fma(p, r, broadcast(8.333_333_3e-3))
  p = fma(p, r, broadcast(4.166_666_7e-2))
  p = fma(p, r, broadcast(1.666_666_7e-1))
  p = fma(p, r, broadcast(0.5))
  p = fma(p, r, broadcast(1))
  p = fma(p, r, broadcast(1))
  let bits = unsafeBitCast(shifted, to: IntegerVector.self) &<< IntegerVector(repeating: 23)
  return p
    * unsafeBitCast(bits &+ IntegerVector(repeating: 127 << 23), to: Vector.self)
}

/// 1 / (1 + e⁻ˣ).
@inline(__always) func sigmoid(_ x: Vector) -> Vector { broadcast(1) / (broadcast(1) + exp(-x)) }

/// tanh x = 1 − 2 / (e²ˣ + 1); absolute error below 3e-7.
@inline(__always) func tanh(_ x: Vector) -> Vector {
  broadcast(1) - broadcast(2) / (exp(x + x) + broadcast(1))
}

/// The normal distribution's density φ(x) and its integral Φ(x); absolute error of Φ below 2e-7.
///
/// Source: Abramowitz and Stegun 1964, 7.1.26: erf z = 1 − (a₁t + … + a₅t⁵) · e^(−z²), t = 1 / (1 + 0.3275911 z), with
/// z = |x| / √2, so that one exponential serves both.
@inline(__always) func normalDistribution(_ x: Vector) -> (density: Vector, integral: Vector) {
  let negative = x .< broadcast(0)
  let z = x.replacing(with: -x, where: negative) * broadcast(0.707_106_78)
  let bell = exp(x * x * broadcast(-0.5))
  let t = broadcast(1) / fma(z, broadcast(0.327_591_1), broadcast(1))
  var p = broadcast(1.061_405_429)
  p = fma(p, t, broadcast(-1.453_152_027))
  p = fma(p, t, broadcast(1.421_413_741))
  p = fma(p, t, broadcast(-0.284_496_736))
  p = fma(p, t, broadcast(0.254_829_592))
  let tail = p * t * bell * broadcast(0.5)
  return (
    bell * broadcast(0.398_942_28), (broadcast(1) - tail).replacing(with: tail, where: negative)
  )
}

/// Applies `body` to `count` floats of up to three inputs, a register at a time, the tail by itself.
///
/// A long `body` must be a function that is always inlined: a closure that is called in two places stays a function of its own.
@inline(__always) func mapVectors(
  _ count: Int, _ a: FloatPointer, into result: FloatPointer, _ body: (Vector) -> Vector
) {
  var i = 0
  while i &+ lanes <= count {
    store(body(load(a + i)), result + i)
    i &+= lanes
  }
  if i < count {
    store(body(load(a + i, first: count - i, fill: 0)), result + i, first: count - i)
  }
}

@inline(__always) func mapVectors(
  _ count: Int, _ a: FloatPointer, _ b: FloatPointer, into result: FloatPointer,
  _ body: (Vector, Vector) -> Vector
) {
  var i = 0
  while i &+ lanes <= count {
    store(body(load(a + i), load(b + i)), result + i)
    i &+= lanes
  }
  if i < count {
    let n = count - i
    store(
      body(load(a + i, first: n, fill: 0), load(b + i, first: n, fill: 0)), result + i, first: n)
  }
}

@inline(__always) func mapVectors(
  _ count: Int, _ a: FloatPointer, _ b: FloatPointer, _ c: FloatPointer,
  into result: FloatPointer, _ body: (Vector, Vector, Vector) -> Vector
) {
  var i = 0
  while i &+ lanes <= count {
    store(body(load(a + i), load(b + i), load(c + i)), result + i)
    i &+= lanes
  }
  if i < count {
    let n = count - i
    let last = body(
      load(a + i, first: n, fill: 0), load(b + i, first: n, fill: 0), load(c + i, first: n, fill: 0)
    )
    store(last, result + i, first: n)
  }
}

/// Σ f(aᵢ, bᵢ) with two accumulators; `body` must map (0, 0) to 0.
@inline(__always) func sumVectors(
  _ count: Int, _ a: FloatPointer, _ b: FloatPointer, _ body: (Vector, Vector, Vector) -> Vector
) -> Float {
  var sum0 = Vector.zero
  var sum1 = Vector.zero
  var i = 0
  while i &+ 2 &* lanes <= count {
    sum0 = body(load(a + i), load(b + i), sum0)
    sum1 = body(load(a + i + lanes), load(b + i + lanes), sum1)
    i &+= 2 &* lanes
  }
  while i < count {
    let n = min(lanes, count - i)
    sum0 = body(load(a + i, first: n, fill: 0), load(b + i, first: n, fill: 0), sum0)
    i &+= n
  }
  return (sum0 + sum1).sum()
}

/// Σ aᵢ·bᵢ.
@inline(__always) func dot(_ count: Int, _ a: FloatPointer, _ b: FloatPointer) -> Float {
  sumVectors(count, a, b) { fma($0, $1, $2) }
}

/// y += s·x.
@inline(__always) func addScaled(_ count: Int, _ s: Float, _ x: FloatPointer, to y: FloatPointer) {
  let factor = broadcast(s)
  mapVectors(count, x, y, into: y) { fma(factor, $0, $1) }
}

/// y += x.
@inline(__always) func add(_ count: Int, _ x: FloatPointer, to y: FloatPointer) {
  mapVectors(count, x, y, into: y) { $0 + $1 }
}

/// The sum of a register's floats, by halves.
@inline(__always) func laneSum(_ value: Vector) -> Float {
  #if PEAT_WIDE
    let half = value.lowHalf + value.highHalf
  #else
    let half = value
  #endif
  let four = half.lowHalf + half.highHalf
  let two = four.lowHalf + four.highHalf
  return two.x + two.y
}

/// The largest; NaN is passed over.
@inline(__always) func maximum(_ count: Int, _ values: FloatPointer) -> Float {
  var top = broadcast(-.infinity)
  var i = 0
  while i &+ lanes <= count {
    let v = load(values + i)
    top.replace(with: v, where: v .> top)
    i &+= lanes
  }
  if i < count {
    let v = load(values + i, first: count - i, fill: -.infinity)
    top.replace(with: v, where: v .> top)
  }
  return top.max()
}

/// Whether all are numbers, neither NaN nor infinite.
@inline(__always) func areFinite(_ count: Int, _ values: FloatPointer) -> Bool {
  var sum = Vector.zero
  var i = 0
  while i < count {
    // 0 · x is 0 but where x is NaN or infinite.
    let v =
      i &+ lanes <= count ? load(values + i) : load(values + i, first: count &- i, fill: 0)
    sum = fma(broadcast(0), v, sum)
    i &+= lanes
  }
  return laneSum(sum) == 0
}

/// Σ aᵢ.
@inline(__always) func sum(_ count: Int, _ values: FloatPointer) -> Float {
  var sum0 = Vector.zero
  var sum1 = Vector.zero
  var i = 0
  while i &+ 2 &* lanes <= count {
    sum0 += load(values + i)
    sum1 += load(values + i + lanes)
    i &+= 2 &* lanes
  }
  while i < count {
    sum0 += load(values + i, first: min(lanes, count - i), fill: 0)
    i &+= lanes
  }
  return (sum0 + sum1).sum()
}
