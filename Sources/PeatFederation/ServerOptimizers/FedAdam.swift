/// Adam at the server: `v ← β₂·v + (1 − β₂)·Δ²`.
///
/// Source: Reddi et al. 2020, Algorithm 2, <https://arxiv.org/abs/2003.00295>.
public struct FedAdam: ServerOptimizer {
  public let settings: AdaptiveSettings

  public init(_ settings: AdaptiveSettings = AdaptiveSettings()) { self.settings = settings }

  public var name: String { "adam" }
  public var secondAtFirst: Double { settings.tau * settings.tau }

  public func direction(_ change: Double, first: inout Double, second: inout Double) -> Double {
    second = settings.beta2 * second + (1 - settings.beta2) * change * change
    return settings.direction(change, first: &first, second: second)
  }
}
