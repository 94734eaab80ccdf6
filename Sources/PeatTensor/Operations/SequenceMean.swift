extension Tape {
  /// The mean of each sequence's rows in the place of the first of them; the others stay as they are.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`.
  ///   - layout: how the rows divide into sequences, each whole.
  ///   - skipped: how many rows at the beginning of each sequence do not count.
  /// - Returns: `[N, d]`.
  package func meanInFirst(
    _ x: Activation, layout: SequenceLayout, skipping skipped: Int = 0
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(
      x.rows == layout.count, "meanInFirst: \(x.rows) rows, \(layout.count) in sequences")
    let width = x.columns
    let pieces = layout.pieces
    precondition(
      pieces.allSatisfy { $0.position == 0 && !$0.continues && $0.count > skipped },
      "meanInFirst: sequences are whole and longer than \(skipped)")
    let output = makeActivation(rows: x.rows, columns: width, needsGradient: x.needsGradient)
    x.copyRows(to: output, at: 0)
    for piece in pieces {
      let place = output.pointer + piece.row * width
      let first = x.pointer + (piece.row + skipped) * x.stride
      place.update(from: first, count: width)
      for row in 1..<piece.count - skipped { add(width, first + row * x.stride, to: place) }
      let share = broadcast(1 / Float(piece.count - skipped))
      mapVectors(width, place, into: place) { $0 * share }
    }
    if output.needsGradient {
      record(
        .sequenceMean(
          SequenceMeanRecord(
            input: x.shapeOnly, pieces: pieces, skipped: skipped, output: output.shapeOnly)))
    }
    return output
  }
}

struct SequenceMeanRecord {
  let input: Activation
  let pieces: [SequenceLayout.Piece]
  let skipped: Int
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let width = output.columns
    let part = tape.pool.take(width)
    defer { withExtendedLifetime(part) {} }
    // In the memory of the output's gradient, which nobody needs afterwards.
    for piece in pieces {
      let first = gradient.pointer + piece.row * width
      let share = broadcast(1 / Float(piece.count - skipped))
      mapVectors(width, first, into: part.pointer) { $0 * share }
      first.update(repeating: 0, count: width)
      for row in skipped..<piece.count { add(width, part.pointer, to: first + row * width) }
    }
    if input.columns == input.stride { return tape.give(gradient, to: input) }
    let (target, _) = tape.gradientTarget(for: input, in: slot)
    for row in 0..<input.rows {
      add(width, gradient.pointer + row * width, to: target + row * input.stride)
    }
  }
}
