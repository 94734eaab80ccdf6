extension Tape {
  /// What a group of rows has in common, whatever their order: the mean and the maximum of each column.
  ///
  /// - Parameters:
  ///   - x: `[G · n, d]`, a group's rows one after the other.
  ///   - groups: G.
  /// - Returns: `[G, 2d]`, the means and then the maxima. Of equal maxima the first row's gets the gradient.
  ///
  /// Source: Zaheer et al. 2017, *Deep Sets*, <https://arxiv.org/abs/1703.06114>.
  public func pool(_ x: Activation, groups: Int) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(groups > 0 && x.rows % groups == 0, "pool: \(x.rows) rows in \(groups) groups")
    let size = x.rows / groups
    let width = x.columns
    let output = makeActivation(rows: groups, columns: 2 * width, needsGradient: x.needsGradient)
    let share = broadcast(1 / Float(size))
    for group in 0..<groups {
      let mean = output.pointer + group * 2 * width
      let top = mean + width
      let first = x.pointer + group * size * x.stride
      mean.update(from: first, count: width)
      top.update(from: first, count: width)
      for row in 1..<max(size, 1) {
        let values = first + row * x.stride
        add(width, values, to: mean)
        mapVectors(width, values, top, into: top) { value, best in
          best.replacing(with: value, where: (value .> best) .| (value .!= value))
        }
      }
      mapVectors(width, mean, into: mean) { $0 * share }
    }
    if output.needsGradient {
      record(.pooling(PoolingRecord(input: x, output: output)))
    }
    return output
  }
}

struct PoolingRecord {
  let input: Activation
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output), let slot = input.slot else { return }
    defer { withExtendedLifetime(gradient) {} }
    let width = input.columns
    let size = input.rows / output.rows
    let share = broadcast(1 / Float(size))
    let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
    // The part of the maxima's gradient that has found no row yet.
    let left = tape.pool.take(width)
    let found = tape.pool.take(width)
    defer { withExtendedLifetime((left, found)) {} }
    for group in 0..<output.rows {
      let means = gradient.pointer + group * 2 * width
      let maxima = output.pointer + group * 2 * width + width
      left.pointer.update(from: means + width, count: width)
      for row in group * size..<(group + 1) * size {
        let place = target + row * input.stride
        let values = input.pointer + row * input.stride
        if isFresh { place.update(repeating: 0, count: width) }
        mapVectors(width, values, maxima, left.pointer, into: found.pointer) {
          Vector.zero.replacing(with: $2, where: $0 .== $1)
        }
        mapVectors(width, left.pointer, found.pointer, into: left.pointer) { $0 - $1 }
        mapVectors(width, means, found.pointer, place, into: place) { fma($0, share, $1 + $2) }
      }
    }
  }
}
