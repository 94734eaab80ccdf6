import PeatTensor

/// What `emulator.json` says of the owner's margin: how much better the owner's tuned model is than what a device can make of the emulator, in nats per token.
public struct MarginFacts: Sendable, Codable, Equatable {
  /// ln(perplexity of the tuned emulator) − ln(perplexity of the full model with the adapter), mean over the runs.
  public var margin: Double
  /// The same beside the best that an attacker made of the emulator, mean over the runs, and in the run where it was least.
  public var afterAttack: Double
  public var leastAfterAttack: Double
  /// The same on texts like the attacker's own, in the run where it was least; `nil`: it was not measured there.
  public var leastForAttacker: Double?
  /// Tokens of public text that the attacker had.
  public var publicTokens: Int
  /// Seeds that it was measured with.
  public var runs: Int

  public init(
    margin: Double, afterAttack: Double, leastAfterAttack: Double, leastForAttacker: Double? = nil,
    publicTokens: Int, runs: Int
  ) {
    self.margin = margin
    self.afterAttack = afterAttack
    self.leastAfterAttack = leastAfterAttack
    self.leastForAttacker = leastForAttacker
    self.publicTokens = publicTokens
    self.runs = runs
  }

  /// The least of all that was measured.
  public var least: Double { min(leastAfterAttack, leastForAttacker ?? .infinity) }

  /// Whether the owner's model is worth something beside the emulator, in every run and on every kind of text that was measured on.
  public var hasModelPrivacy: Bool { least > 0 }
}
