import PeatTensor

/// How the server goes from the adapter that a round began with toward what the clients came to.
///
/// A rule of the mean says what they came to, x̄; the change `Δ = x̄ − x` takes the place of a gradient, and the server makes a step of its own:
///
///     x ← x + η · direction(Δ)
///
/// `η` the server's learning rate. With η = 1 and Δ itself as the direction that is the mean.
///
/// Source: Reddi et al. 2020, *Adaptive Federated Optimization*, <https://arxiv.org/abs/2003.00295>.
public protocol ServerOptimizer: Sendable {
  /// The name a configuration calls it by.
  var name: String { get }

  /// β of `m ← β·m + Δ` where the direction is that m and nothing else: then it can be taken of a product of factors as well as of single values. `nil`
  /// where each value is scaled by itself, which a product that is never written out has none of.
  var linearMomentum: Double? { get }

  /// What a value's second memory begins with.
  var secondAtFirst: Double { get }

  /// The direction of one value from its change, and what is remembered of it from now on.
  ///
  /// - Parameters:
  ///   - first: m, 0 at first.
  ///   - second: v.
  func direction(_ change: Double, first: inout Double, second: inout Double) -> Double
}

extension ServerOptimizer {
  public var linearMomentum: Double? { nil }
  public var secondAtFirst: Double { 0 }
}

/// The part of Adam, Yogi and Adagrad that they share, Algorithm 2 of Reddi et al.:
///
///     m ← β₁·m + (1 − β₁)·Δ        v as each says        direction = m / (√v + τ)
///
/// There is no correction for the first rounds; v begins with τ².
public struct AdaptiveSettings: Sendable, Equatable {
  /// β₁, 0 ≤ β₁ < 1.
  public var beta1: Double
  /// β₂, 0 ≤ β₂ < 1. Adagrad has none.
  public var beta2: Double
  /// τ, above 0: how far adaptivity goes; changes well below it are taken as they are, over τ.
  public var tau: Double

  public init(beta1: Double = 0.9, beta2: Double = 0.99, tau: Double = 1e-3) {
    self.beta1 = beta1
    self.beta2 = beta2
    self.tau = tau
  }

  func direction(_ change: Double, first: inout Double, second: Double) -> Double {
    first = beta1 * first + (1 - beta1) * change
    return first / (second.squareRoot() + tau)
  }
}
