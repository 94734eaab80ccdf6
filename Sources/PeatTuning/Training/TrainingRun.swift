import PeatTensor

extension Trainer {
  /// What is predicted: each next or hidden token, or the class of a text or a picture.
  public enum Unit: String, Sendable {
    case tokens, examples

    /// `tokens/s`.
    public var perSecond: String { "\(rawValue)/s" }
  }

  /// Where a run stands, for a line of progress.
  public struct Progress: Sendable {
    public let report: StepReport
    public let steps: Int
    /// How many predictions were learned from per second, of what `unit` says.
    public let rate: Double
    public let unit: Unit
    /// Time the remaining steps will take at the rate so far.
    public let timeLeft: Duration
  }

  /// How a run ended.
  public struct Outcome: Sendable {
    /// Mean loss of the last steps (a tenth of them, at most 20).
    public let finalLoss: Double
    public let steps: Int
    public let tokens: Int
    public let unit: Unit
    public let seconds: Double
    /// False where it was stopped before its last step; `Trainer.state` can be saved then.
    public let isComplete: Bool

    /// Predictions per second, of what `unit` says.
    public var rate: Double { seconds > 0 ? Double(tokens) / seconds : 0 }
  }

  /// Makes all steps that are left.
  ///
  /// - Parameters:
  ///   - keeping: where and when it keeps how far it is, also where it ends early; `nil`: nowhere.
  ///   - shouldStop: asked between steps; true ends the run early.
  ///   - onStep: called after each step.
  public func run(
    keeping: StateKeeping? = nil, shouldStop: () -> Bool = { false },
    onStep: (Progress) throws -> Void = { _ in }
  ) throws -> Outcome {
    let secondsBefore = seconds
    var pace = keeping.map { KeepingPace($0.interval) }
    let clock = ContinuousClock()
    let start = clock.now
    let tokensBefore = tokens
    let stepsBefore = step
    // The first step also prepares: what is left is told from the others.
    var firstEnd = start
    while !isFinished, !shouldStop() {
      let report = try advance()
      let seconds = (clock.now - start).seconds
      let done = step - stepsBefore
      if done == 1 { firstEnd = clock.now }
      let perStep = done == 1 ? seconds : (clock.now - firstEnd).seconds / Double(done - 1)
      try onStep(
        Progress(
          report: report, steps: configuration.steps,
          rate: seconds > 0 ? Double(tokens - tokensBefore) / seconds : 0, unit: unit,
          timeLeft: .seconds(perStep * Double(configuration.steps - step))))
      let time = clock.now - start
      self.seconds = secondsBefore + time.seconds
      guard let keeping, !isFinished, pace?.isDue(step, at: time) == true else { continue }
      try keeping.keep(self)
      pace?.kept(step, from: time, to: clock.now - start)
    }
    if let keeping, !isFinished, pace?.lastKept != step { try keeping.keep(self) }
    return Outcome(
      finalLoss: recentLosses.isEmpty
        ? 0 : recentLosses.reduce(0, +) / Double(recentLosses.count), steps: step,
      tokens: tokens - tokensBefore, unit: unit, seconds: (clock.now - start).seconds,
      isComplete: isFinished)
  }
}
