/// Adagrad at the server: `v ← v + Δ²`.
///
/// Source: Reddi et al. 2020, Algorithm 2, <https://arxiv.org/abs/2003.00295>; its experiments have β₁ = 0.
public struct FedAdagrad: ServerOptimizer {
  public let settings: AdaptiveSettings

  public init(_ settings: AdaptiveSettings = AdaptiveSettings(beta1: 0)) {
    self.settings = settings
  }

  public var name: String { "adagrad" }
  public var secondAtFirst: Double { settings.tau * settings.tau }

  public func direction(_ change: Double, first: inout Double, second: inout Double) -> Double {
    second += change * change
    return settings.direction(change, first: &first, second: second)
  }
}
