import PeatTensor

/// What `emulator.json` says of the owner's margin: how much better the owner's tuned model is than what a device can make of the emulator, in nats per token.
public struct MarginFacts: Sendable, Codable, Equatable {
  /// ln(perplexity of the tuned emulator) − ln(perplexity of the full model with the adapter), mean over the runs.
  public var margin: Double
  /// The same beside the best that an attacker made of the emulator, mean over the runs, and in the run where it was least.
  public var afterAttack: Double
  public var leastAfterAttack: Double
  /// Tokens of public text that the attacker had.
  public var publicTokens: Int
  /// Seeds that it was measured with.
  public var runs: Int

  public init(
    margin: Double, afterAttack: Double, leastAfterAttack: Double, publicTokens: Int, runs: Int
  ) {
    self.margin = margin
    self.afterAttack = afterAttack
    self.leastAfterAttack = leastAfterAttack
    self.publicTokens = publicTokens
    self.runs = runs
  }

  /// Whether the owner's model is worth something beside the emulator, in every run.
  public var hasModelPrivacy: Bool { leastAfterAttack > 0 }
}
