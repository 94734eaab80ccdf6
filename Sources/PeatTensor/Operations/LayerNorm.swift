extension Tape {
  /// Shifts and scales each row to mean 0 and variance 1, then by a weight and a bias per column.
  ///
  /// Equal to `(x − mean(x)) / sqrt(var(x) + ε) · w + b`, with the biased variance.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`.
  ///   - weight: `[d]`.
  ///   - bias: `[d]`.
  ///   - epsilon: ε.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Ba, Kiros and Hinton 2016, <https://arxiv.org/abs/1607.06450>.
  public func layerNorm(_ x: Activation, weight: Weight, bias: Weight, epsilon: Float) -> Activation
  {
    profile?.enter(.norms)
    defer { profile?.leave() }
    let width = x.columns
    precondition(
      weight.shape == [width] && bias.shape == [width],
      "layerNorm: weight \(weight.shape), bias \(bias.shape) for width \(width)")
    let output = makeActivation(
      rows: x.rows, columns: width,
      needsGradient: x.needsGradient || weight.trains || bias.trains)
    // Per row: mean, then 1 / standard deviation.
    let statistics = pool.take(2 * x.rows)
    let ones = pool.take(width)
    ones.pointer.update(repeating: 1, count: width)
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let place = output.pointer + row * width
      let mean = dot(width, source, ones.pointer) / Float(width)
      let meanVector = broadcast(mean)
      mapVectors(width, source, into: place) { $0 - meanVector }
      statistics.pointer[2 * row] = mean
      statistics.pointer[2 * row + 1] =
        1 / (dot(width, place, place) / Float(width) + epsilon).squareRoot()
      finish(place, width, statistics.pointer + 2 * row, weight, bias)
    }
    guard output.needsGradient else { return output }
    let recomputation = Recomputation { pool in
      let restored = pool.take(x.rows * width)
      for row in 0..<x.rows {
        let place = restored.pointer + row * width
        let mean = broadcast(statistics.pointer[2 * row])
        mapVectors(width, x.pointer + row * x.stride, into: place) { $0 - mean }
        finish(place, width, statistics.pointer + 2 * row, weight, bias)
      }
      return restored
    }
    record(
      .layerNorm(
        LayerNormRecord(
          x: x, weight: weight, bias: bias, statistics: statistics, output: output.shapeOnly,
          recomputation: recomputation)))
    return output.recomputed(by: recomputation)
  }
}

/// Scales a row from which its mean was taken, and adds the bias.
private func finish(
  _ row: FloatPointer, _ width: Int, _ statistics: FloatPointer, _ weight: Weight, _ bias: Weight
) {
  let inverse = broadcast(statistics[1])
  mapVectors(width, row, weight.pointer, bias.pointer, into: row) { fma($0 * inverse, $1, $2) }
}

struct LayerNormRecord {
  let x: Activation
  let weight: Weight
  let bias: Weight
  let statistics: Buffer
  let output: Activation
  let recomputation: Recomputation

  // With x̂ the normalised row: dx = r · (g − mean(g) − x̂ · mean(g·x̂)), g = dy·w.
  func backward(_ tape: Tape) {
    recomputation.forget()
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = x.columns
    let target = x.slot.map { tape.gradientTarget(for: x, in: $0) }
    let normalized = tape.pool.take(width)
    let scaled = tape.pool.take(width)
    let ones = tape.pool.take(width)
    ones.pointer.update(repeating: 1, count: width)
    tape.addGradients(of: weight, bias) { weightGradient, biasGradient in
      for row in 0..<x.rows {
        let dy = gradient.pointer + row * width
        let mean = broadcast(statistics.pointer[2 * row])
        let r = broadcast(statistics.pointer[2 * row + 1])
        mapVectors(width, x.pointer + row * x.stride, into: normalized.pointer) { ($0 - mean) * r }
        if let biasGradient { add(width, dy, to: biasGradient) }
        if let weightGradient {
          mapVectors(width, dy, normalized.pointer, into: scaled.pointer) { $0 * $1 }
          add(width, scaled.pointer, to: weightGradient)
        }
        guard let target else { continue }
        mapVectors(width, dy, weight.pointer, into: scaled.pointer) { $0 * $1 }
        let meanG = broadcast(dot(width, scaled.pointer, ones.pointer) / Float(width))
        let meanGX = broadcast(dot(width, scaled.pointer, normalized.pointer) / Float(width))
        mapVectors(width, scaled.pointer, normalized.pointer, into: scaled.pointer) {
          ($0 - meanG - $1 * meanGX) * r
        }
        let place = target.pointer + row * x.stride
        if target.isFresh {
          place.update(from: scaled.pointer, count: width)
        } else {
          add(width, scaled.pointer, to: place)
        }
      }
    }
  }
}
