extension Tape {
  /// A matrix times a number.
  ///
  /// - Parameter x: `[N, d]`.
  /// - Returns: `[N, d]`.
  package func scaled(_ x: Activation, by factor: Float) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let output = makeActivation(rows: x.rows, columns: x.columns, needsGradient: x.needsGradient)
    let scale = broadcast(factor)
    for row in 0..<x.rows {
      mapVectors(x.columns, x.pointer + row * x.stride, into: output.pointer + row * x.columns) {
        $0 * scale
      }
    }
    if output.needsGradient {
      record(
        .scaling(ScalingRecord(input: x.shapeOnly, factor: factor, output: output.shapeOnly)))
    }
    return output
  }
}

struct ScalingRecord {
  let input: Activation
  let factor: Float
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
    if isFresh { target.update(repeating: 0, count: input.rows * input.stride) }
    for row in 0..<output.rows {
      addScaled(
        output.columns, factor, gradient.pointer + row * output.columns,
        to: target + row * input.stride)
    }
  }
}
