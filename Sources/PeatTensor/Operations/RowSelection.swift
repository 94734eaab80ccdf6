extension Tape {
  /// Some rows of a matrix, one behind the other.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`.
  ///   - ranges: the rows, in order and none twice.
  /// - Returns: as many rows as the ranges have together, `d` wide.
  package func rows(_ x: Activation, _ ranges: [Range<Int>]) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let output = makeActivation(
      rows: ranges.reduce(0) { $0 + $1.count }, columns: x.columns, needsGradient: x.needsGradient)
    var row = 0
    for range in ranges {
      x.rows(range).copyRows(to: output, at: row)
      row += range.count
    }
    if output.needsGradient {
      record(
        .rowSelection(
          RowSelectionRecord(input: x.shapeOnly, ranges: ranges, output: output.shapeOnly)))
    }
    return output
  }
}

struct RowSelectionRecord {
  let input: Activation
  let ranges: [Range<Int>]
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
    if isFresh { target.update(repeating: 0, count: input.rows * input.stride) }
    var number = 0
    for row in ranges.joined() {
      add(
        input.columns, gradient.pointer + number * input.columns, to: target + row * input.stride)
      number += 1
    }
  }
}
