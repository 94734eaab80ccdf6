extension Tape {
  /// The gated unit of Llama's feed-forward layer.
  ///
  /// Equal to `silu(gate) · up`, with `silu(x) = x / (1 + e⁻ˣ)`.
  ///
  /// - Parameters:
  ///   - gate: `[N, f]`.
  ///   - up: `[N, f]`.
  /// - Returns: `[N, f]`.
  ///
  /// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
  public func swiGLU(gate: Activation, up: Activation) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(
      gate.columns == up.columns && gate.rows == up.rows,
      "swiGLU: gate [\(gate.rows), \(gate.columns)], up [\(up.rows), \(up.columns)]")
    let output = makeActivation(
      rows: gate.rows, columns: gate.columns, needsGradient: gate.needsGradient || up.needsGradient)
    gated(gate, up, into: output.pointer)
    guard output.needsGradient else { return output }
    let recomputation = Recomputation { pool in
      let restored = pool.take(gate.rows * gate.columns)
      gated(gate, up, into: restored.pointer)
      return restored
    }
    record(
      .swiGLU(
        SwiGLURecord(
          gate: gate, up: up, output: output.shapeOnly, recomputation: recomputation)))
    return output.recomputed(by: recomputation)
  }
}

/// silu(gate) · up, row after row.
private func gated(_ gate: Activation, _ up: Activation, into out: FloatPointer) {
  for row in 0..<gate.rows {
    mapVectors(
      gate.columns, gate.pointer + row * gate.stride, up.pointer + row * up.stride,
      into: out + row * gate.columns
    ) { $0 * sigmoid($0) * $1 }
  }
}

struct SwiGLURecord {
  let gate: Activation
  let up: Activation
  let output: Activation
  let recomputation: Recomputation

  // With s = σ(gate): d gate = dy · up · s · (1 + gate · (1 − s)), d up = dy · gate · s.
  func backward(_ tape: Tape) {
    recomputation.forget()
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = gate.columns
    let gateTarget = gate.slot.map { tape.gradientTarget(for: gate, in: $0) }
    // Asked for second: if gate and up are the same matrix, this one adds to what the gate's has written.
    let upTarget = up.slot.map { tape.gradientTarget(for: up, in: $0) }
    let sigmoids = tape.pool.take(width)
    let scratch = tape.pool.take(width)
    for row in 0..<gate.rows {
      let g = gate.pointer + row * gate.stride
      let u = up.pointer + row * up.stride
      let dy = gradient.pointer + row * width
      mapVectors(width, g, into: sigmoids.pointer) { sigmoid($0) }
      if let gateTarget {
        mapVectors(width, dy, u, into: scratch.pointer) { $0 * $1 }
        mapVectors(width, g, sigmoids.pointer, scratch.pointer, into: scratch.pointer) { x, s, dy in
          dy * s * fma(x, broadcast(1) - s, broadcast(1))
        }
        let place = gateTarget.pointer + row * gate.stride
        if gateTarget.isFresh {
          place.update(from: scratch.pointer, count: width)
        } else {
          add(width, scratch.pointer, to: place)
        }
      }
      if let upTarget {
        mapVectors(width, g, sigmoids.pointer, dy, into: scratch.pointer) { $0 * $1 * $2 }
        let place = upTarget.pointer + row * up.stride
        if upTarget.isFresh {
          place.update(from: scratch.pointer, count: width)
        } else {
          add(width, scratch.pointer, to: place)
        }
      }
    }
  }
}
