extension Tape {
  /// Scales each row to unit root mean square, then by a weight per column.
  ///
  /// Equal to `x / sqrt(mean(x²) + ε) · (w + o)`.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`.
  ///   - weight: `[d]`.
  ///   - epsilon: ε.
  ///   - offset: o, 1 where weights are kept as what they differ from 1 by.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>.
  public func rmsNorm(
    _ x: Activation, weight: Weight, epsilon: Float, offset: Float = 0
  ) -> Activation {
    profile?.enter(.norms)
    defer { profile?.leave() }
    let width = x.columns
    precondition(weight.shape == [width], "rmsNorm: weight \(weight.shape) for width \(width)")
    let output = makeActivation(
      rows: x.rows, columns: width, needsGradient: x.needsGradient || weight.trains)
    let inverse = pool.take(x.rows)
    let shift = broadcast(offset)
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let scale = 1 / (dot(width, source, source) / Float(width) + epsilon).squareRoot()
      inverse.pointer[row] = scale
      let factor = broadcast(scale)
      mapVectors(width, source, weight.pointer, into: output.pointer + row * width) {
        $0 * factor * ($1 + shift)
      }
    }
    guard output.needsGradient else { return output }
    let recomputation = Recomputation { pool in
      let restored = pool.take(x.rows * width)
      for row in 0..<x.rows {
        let factor = broadcast(inverse.pointer[row])
        mapVectors(
          width, x.pointer + row * x.stride, weight.pointer, into: restored.pointer + row * width
        ) { $0 * factor * ($1 + shift) }
      }
      return restored
    }
    record(
      .rmsNorm(
        RMSNormRecord(
          x: x, weight: weight, offset: offset, inverse: inverse, output: output.shapeOnly,
          recomputation: recomputation)))
    return output.recomputed(by: recomputation)
  }
}

struct RMSNormRecord {
  let x: Activation
  let weight: Weight
  let offset: Float
  let inverse: Buffer
  let output: Activation
  let recomputation: Recomputation

  // With x̂ = x·r: dx = r · (dy·w − x̂ · mean(dy·w·x̂)), dw = Σ dy·x̂.
  func backward(_ tape: Tape) {
    recomputation.forget()
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = x.columns
    let target = x.slot.map { tape.gradientTarget(for: x, in: $0) }
    let scaled = tape.pool.take(width)
    let shift = broadcast(offset)
    tape.addGradients(of: weight, nil) { weightGradient, _ in
      for row in 0..<x.rows {
        let dy = gradient.pointer + row * width
        let source = x.pointer + row * x.stride
        let r = inverse.pointer[row]
        let rVector = broadcast(r)
        if let weightGradient {
          // One expression per vector: dw += dy · x · r.
          mapVectors(width, source, dy, into: scaled.pointer) { $0 * $1 }
          addScaled(width, r, scaled.pointer, to: weightGradient)
        }
        guard let target else { continue }
        mapVectors(width, dy, weight.pointer, into: scaled.pointer) { $0 * ($1 + shift) }
        let mean = dot(width, scaled.pointer, source) * r * r * r / Float(width)
        let meanVector = broadcast(-mean)
        let place = target.pointer + row * x.stride
        if target.isFresh {
          mapVectors(width, scaled.pointer, source, into: place) {
            fma($1, meanVector, $0 * rVector)
          }
        } else {
          mapVectors(width, scaled.pointer, source, into: scaled.pointer) {
            fma($1, meanVector, $0 * rVector)
          }
          add(width, scaled.pointer, to: place)
        }
      }
    }
  }
}
