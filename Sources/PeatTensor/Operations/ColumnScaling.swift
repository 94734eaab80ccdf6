extension Tape {
  /// Scales each column by a learned number, with what is usually added to the result.
  ///
  /// Equal to `x · diag(w / n) + b + residual`.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`.
  ///   - weight: w, `d` numbers in any shape.
  ///   - norms: n, `d` numbers that count as constants; ones if not given.
  ///   - bias: b, `[d]`.
  ///   - residual: `[N, d]`.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Liu et al. 2022 (IA³), <https://arxiv.org/abs/2205.05638>; with norms Liu et al. 2024 (DoRA),
  /// <https://arxiv.org/abs/2402.09353>.
  package func scaledColumns(
    _ x: Activation, by weight: Weight, dividedBy norms: Buffer? = nil, bias: Weight? = nil,
    residual: Activation? = nil
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let width = x.columns
    precondition(
      weight.shape.reduce(1, *) == width, "scaledColumns: \(weight.shape) for width \(width)")
    if let residual {
      precondition(
        residual.rows == x.rows && residual.columns == width,
        "scaledColumns: residual [\(residual.rows), \(residual.columns)] for [\(x.rows), \(width)]")
    }
    let output = makeActivation(
      rows: x.rows, columns: width,
      needsGradient: x.needsGradient || weight.trains || bias?.trains == true
        || residual?.needsGradient == true)
    let factors = pool.take(width)
    if let norms {
      mapVectors(width, weight.pointer, norms.pointer, into: factors.pointer) { $0 / $1 }
    } else {
      factors.pointer.update(from: weight.pointer, count: width)
    }
    for row in 0..<x.rows {
      let place = output.pointer + row * width
      mapVectors(width, x.pointer + row * x.stride, factors.pointer, into: place) { $0 * $1 }
      if let bias { add(width, bias.pointer, to: place) }
      if let residual { add(width, residual.pointer + row * residual.stride, to: place) }
    }
    if output.needsGradient {
      record(
        .columnScaling(
          ColumnScalingRecord(
            x: weight.trains ? x : x.shapeOnly, weight: weight, norms: norms, factors: factors,
            bias: bias, residual: residual?.shapeOnly, output: output.shapeOnly)))
    }
    return output
  }
}

struct ColumnScalingRecord {
  let x: Activation
  let weight: Weight
  let norms: Buffer?
  /// w / n.
  let factors: Buffer
  let bias: Weight?
  let residual: Activation?
  let output: Activation

  // dx = dy · w / n, dw = Σ dy · x / n, db = Σ dy.
  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (rows, width) = (output.rows, output.columns)
    let dy = gradient.pointer
    let scratch = tape.pool.take(width)
    defer { withExtendedLifetime(scratch) {} }
    tape.addGradient(of: weight) { dw in
      let sums = tape.pool.take(width)
      defer { withExtendedLifetime(sums) {} }
      sums.pointer.update(repeating: 0, count: width)
      for row in 0..<rows {
        mapVectors(width, dy + row * width, x.pointer + row * x.stride, into: scratch.pointer) {
          $0 * $1
        }
        add(width, scratch.pointer, to: sums.pointer)
      }
      if let norms {
        mapVectors(width, sums.pointer, norms.pointer, into: sums.pointer) { $0 / $1 }
      }
      add(width, sums.pointer, to: dw)
    }
    if let bias {
      tape.addGradient(of: bias) { db in
        for row in 0..<rows { add(width, dy + row * width, to: db) }
      }
    }
    if let slot = x.slot {
      let (target, isFresh) = tape.gradientTarget(for: x, in: slot)
      for row in 0..<rows {
        let place = target + row * x.stride
        if isFresh {
          mapVectors(width, dy + row * width, factors.pointer, into: place) { $0 * $1 }
        } else {
          mapVectors(width, dy + row * width, factors.pointer, into: scratch.pointer) { $0 * $1 }
          add(width, scratch.pointer, to: place)
        }
      }
    }
    if let residual, let slot = residual.slot {
      if residual.columns == residual.stride {
        tape.give(gradient, to: residual)
      } else {
        let (place, _) = tape.gradientTarget(for: residual, in: slot)
        for row in 0..<rows { add(width, dy + row * width, to: place + row * residual.stride) }
      }
    }
  }
}
