import PeatTensor

extension Tensor {
  /// Normal numbers of the given deviation.
  public static func normal(
    _ shape: [Int], deviation: Float, using random: inout SeededRandom
  ) -> Tensor {
    let result = Tensor(uninitialized: shape)
    for i in 0..<result.count { result.pointer[i] = deviation * random.normal() }
    return result
  }

  /// Uniform numbers in [-bound, bound).
  public static func uniform(
    _ shape: [Int], bound: Float, using random: inout SeededRandom
  ) -> Tensor {
    let result = Tensor(uninitialized: shape)
    for i in 0..<result.count { result.pointer[i] = random.uniform(-bound, bound) }
    return result
  }
}

extension Tensor {
  /// A matrix whose rows, or columns where they are fewer, are orthogonal and `gain` long, uniformly among all such.
  ///
  /// Normal numbers, made orthogonal one vector after the other (Gram and Schmidt, in double precision, twice).
  public static func orthogonal(
    rows: Int, columns: Int, gain: Float, using random: inout SeededRandom
  ) -> Tensor {
    guard
      let result = orthogonal(
        rows: rows, columns: columns, gain: gain, using: &random, shouldStop: { false })
    else { preconditionFailure("nobody stopped it") }
    return result
  }

  /// The same, of sizes at which that takes long; `nil` where somebody wanted it to stop.
  public static func orthogonal(
    rows: Int, columns: Int, gain: Float, using random: inout SeededRandom,
    shouldStop: () -> Bool
  ) -> Tensor? {
    let (count, length) = (min(rows, columns), max(rows, columns))
    var vectors: [[Double]] = []
    while vectors.count < count {
      if shouldStop() { return nil }
      var vector = (0..<length).map { _ in Double(random.normal()) }
      for _ in 0..<2 {
        for other in vectors {
          let share = zip(vector, other).reduce(0) { $0 + $1.0 * $1.1 }
          for i in 0..<length { vector[i] -= share * other[i] }
        }
      }
      let norm = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
      if norm > 1e-6 { vectors.append(vector.map { $0 / norm }) }
    }
    let result = Tensor(uninitialized: [rows, columns])
    for (number, vector) in vectors.enumerated() {
      for i in 0..<length {
        result.pointer[rows <= columns ? number * columns + i : i * columns + number] =
          gain * Float(vector[i])
      }
    }
    return result
  }
}
