extension Tape {
  /// The rectified linear unit of each value: `max(x, 0)`, with the slope 0 at 0.
  ///
  /// - Parameter x: `[N, d]`.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Nair and Hinton 2010, "Rectified Linear Units Improve Restricted Boltzmann Machines".
  public func relu(_ x: Activation) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let output = makeActivation(rows: x.rows, columns: x.columns, needsGradient: x.needsGradient)
    for row in 0..<x.rows {
      mapVectors(x.columns, x.pointer + row * x.stride, into: output.pointer + row * x.columns) {
        // What is not a number stays so.
        $0.replacing(with: 0, where: $0 .< broadcast(0))
      }
    }
    if output.needsGradient {
      record(.relu(ReLURecord(input: x.shapeOnly, output: output)))
    }
    return output
  }
}

struct ReLURecord {
  let input: Activation
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (rows, columns) = (output.rows, output.columns)
    // In dy's memory.
    mapVectors(rows * columns, gradient.pointer, output.pointer, into: gradient.pointer) {
      $0.replacing(with: 0, where: $1 .<= broadcast(0))
    }
    if input.columns == input.stride {
      tape.give(gradient, to: input)
      return
    }
    let (target, _) = tape.gradientTarget(for: input, in: slot)
    for row in 0..<rows {
      add(columns, gradient.pointer + row * columns, to: target + row * input.stride)
    }
  }
}
