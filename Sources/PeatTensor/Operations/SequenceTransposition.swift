extension Tape {
  /// Rows and columns of each group of rows in each other's place: `[B · n, d]` becomes `[B · d, n]`.
  ///
  /// So a linear layer that follows mixes what stands in one column of a sequence: values of one channel, of all its tokens.
  ///
  /// - Parameters:
  ///   - x: `[B · n, d]`.
  ///   - size: n.
  /// - Returns: `[B · d, n]`.
  ///
  /// Source: Tolstikhin et al. 2021, <https://arxiv.org/abs/2105.01601>, section 2.
  package func transposed(_ x: Activation, groupsOf size: Int) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(size > 0 && x.rows % size == 0, "transposed: \(x.rows) rows in groups of \(size)")
    let groups = x.rows / size
    let output = makeActivation(
      rows: groups * x.columns, columns: size, needsGradient: x.needsGradient)
    transpose(
      groups, rows: size, columns: x.columns, x.pointer, stride: x.stride, into: output.pointer,
      stride: size, adds: false)
    if output.needsGradient {
      record(
        .transposition(
          SequenceTranspositionRecord(
            input: x.shapeOnly, groups: groups, output: output.shapeOnly)))
    }
    return output
  }
}

struct SequenceTranspositionRecord {
  let input: Activation
  let groups: Int
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
    transpose(
      groups, rows: input.columns, columns: output.columns, gradient.pointer,
      stride: output.columns, into: target, stride: input.stride, adds: !isFresh)
  }
}

/// `[groups · rows, columns]` → `[groups · columns, rows]`.
private func transpose(
  _ groups: Int, rows: Int, columns: Int, _ x: FloatPointer, stride: Int,
  into out: FloatPointer, stride outStride: Int, adds: Bool
) {
  // Squares whose lines lie in the first cache.
  let side = 16
  for group in 0..<groups {
    let (source, target) = (x + group * rows * stride, out + group * columns * outStride)
    for firstRow in Swift.stride(from: 0, to: rows, by: side) {
      for firstColumn in Swift.stride(from: 0, to: columns, by: side) {
        for row in firstRow..<min(firstRow + side, rows) {
          for column in firstColumn..<min(firstColumn + side, columns) {
            let value = source[row * stride + column]
            let place = target + (column * outStride + row)
            place.pointee = adds ? place.pointee + value : value
          }
        }
      }
    }
  }
}
