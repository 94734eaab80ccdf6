extension Tape {
  /// The sum of two matrices, value by value.
  ///
  /// - Parameters:
  ///   - a: `[N, d]`.
  ///   - b: `[N, d]`.
  /// - Returns: `[N, d]`.
  public func addition(_ a: Activation, _ b: Activation) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(
      a.rows == b.rows && a.columns == b.columns,
      "addition: [\(a.rows), \(a.columns)] and [\(b.rows), \(b.columns)]")
    let output = makeActivation(
      rows: a.rows, columns: a.columns, needsGradient: a.needsGradient || b.needsGradient)
    for row in 0..<a.rows {
      mapVectors(
        a.columns, a.pointer + row * a.stride, b.pointer + row * b.stride,
        into: output.pointer + row * a.columns
      ) { $0 + $1 }
    }
    if output.needsGradient {
      record(
        .addition(AdditionRecord(inputs: [a.shapeOnly, b.shapeOnly], output: output.shapeOnly)))
    }
    return output
  }
}

struct AdditionRecord {
  let inputs: [Activation]
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    let columns = output.columns
    for input in inputs {
      guard let slot = input.slot else { continue }
      let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
      for row in 0..<output.rows {
        let source = gradient.pointer + row * columns
        let place = target + row * input.stride
        if isFresh {
          place.update(from: source, count: columns)
        } else {
          add(columns, source, to: place)
        }
      }
    }
  }
}
