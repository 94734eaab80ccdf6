/// Which numbers a step drops: the same again for the same seed, step, layer, row and column, on any number of threads and when a
/// block is computed again.
package struct DropoutPlace: Sendable, Equatable {
  /// Of the run and the step.
  let seed: UInt64
  /// The place of the tape's first row in the batch.
  private(set) var firstRow: Int

  package init(seed: UInt64, step: Int, firstRow: Int) {
    self.seed = mixed(seed ^ mixed(UInt64(truncatingIfNeeded: step)))
    self.firstRow = firstRow
  }

  /// The same for a matrix that has `rows` rows in the place of each `others` of the batch's, from a border of both on.
  package func counting(_ rows: Int, for others: Int) -> DropoutPlace {
    var place = self
    place.firstRow = firstRow / others * rows
    return place
  }
}

/// SplitMix64's finaliser: Steele, Lea and Flood 2014, <https://doi.org/10.1145/2660193.2660195>.
@inline(__always) private func mixed(_ value: UInt64) -> UInt64 {
  var z = value &+ 0x9E37_79B9_7F4A_7C15
  z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
  z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
  return z ^ (z >> 31)
}

extension Tape {
  /// Sets values to zero by chance, and scales the rest so that the mean stays: `x · keep · scale / (1 − p)`.
  ///
  /// The tape must know its place (`dropoutPlace`).
  ///
  /// - Parameters:
  ///   - x: `[N, d]`.
  ///   - rate: p, how probable it is that a value becomes zero, in 0 ..< 1.
  ///   - key: of the layer: others drop other values.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Srivastava et al. 2014, <https://jmlr.org/papers/v15/srivastava14a.html>.
  package func dropout(_ x: Activation, rate: Float, scale: Float, key: UInt64) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    guard let dropoutPlace else { preconditionFailure("dropout on a tape that knows no step") }
    precondition(rate >= 0 && rate < 1, "dropout: a rate of \(rate)")
    let mask = DropoutMask(
      seed: mixed(dropoutPlace.seed ^ key), firstRow: dropoutPlace.firstRow,
      threshold: UInt32(Double(rate) * 0x1p32), factor: scale / (1 - rate))
    let width = x.columns
    let output = makeActivation(rows: x.rows, columns: width, needsGradient: x.needsGradient)
    let factors = pool.take(width)
    defer { withExtendedLifetime(factors) {} }
    for row in 0..<x.rows {
      mask.write(row: row, columns: width, to: factors.pointer)
      mapVectors(
        width, x.pointer + row * x.stride, factors.pointer, into: output.pointer + row * width
      ) { $0 * $1 }
    }
    if output.needsGradient {
      record(.dropout(DropoutRecord(x: x.shapeOnly, mask: mask, output: output.shapeOnly)))
    }
    return output
  }
}

/// What values of a matrix are multiplied with.
struct DropoutMask {
  let seed: UInt64
  let firstRow: Int
  /// Of 32 random bits: below it, a value is dropped.
  let threshold: UInt32
  let factor: Float

  func write(row: Int, columns: Int, to result: FloatPointer) {
    let start = mixed(seed ^ UInt64(truncatingIfNeeded: firstRow + row))
    for column in stride(from: 0, to: columns, by: 2) {
      let bits = mixed(start &+ UInt64(truncatingIfNeeded: column))
      result[column] = UInt32(truncatingIfNeeded: bits) < threshold ? 0 : factor
      if column + 1 < columns {
        result[column + 1] = UInt32(truncatingIfNeeded: bits >> 32) < threshold ? 0 : factor
      }
    }
  }
}

struct DropoutRecord {
  let x: Activation
  let mask: DropoutMask
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = x.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let width = output.columns
    let factors = tape.pool.take(width)
    defer { withExtendedLifetime(factors) {} }
    let (target, isFresh) = tape.gradientTarget(for: x, in: slot)
    for row in 0..<output.rows {
      mask.write(row: row, columns: width, to: factors.pointer)
      let dy = gradient.pointer + row * width
      let place = target + row * x.stride
      mapVectors(width, dy, factors.pointer, into: isFresh ? place : factors.pointer) { $0 * $1 }
      if !isFresh { add(width, factors.pointer, to: place) }
    }
  }
}
