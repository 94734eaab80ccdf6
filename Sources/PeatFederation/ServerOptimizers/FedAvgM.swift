/// The server's momentum: `m ← β·m + Δ`, direction m.
///
/// It is linear, so of low-rank pairs it can be taken of their products as well, see `ServerStep`.
///
/// Source: Hsu, Qi and Brown 2019, <https://arxiv.org/abs/1909.06335>; with a server's learning rate as in Reddi et al. 2020,
/// <https://arxiv.org/abs/2003.00295>.
public struct FedAvgM: ServerOptimizer {
  /// β, 0 ≤ β < 1; with 0 the direction is the change itself.
  public let momentum: Double

  public init(momentum: Double = 0.9) { self.momentum = momentum }

  public var name: String { "momentum" }
  public var linearMomentum: Double? { momentum }

  public func direction(_ change: Double, first: inout Double, second: inout Double) -> Double {
    first = momentum * first + change
    return first
  }
}
