extension Tape {
  /// Runs a part of the model so that only its input is kept; the part runs again in the backward pass.
  ///
  /// Trades one more forward pass for the memory of everything inside. `body` must give the same values again and
  /// reach no activation but the ones handed to it. `trains` says whether it has trainable weights.
  ///
  /// Source: Chen et al. 2016, <https://arxiv.org/abs/1604.06174>.
  public func checkpoint(
    _ x: Activation, trains: Bool, _ body: @escaping (Tape, Activation) -> Activation
  ) -> Activation {
    checkpoint([x], trains: trains) { tape, inputs in body(tape, inputs[0]) }
  }

  /// The same of a part that has several inputs, all of which are kept.
  package func checkpoint(
    _ inputs: [Activation], trains: Bool, _ body: @escaping (Tape, [Activation]) -> Activation
  ) -> Activation {
    guard isRecording else { return body(self, inputs) }
    isRecording = false
    let inner = body(self, inputs.map(\.detached))
    isRecording = true
    guard trains || inputs.contains(where: \.needsGradient) else { return inner }
    let output = Activation(
      buffer: inner.buffer, offset: inner.offset, rows: inner.rows, columns: inner.columns,
      stride: inner.stride, slot: makeSlot())
    record(.checkpoint(CheckpointRecord(inputs: inputs, body: body, output: output)))
    return output
  }
}

struct CheckpointRecord {
  let inputs: [Activation]
  let body: (Tape, [Activation]) -> Activation
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    let nested = Tape(pool: tape.pool, weightGradients: tape.weightGradients)
    nested.profile = tape.profile
    nested.share = tape.share
    nested.turn = tape.turn
    nested.dropoutPlace = tape.dropoutPlace
    let again = inputs.map { x in
      Activation(
        buffer: x.buffer, offset: x.offset, rows: x.rows, columns: x.columns, stride: x.stride,
        slot: x.needsGradient ? nested.makeSlot() : nil)
    }
    nested.give(gradient, to: body(nested, again))
    nested.unwind()
    for (x, input) in zip(inputs, again) {
      if let gradient = nested.peekGradient(of: input) { tape.give(gradient, to: x) }
    }
  }
}
