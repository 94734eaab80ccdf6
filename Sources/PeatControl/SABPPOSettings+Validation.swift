import PeatTensor

extension SABPPO.Settings {
  /// Throws `usage` where a setting is out of its range.
  public func validate() throws {
    func check(_ holds: Bool, _ what: String) throws {
      if !holds { throw PeatError.usage(what) }
    }
    try check(
      learningRate > 0 && learningRate <= 1,
      "The learning rate is \(learningRate); it must be above 0 and at most 1.")
    try check(
      (1...100_000).contains(rounds),
      "The number of rounds between updates is \(rounds); it must be 1 to 100000.")
    try check(
      (1...10_000_000).contains(minibatch),
      "The minibatch is \(minibatch); it must be 1 to 10000000.")
    try check(
      (1...1000).contains(epochs), "The number of epochs is \(epochs); it must be 1 to 1000.")
    try check(discount >= 0 && discount <= 1, "The discount is \(discount); it must be 0 to 1.")
    try check(
      timeConstant.map { $0 > 0 && $0.isFinite } ?? true,
      "The time constant of the discount is \(timeConstant ?? 0); it must be a finite number above 0."
    )
    try check(
      gaeLambda >= 0 && gaeLambda <= 1,
      "Lambda of the advantages is \(gaeLambda); it must be 0 to 1.")
    try check(clip > 0 && clip < 1, "The clip is \(clip); it must be above 0 and below 1.")
    try check(valueClip.map { $0 > 0 } ?? true, "The clip of values must be above 0.")
    try check(valueWeight >= 0, "The weight of values is \(valueWeight); it must be at least 0.")
    try check(
      entropyWeight >= 0 && entropyWeight < 1000,
      "The weight of the entropy is \(entropyWeight); it must be 0 to 1000.")
    try check(
      gradientNorm > 0, "The largest norm of a gradient is \(gradientNorm); it must be above 0.")
    try check(
      targetDivergence.map { $0 > 0 && $0.isFinite } ?? true,
      "The divergence at which epochs end is \(targetDivergence ?? 0); it must be a finite number above 0."
    )
  }
}
