// Loops over flat vectors of parameters: the arithmetic of an optimizer step.

/// AdamW's update of `count` values; `rate` = η / (1 − β₁ᵗ), `inverseRoot` = 1 / √(1 − β₂ᵗ), `decay` = 1 − η·λ.
package func adamWUpdate(
  count: Int, values: UnsafeMutablePointer<Float>, gradient: UnsafeMutablePointer<Float>,
  first: UnsafeMutablePointer<Float>, second: UnsafeMutablePointer<Float>, decay: Float,
  beta1: Float, beta2: Float, rate: Float, inverseRoot: Float, epsilon: Float
) {
  let b1 = broadcast(beta1)
  let b2 = broadcast(beta2)
  let c1 = broadcast(1 - beta1)
  let c2 = broadcast(1 - beta2)
  let inverse = broadcast(inverseRoot)
  let eps = broadcast(epsilon)
  let eta = broadcast(-rate)
  let keep = broadcast(decay)
  mapVectors(count, first, gradient, into: first) { fma($0, b1, $1 * c1) }
  mapVectors(count, second, gradient, into: second) { fma($0, b2, $1 * $1 * c2) }
  // The gradient is spent: its memory takes the direction.
  mapVectors(count, first, second, into: gradient) { m, v in
    m / fma(v.squareRoot(), inverse, eps)
  }
  mapVectors(count, values, gradient, into: values) { fma(eta, $1, $0 * keep) }
}

/// Gradient descent's update of `count` values: x ← decay·x − rate·g.
package func descentUpdate(
  count: Int, values: UnsafeMutablePointer<Float>, gradient: UnsafeMutablePointer<Float>,
  decay: Float, rate: Float
) {
  let eta = broadcast(-rate)
  let keep = broadcast(decay)
  mapVectors(count, values, gradient, into: values) { fma(eta, $1, $0 * keep) }
}

/// Σ xᵢ², summed in blocks so that long vectors lose no precision.
package func squaredNorm(_ count: Int, _ x: UnsafeMutablePointer<Float>) -> Double {
  var total = 0.0
  var start = 0
  while start < count {
    let block = min(4096, count - start)
    total += Double(dot(block, x + start, x + start))
    start += block
  }
  return total
}

/// x ← s·x.
package func scale(_ count: Int, _ x: UnsafeMutablePointer<Float>, by s: Float) {
  let factor = broadcast(s)
  mapVectors(count, x, into: x) { $0 * factor }
}

/// y ← y + x.
package func accumulate(
  _ count: Int, _ x: UnsafeMutablePointer<Float>, to y: UnsafeMutablePointer<Float>
) {
  add(count, x, to: y)
}
