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
  /// How the adapter was tuned; `nil` in files from before it was written down.
  public var tuning: Tuning?
  /// Whether the text that was measured on is one that was tuned on.
  public var isOnTunedText: Bool?

  /// How the adapter was tuned: with other settings the margin is another.
  public struct Tuning: Sendable, Codable, Equatable {
    public var learningRate: Float
    public var stateNoise: Double
    public var rank: Int
    public var alpha: Double

    public init(learningRate: Float, stateNoise: Double, rank: Int, alpha: Double) {
      self.learningRate = learningRate
      self.stateNoise = stateNoise
      self.rank = rank
      self.alpha = alpha
    }

    /// What differs from how a run tunes, in words; `nil` where nothing does.
    public func difference(from run: Tuning) -> String? {
      let differing = [
        ("learning rate", "\(learningRate)", "\(run.learningRate)"),
        ("state noise", "\(stateNoise)", "\(run.stateNoise)"),
        ("rank", "\(rank)", "\(run.rank)"), ("alpha", "\(alpha)", "\(run.alpha)"),
      ].filter { $0.1 != $0.2 }
      guard !differing.isEmpty else { return nil }
      return differing.map { "\($0.0) \($0.1), the run with \($0.2)" }.joined(separator: "; ")
    }
  }

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
    publicTokens: Int, runs: Int, attack: Strength? = nil, tuning: Tuning? = nil
  ) {
    self.margin = margin
    self.afterAttack = afterAttack
    self.leastAfterAttack = leastAfterAttack
    self.leastForAttacker = leastForAttacker
    self.publicTokens = publicTokens
    self.runs = runs
    self.attack = attack
    self.tuning = tuning
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
    return isOnTunedText == true ? "it was measured on a text that was tuned on" : nil
  }
}
