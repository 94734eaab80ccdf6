extension Tape {
  /// `c · tanh(x / c)` of each value, without a gradient: for logits that are looked at, such as those of the next token.
  package func capped(_ x: Activation, by cap: Float) -> Activation {
    let output = makeActivation(rows: x.rows, columns: x.columns, needsGradient: false)
    let (scale, inverse) = (broadcast(cap), broadcast(1 / cap))
    for row in 0..<x.rows {
      mapVectors(x.columns, x.pointer + row * x.stride, into: output.pointer + row * x.columns) {
        PeatTensor.tanh($0 * inverse) * scale
      }
    }
    return output
  }
}
