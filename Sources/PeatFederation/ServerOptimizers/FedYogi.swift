/// Yogi at the server: `v ← v − (1 − β₂)·Δ²·sign(v − Δ²)`, which goes toward Δ² by no more than that, from above as from below.
///
/// Source: Reddi et al. 2020, Algorithm 2, <https://arxiv.org/abs/2003.00295>.
public struct FedYogi: ServerOptimizer {
  public let settings: AdaptiveSettings

  public init(_ settings: AdaptiveSettings = AdaptiveSettings()) { self.settings = settings }

  public var name: String { "yogi" }
  public var secondAtFirst: Double { settings.tau * settings.tau }

  public func direction(_ change: Double, first: inout Double, second: inout Double) -> Double {
    let square = change * change
    // The sign of 0 is 0.
    if second > square {
      second -= (1 - settings.beta2) * square
    } else if second < square {
      second += (1 - settings.beta2) * square
    }
    return settings.direction(change, first: &first, second: second)
  }
}
