extension Tape {
  /// Columns in another order: parts that lie side by side in each group come to lie group by group in each part.
  ///
  /// `[N, G, P, w]` becomes `[N, P, G, w]`: such as queries, keys and values of head after head, which become all queries, all keys and all
  /// values.
  ///
  /// - Parameters:
  ///   - x: `[N, G·P·w]`.
  ///   - groups: G.
  ///   - parts: P.
  /// - Returns: `[N, P·G·w]`.
  public func regrouped(_ x: Activation, groups: Int, parts: Int) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(
      x.columns % (groups * parts) == 0, "regrouped: \(x.columns) columns, \(groups) × \(parts)")
    let output = makeActivation(rows: x.rows, columns: x.columns, needsGradient: x.needsGradient)
    let record = RegroupingRecord(
      input: x.shapeOnly, groups: groups, parts: parts, output: output.shapeOnly)
    for row in 0..<x.rows {
      record.forEachPiece { source, place, width in
        (output.pointer + (row * x.columns + place)).update(
          from: x.pointer + (row * x.stride + source), count: width)
      }
    }
    if output.needsGradient { self.record(.regrouping(record)) }
    return output
  }
}

struct RegroupingRecord {
  let input: Activation
  let groups: Int
  let parts: Int
  let output: Activation

  /// Where each piece lies in a row of the input, and where in a row of the output.
  func forEachPiece(_ body: (_ input: Int, _ output: Int, _ width: Int) -> Void) {
    let width = input.columns / (groups * parts)
    for group in 0..<groups {
      for part in 0..<parts {
        body((group * parts + part) * width, (part * groups + group) * width, width)
      }
    }
  }

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
    for row in 0..<input.rows {
      forEachPiece { place, source, width in
        let values = gradient.pointer + (row * output.columns + source)
        let out = target + (row * input.stride + place)
        if isFresh { out.update(from: values, count: width) } else { add(width, values, to: out) }
      }
    }
  }
}
