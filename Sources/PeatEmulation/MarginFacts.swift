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
  /// What the attacker did with public text; `nil` in files from before it was written down.
  public var attack: Strength?

  /// How hard an emulator was attacked with public text.
  public struct Strength: Sendable, Codable, Equatable {
    /// That were tried.
    public var learningRates: [Float]
    /// Over the public text, and the steps that they were, in the run where they were fewest.
    public var epochs: Int
    public var steps: Int
    /// Whether the emulator was also filled up to the full model's number of blocks, where it has fewer.
    public var grows: Bool
    /// Input tokens per window.
    public var context: Int
    /// Steps in which the adapter was tuned on the task.
    public var tuningSteps: Int

    public init(
      learningRates: [Float], epochs: Int, steps: Int, grows: Bool, context: Int, tuningSteps: Int
    ) {
      self.learningRates = learningRates
      self.epochs = epochs
      self.steps = steps
      self.grows = grows
      self.context = context
      self.tuningSteps = tuningSteps
    }
  }

  public init(
    margin: Double, afterAttack: Double, leastAfterAttack: Double, leastForAttacker: Double? = nil,
    publicTokens: Int, runs: Int, attack: Strength? = nil
  ) {
    self.margin = margin
    self.afterAttack = afterAttack
    self.leastAfterAttack = leastAfterAttack
    self.leastForAttacker = leastForAttacker
    self.publicTokens = publicTokens
    self.runs = runs
    self.attack = attack
  }

  /// The least of all that was measured.
  public var least: Double { min(leastAfterAttack, leastForAttacker ?? .infinity) }

  /// Whether the owner's model is worth something beside the emulator, in every run and on every kind of text that was measured on; `nil`: nobody knows, as the attack was
  /// too feeble to show that there is a margin (`doubt`).
  public var hasModelPrivacy: Bool? { least > 0 ? (doubt == nil ? true : nil) : false }

  /// Why a margin that was found says little; `nil`: an attacker did what it could.
  public var doubt: String? {
    guard let attack else { return "it was measured by a program that tried one learning rate" }
    let (tokens, steps, tuning, context) = (10_000, 50, 20, 32)
    if publicTokens < tokens {
      return "the attacker had \(publicTokens) tokens of public text, fewer than \(tokens)"
    }
    if attack.learningRates.count < 2 || attack.learningRates.allSatisfy({ $0 < 1e-3 }) {
      return "the attacker did not try several learning rates, 1e-3 or more among them"
    }
    if attack.steps < steps {
      return "the attacker made \(attack.steps) steps on public text, fewer than \(steps)"
    }
    if !attack.grows { return "the attacker did not grow the emulator to the model's depth" }
    if attack.tuningSteps < tuning {
      return "the adapter was tuned for \(attack.tuningSteps) steps, fewer than \(tuning)"
    }
    if attack.context < context {
      return "windows had \(attack.context) tokens, fewer than \(context)"
    }
    return nil
  }
}
