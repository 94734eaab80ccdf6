extension Tape {
  /// A gated unit: what one layer gives, times an activation function of what another gives.
  ///
  /// Equal to `f(gate) · up`; with SiLU it is SwiGLU, with GELU GEGLU.
  ///
  /// - Parameters:
  ///   - gate: `[N, f]`.
  ///   - up: `[N, f]`.
  /// - Returns: `[N, f]`.
  ///
  /// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
  public func gated(
    gate: Activation, up: Activation, by function: ActivationFunction = .silu
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(
      gate.columns == up.columns && gate.rows == up.rows,
      "gated: gate [\(gate.rows), \(gate.columns)], up [\(up.rows), \(up.columns)]")
    let output = makeActivation(
      rows: gate.rows, columns: gate.columns, needsGradient: gate.needsGradient || up.needsGradient)
    multiply(gate, up, by: function, into: output.pointer)
    guard output.needsGradient else { return output }
    let recomputation = Recomputation { pool in
      let restored = pool.take(gate.rows * gate.columns)
      multiply(gate, up, by: function, into: restored.pointer)
      return restored
    }
    record(
      .gated(
        GatedRecord(
          gate: gate, up: up, function: function, output: output.shapeOnly,
          recomputation: recomputation)))
    return output.recomputed(by: recomputation)
  }
}

/// f(gate) · up, row after row.
private func multiply(
  _ gate: Activation, _ up: Activation, by function: ActivationFunction, into out: FloatPointer
) {
  for row in 0..<gate.rows {
    let place = out + row * gate.columns
    map(gate.columns, gate.pointer + row * gate.stride, into: place, by: function)
    mapVectors(gate.columns, place, up.pointer + row * up.stride, into: place) { $0 * $1 }
  }
}

struct GatedRecord {
  let gate: Activation
  let up: Activation
  let function: ActivationFunction
  let output: Activation
  let recomputation: Recomputation

  // d gate = dy · up · f′(gate), d up = dy · f(gate).
  func backward(_ tape: Tape) {
    recomputation.forget()
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = gate.columns
    let gateTarget = gate.slot.map { tape.gradientTarget(for: gate, in: $0) }
    // Asked for second: if gate and up are the same matrix, this one adds to what the gate's has written.
    let upTarget = up.slot.map { tape.gradientTarget(for: up, in: $0) }
    let values = tape.pool.take(width)
    let slopes = tape.pool.take(width)
    for row in 0..<gate.rows {
      let u = up.pointer + row * up.stride
      let dy = gradient.pointer + row * width
      map(
        width, gate.pointer + row * gate.stride, into: values.pointer, slopes.pointer, by: function)
      if let gateTarget {
        mapVectors(width, dy, u, slopes.pointer, into: slopes.pointer) { $0 * $1 * $2 }
        put(slopes.pointer, gateTarget, row, gate.stride)
      }
      if let upTarget {
        mapVectors(width, dy, values.pointer, into: values.pointer) { $0 * $1 }
        put(values.pointer, upTarget, row, up.stride)
      }
    }
  }

  private func put(
    _ values: FloatPointer, _ target: (pointer: FloatPointer, isFresh: Bool), _ row: Int,
    _ stride: Int
  ) {
    let place = target.pointer + row * stride
    if target.isFresh {
      place.update(from: values, count: gate.columns)
    } else {
      add(gate.columns, values, to: place)
    }
  }
}
