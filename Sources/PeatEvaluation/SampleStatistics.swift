extension [Double] {
  /// Mean and sample standard deviation of several runs' results; the deviation of a single one, and both of none, are 0.
  package var meanAndDeviation: (mean: Double, deviation: Double) {
    guard !isEmpty else { return (0, 0) }
    let mean = reduce(0, +) / Double(count)
    guard count > 1 else { return (mean, 0) }
    let squares = reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (mean, (squares / Double(count - 1)).squareRoot())
  }
}
