import PeatTensor

/// How a client goes on when the coordinator can't be reached: it waits longer each time, up to a number of tries.
///
/// The wait after try `k` is `initial · multiplierᵏ⁻¹`, at most `maximum`, spread by ± `jitter` so that many clients do
/// not come back at the same moment.
public struct RetryPolicy: Sendable, Codable, Equatable {
  public var attempts: Int
  public var initial: Duration
  public var multiplier: Double
  public var maximum: Duration
  /// Share of the wait, from 0 to 1.
  public var jitter: Double

  public init(
    attempts: Int = 8, initial: Duration = .milliseconds(500), multiplier: Double = 2,
    maximum: Duration = .seconds(30), jitter: Double = 0.2
  ) {
    self.attempts = attempts
    self.initial = initial
    self.multiplier = multiplier
    self.maximum = maximum
    self.jitter = jitter
  }

  /// The wait after the given try, from 1.
  public func delay(after attempt: Int, using random: inout SeededRandom) -> Duration {
    var delay = initial
    for _ in 1..<max(attempt, 1) where delay < maximum { delay = delay * multiplier }
    let spread = 1 + jitter * Double(random.uniform(-1, 1))
    return min(delay, maximum) * spread
  }
}
