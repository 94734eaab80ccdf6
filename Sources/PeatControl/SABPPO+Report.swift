extension SABPPO {
  /// What one iteration did.
  public struct Report: Sendable, Codable, Equatable {
    public var iteration: Int
    /// Rounds played so far, all processes together.
    public var steps: Int
    /// The mean return of the episodes that ended, undiscounted; `nil` where none did.
    public var meanReturn: Double?
    public var policyLoss: Double
    public var valueLoss: Double
    /// Per joint action, in nats.
    public var entropy: Double
    /// How far the policy moved, in nats: mean of (r − 1) − log r.
    public var divergence: Double
    /// The share of ratios that were clipped.
    public var clippedShare: Double
    /// 1 − Var(R − V) / Var(R).
    public var explainedVariance: Double
  }
}
