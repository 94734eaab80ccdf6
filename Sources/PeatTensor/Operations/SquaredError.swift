extension Tape {
  /// Σ (x − t)² over all values, and the start of the gradient of `scale` times that.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`, contiguous.
  ///   - target: t, a constant of the same shape.
  ///   - scale: what the sum is multiplied with before the gradient is taken.
  public func squaredError(_ x: Activation, to target: Activation, scale: Float) -> Double {
    profile?.enter(.loss)
    defer { profile?.leave() }
    precondition(
      x.rows == target.rows && x.columns == target.columns && x.stride == x.columns
        && target.stride == target.columns,
      "squaredError: [\(x.rows), \(x.columns)] and [\(target.rows), \(target.columns)]")
    let width = x.columns
    let difference = pool.take(max(x.rows * width, 1))
    var sum = 0.0
    for row in 0..<x.rows {
      let place = difference.pointer + row * width
      mapVectors(width, x.pointer + row * width, target.pointer + row * width, into: place) {
        $0 - $1
      }
      sum += Double(dot(width, place, place))
    }
    if isRecording, x.needsGradient {
      PeatTensor.scale(x.rows * width, difference.pointer, by: 2 * scale)
      record(.squaredError(SquaredErrorRecord(x: x.shapeOnly, gradient: difference)))
    }
    return sum
  }
}

struct SquaredErrorRecord {
  let x: Activation
  let gradient: Buffer

  func backward(_ tape: Tape) { tape.give(gradient, to: x) }
}
