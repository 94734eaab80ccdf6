import Foundation

/// How much better the owner's tuned model is than the best that a device can make of its emulator.
///
///     margin = ln(perplexity of the emulator, tuned) − ln(perplexity of the full model, adapter plugged in)
///
/// 0 or below: whoever holds the emulator needs the owner's model no more. A device need not leave the emulator as it is: it has that, the tuned adapter, texts of
/// its own and public ones, and tunes the emulator's middle, too. Four attacks are tried, each from the tuned adapter on:
///
/// - the middle and the adapter on its own texts, until those held back are predicted worse;
/// - the middle on public text, at several learning rates;
/// - the same after the middle was filled up to the full model's number of blocks (`Emulator.grown`);
/// - of the middles tuned on public text the one that predicts its own texts best, then tuned on these.
///
/// On public text a tenth is held back, and the moment is kept that predicts it best. Two questions are asked of what comes out. Is it a model for everybody, on the texts that the owner's model is
/// measured on? `marginAfterAttack` says that. And is it a model for the attacker, on texts like its own? A device with its own texts alone learns little of the others', and much of what it needs of its
/// own; `forAttacker` says that. Each is the owner's worst case: beside the best of all attacks at all rates, whichever the attacker would have chosen, or the emulator as it is.
///
/// The margin is that of Xiao, Lin and Han 2023, <https://arxiv.org/abs/2302.04870>, who ask that the plug-in be better than the tuned emulator; the attacks are ours.
public struct MarginReport: Sendable, Codable, Equatable {
  /// Perplexities on the task's held out texts.
  public var fullZeroShot: Double
  public var emulatorZeroShot: Double
  public var emulatorTuned: Double
  public var plugIn: Double
  /// The best by attack: `middleOnOwn`, `middleOnPublic`, `grownOnPublic`, `middleOnBoth`.
  public var attacked: [String: Double]
  /// The same on held out texts of the attacker's own kind; `nil`: there were none.
  public var forAttacker: OwnTexts?
  public var margin: Double
  public var marginAfterAttack: Double
  /// Tokens of public text that the attacks used.
  public var publicTokens: Int
  public var settings: TuningTrial.Settings
  public var attack: Attack
  /// Each attack that was tried, in turn.
  public var tried: [Tried]

  private enum CodingKeys: String, CodingKey {
    case fullZeroShot, emulatorZeroShot, emulatorTuned, plugIn, attacked, forAttacker, margin
    case marginAfterAttack, publicTokens, settings, attack, tried
  }

  init(
    fullZeroShot: Double, emulatorZeroShot: Double, emulatorTuned: Double, plugIn: Double,
    forAttacker: OwnTexts?, tried: [Tried], publicTokens: Int, settings: TuningTrial.Settings,
    attack: Attack
  ) {
    self.fullZeroShot = fullZeroShot
    self.emulatorZeroShot = emulatorZeroShot
    self.emulatorTuned = emulatorTuned
    self.plugIn = plugIn
    self.forAttacker = forAttacker
    self.tried = tried
    self.publicTokens = publicTokens
    self.settings = settings
    self.attack = attack
    attacked = tried.best(\.perplexity)
    margin = log(emulatorTuned) - log(plugIn)
    marginAfterAttack = log(attacked.values.reduce(emulatorTuned, min)) - log(plugIn)
  }

