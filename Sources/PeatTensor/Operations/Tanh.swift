extension Tape {
  /// The hyperbolic tangent of each value, and of what each group of rows shares.
  ///
  /// Equal to `tanh(x + s)`, s repeated for the rows of its group.
  ///
  /// - Parameters:
  ///   - x: `[G · n, d]`, a group's rows one after the other.
  ///   - shared: s, `[G, d]`.
  /// - Returns: `[G · n, d]`.
  public func tanh(_ x: Activation, plus shared: Activation? = nil) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    if let shared {
      precondition(
        shared.columns == x.columns && shared.rows > 0 && x.rows % shared.rows == 0,
        "tanh: [\(x.rows), \(x.columns)] plus [\(shared.rows), \(shared.columns)]")
    }
    let output = makeActivation(
      rows: x.rows, columns: x.columns,
      needsGradient: x.needsGradient || shared?.needsGradient == true)
    let group = shared.map { x.rows / $0.rows } ?? 1
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let place = output.pointer + row * x.columns
      if let shared {
        let addend = shared.pointer + row / group * shared.stride
        mapVectors(x.columns, source, addend, into: place) { hyperbolicTangent($0 + $1) }
      } else {
        mapVectors(x.columns, source, into: place) { hyperbolicTangent($0) }
      }
    }
    if output.needsGradient {
      record(
        .tanh(TanhRecord(input: x.shapeOnly, shared: shared?.shapeOnly, output: output)))
    }
    return output
  }
}

/// tanh of a register; what is not a number stays so.
@inline(__always) private func hyperbolicTangent(_ x: Vector) -> Vector { tanh(x) }

struct TanhRecord {
  let input: Activation
  let shared: Activation?
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (rows, columns) = (output.rows, output.columns)
    // dy · (1 − y²), in dy's memory.
    mapVectors(rows * columns, gradient.pointer, output.pointer, into: gradient.pointer) {
      $0 * fma(-$1, $1, broadcast(1))
    }
    if let shared, let slot = shared.slot {
      let (target, isFresh) = tape.gradientTarget(for: shared, in: slot)
      let group = rows / shared.rows
      for row in 0..<rows {
        let place = target + row / group * shared.stride
        let source = gradient.pointer + row * columns
        if isFresh && row % group == 0 {
          place.update(from: source, count: columns)
        } else {
          add(columns, source, to: place)
        }
      }
    }
    guard let slot = input.slot else { return }
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
