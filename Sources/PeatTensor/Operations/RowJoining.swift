extension Tape {
  /// Puts the rows of some matrices into one, each where its ranges say: what `rows(_:_:)` has taken apart.
  ///
  /// - Parameter parts: `[n, d]` each, and where its rows go, in order; together they are all rows from 0 on.
  /// - Returns: as many rows as the parts have together, `d` wide.
  package func joined(_ parts: [(x: Activation, ranges: [Range<Int>])]) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let count = parts.reduce(0) { $0 + $1.x.rows }
    precondition(
      parts.allSatisfy { part in
        part.ranges.reduce(0) { $0 + $1.count } == part.x.rows
          && part.x.columns == parts[0].x.columns
          && part.ranges.allSatisfy { $0.upperBound <= count }
      }, "joined: \(parts.map { "[\($0.x.rows), \($0.x.columns)]" })")
    let output = makeActivation(
      rows: count, columns: parts[0].x.columns,
      needsGradient: parts.contains { $0.x.needsGradient })
    for part in parts {
      var row = 0
      for range in part.ranges {
        part.x.rows(row..<row + range.count).copyRows(to: output, at: range.lowerBound)
        row += range.count
      }
    }
    if output.needsGradient {
      record(
        .rowJoining(
          RowJoiningRecord(
            parts: parts.map { ($0.x.shapeOnly, $0.ranges) }, output: output.shapeOnly)))
    }
    return output
  }
}

struct RowJoiningRecord {
  let parts: [(x: Activation, ranges: [Range<Int>])]
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    for (x, ranges) in parts {
      guard let slot = x.slot else { continue }
      let (target, isFresh) = tape.gradientTarget(for: x, in: slot)
      for (number, row) in ranges.joined().enumerated() {
        let source = gradient.pointer + row * output.columns
        let place = target + number * x.stride
        if isFresh {
          place.update(from: source, count: x.columns)
        } else {
          add(x.columns, source, to: place)
        }
      }
    }
  }
}