  /// Records from before several attacks were tried have no list of them.
  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    fullZeroShot = try table.decode(Double.self, forKey: .fullZeroShot)
    emulatorZeroShot = try table.decode(Double.self, forKey: .emulatorZeroShot)
    emulatorTuned = try table.decode(Double.self, forKey: .emulatorTuned)
    plugIn = try table.decode(Double.self, forKey: .plugIn)
    attacked = try table.decode([String: Double].self, forKey: .attacked)
    forAttacker = try table.decodeIfPresent(OwnTexts.self, forKey: .forAttacker)
    margin = try table.decode(Double.self, forKey: .margin)
    marginAfterAttack = try table.decode(Double.self, forKey: .marginAfterAttack)
    publicTokens = try table.decode(Int.self, forKey: .publicTokens)
    settings = try table.decode(TuningTrial.Settings.self, forKey: .settings)
    attack = try table.decode(Attack.self, forKey: .attack)
    tried = try table.decodeIfPresent([Tried].self, forKey: .tried) ?? []
  }

  /// What was not measured is null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(fullZeroShot, forKey: .fullZeroShot)
    try table.encode(emulatorZeroShot, forKey: .emulatorZeroShot)
    try table.encode(emulatorTuned, forKey: .emulatorTuned)
    try table.encode(plugIn, forKey: .plugIn)
    try table.encode(attacked, forKey: .attacked)
    try table.encode(forAttacker, forKey: .forAttacker)
    try table.encode(margin, forKey: .margin)
    try table.encode(marginAfterAttack, forKey: .marginAfterAttack)
    try table.encode(publicTokens, forKey: .publicTokens)
    try table.encode(settings, forKey: .settings)
    try table.encode(attack, forKey: .attack)
    try table.encode(tried, forKey: .tried)
  }

  /// Perplexities on held out texts of the attacker's own kind.
  public struct OwnTexts: Sendable, Codable, Equatable {
    public var emulatorTuned: Double
    public var plugIn: Double
    public var attacked: [String: Double]
    public var margin: Double
    public var marginAfterAttack: Double

    init(emulatorTuned: Double, plugIn: Double, attacked: [String: Double]) {
      self.emulatorTuned = emulatorTuned
      self.plugIn = plugIn
      self.attacked = attacked
      margin = log(emulatorTuned) - log(plugIn)
      marginAfterAttack = log(attacked.values.reduce(emulatorTuned, min)) - log(plugIn)
    }
  }

  /// One attack, with what it came to.
  public struct Tried: Sendable, Codable, Equatable {
    /// `middleOnOwn`, `middleOnPublic`, `grownOnPublic` or `middleOnBoth`.
    public var name: String
    public var learningRate: Float
    /// Blocks that are run in the attacker's middle.
    public var blocks: Int
    /// Steps that were made, those after which the attacker's weights were kept, and how often it had then gone over its text.
    public var steps: Int
    public var keptStep: Int
    public var epochs: Double
    /// On what the attacker held back of its text: by this it chooses.
    public var heldBackPerplexity: Double
    /// On the task's held out texts, and ln(this) − ln(plug-in) there.
    public var perplexity: Double
    public var margin: Double
    /// On held out texts of the attacker's own kind; `nil`: there were none.
    public var ownPerplexity: Double?

    private enum CodingKeys: String, CodingKey {
      case name, learningRate, blocks, steps, keptStep, epochs, heldBackPerplexity, perplexity
      case margin, ownPerplexity
    }

    /// What was not measured is null.
    public func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(name, forKey: .name)
      try table.encode(learningRate, forKey: .learningRate)
      try table.encode(blocks, forKey: .blocks)
      try table.encode(steps, forKey: .steps)
      try table.encode(keptStep, forKey: .keptStep)
      try table.encode(epochs, forKey: .epochs)
      try table.encode(heldBackPerplexity, forKey: .heldBackPerplexity)
      try table.encode(perplexity, forKey: .perplexity)
      try table.encode(margin, forKey: .margin)
      try table.encode(ownPerplexity, forKey: .ownPerplexity)
    }
  }

  /// How the middle is tuned.
  public struct Attack: Sendable, Codable, Equatable {
    /// Tokens of public text at most; a tenth is held back.
    public var tokens = 100_000
    public var epochs = 8
    /// Each is tried; it falls along a cosine.
    public var learningRates: [Float] = [4e-3, 1e-2, 3e-2]
    /// Whether an emulator with fewer blocks than the full model is also filled up to as many before it is tuned.
    public var grows = true
    /// Steps on own texts at most.
    public var ownSteps = 400

    public init() {}

    private enum CodingKeys: String, CodingKey {
      case tokens, epochs, learningRates, grows, ownSteps, learningRate
    }

    /// Records from before several rates were tried have one, and nothing grew in them; those from before there was a number of steps were made with as many as the adapter's,
    /// mostly this.
    public init(from decoder: any Decoder) throws {
      let table = try decoder.container(keyedBy: CodingKeys.self)
      tokens = try table.decode(Int.self, forKey: .tokens)
      epochs = try table.decode(Int.self, forKey: .epochs)
      learningRates =
        try table.decodeIfPresent([Float].self, forKey: .learningRates)
        ?? [try table.decode(Float.self, forKey: .learningRate)]
      grows = try table.decodeIfPresent(Bool.self, forKey: .grows) ?? false
      ownSteps = try table.decodeIfPresent(Int.self, forKey: .ownSteps) ?? 100
    }

    public func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(tokens, forKey: .tokens)
      try table.encode(epochs, forKey: .epochs)
      try table.encode(learningRates, forKey: .learningRates)
      try table.encode(grows, forKey: .grows)
      try table.encode(ownSteps, forKey: .ownSteps)
    }

    public func validate() throws {
      guard (0...100_000_000).contains(tokens), (1...1000).contains(epochs),
        (1...20).contains(learningRates.count),
        learningRates.allSatisfy({ $0 > 0 && $0 <= 1 }), (1...1_000_000).contains(ownSteps)
      else {
        throw PeatError.usage(
          "An attack needs up to 100,000,000 public tokens, 1 to 1000 epochs, 1 to 20 rates, each a learning rate above 0, at most 1, and 1 to 1,000,000 steps on own texts; found \(tokens), \(epochs), \(learningRates) and \(ownSteps)."
        )
      }
    }
  }
}

extension [MarginReport.Tried] {
  /// The least of a number, for each kind of attack that has it.
  func best(_ number: (MarginReport.Tried) -> Double?) -> [String: Double] {
    reduce(into: [:]) { result, tried in
      guard let value = number(tried) else { return }
      result[tried.name] = Swift.min(result[tried.name] ?? .infinity, value)
    }
  }
}

extension MarginFacts {
  /// Of several runs; of none it is 0.
  public init(_ reports: [MarginReport]) {
    let count = Double(max(reports.count, 1))
    self.init(
      margin: reports.reduce(0) { $0 + $1.margin } / count,
      afterAttack: reports.reduce(0) { $0 + $1.marginAfterAttack } / count,
      leastAfterAttack: reports.map(\.marginAfterAttack).min() ?? 0,
      leastForAttacker: reports.compactMap { $0.forAttacker?.marginAfterAttack }.min(),
      publicTokens: reports.map(\.publicTokens).max() ?? 0, runs: reports.count,
      attack: reports.first.map { first in
        Strength(
          learningRates: first.attack.learningRates, epochs: first.attack.epochs,
          steps: reports.map(\.publicSteps).min() ?? 0, grows: first.attack.grows,
          context: first.settings.context, tuningSteps: first.settings.steps)
      },
      tuning: reports.first.map { first in
        Tuning(
          learningRate: first.settings.learningRate, stateNoise: first.settings.stateNoise,
          rank: first.settings.rank, alpha: first.settings.alpha)
      })
  }
}

extension MarginReport {
  /// Of the longest attack on public text.
  fileprivate var publicSteps: Int {
    tried.filter { $0.name.hasSuffix("OnPublic") }.map(\.steps).max() ?? 0
  }
}
