import Foundation

/// How much better the owner's tuned model is than the best that a device can make of its emulator.
///
///     margin = ln(perplexity of the emulator, tuned) − ln(perplexity of the full model, adapter plugged in)
///
/// 0 or below: whoever holds the emulator needs the owner's model no more. A device need not leave the emulator as it is: it has that, the tuned adapter, texts of
/// its own and public ones, and tunes the emulator's middle, too. Three attacks are tried, each from the tuned adapter on: the middle and the adapter on
/// its own texts, until those held back are predicted worse; the middle on public text; and the one after the other.
///
/// Two questions are asked of what comes out. Is it a model for everybody, on the texts that the owner's model is measured on? `marginAfterAttack` says that. And is it a
/// model for the attacker, on texts like its own? A device with its own texts alone learns little of the others', and much of what it needs of its own; `forAttacker` says that. Each is the owner's worst
/// case: beside the best of all attacks, or the emulator as it is.
///
/// The margin is that of Xiao, Lin and Han 2023, <https://arxiv.org/abs/2302.04870>, who ask that the plug-in be better than the tuned emulator; the attacks are ours.
public struct MarginReport: Sendable, Codable, Equatable {
  /// Perplexities on the task's held out texts.
  public var fullZeroShot: Double
  public var emulatorZeroShot: Double
  public var emulatorTuned: Double
  public var plugIn: Double
  /// By attack: `middleOnOwn`, `middleOnPublic`, `middleOnBoth`.
  public var attacked: [String: Double]
  /// The same on held out texts of the attacker's own kind; `nil`: there were none.
  public var forAttacker: OwnTexts?
  public var margin: Double
  public var marginAfterAttack: Double
  /// Tokens of public text that the attacks used.
  public var publicTokens: Int
  public var settings: TuningTrial.Settings
  public var attack: Attack

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

  /// How the middle is tuned.
  public struct Attack: Sendable, Codable, Equatable {
    /// Tokens of public text at most.
    public var tokens = 100_000
    public var epochs = 4
    public var learningRate: Float = 1e-3
    /// Steps on own texts at most.
    public var ownSteps = 400

    public init() {}

    private enum CodingKeys: String, CodingKey { case tokens, epochs, learningRate, ownSteps }

    /// Records from before there was a number of steps were made with as many as the adapter's, mostly this.
    public init(from decoder: any Decoder) throws {
      let table = try decoder.container(keyedBy: CodingKeys.self)
      tokens = try table.decode(Int.self, forKey: .tokens)
      epochs = try table.decode(Int.self, forKey: .epochs)
      learningRate = try table.decode(Float.self, forKey: .learningRate)
      ownSteps = try table.decodeIfPresent(Int.self, forKey: .ownSteps) ?? 100
    }

    public func validate() throws {
      guard (0...100_000_000).contains(tokens), (1...1000).contains(epochs), learningRate > 0,
        learningRate <= 1, (1...1_000_000).contains(ownSteps)
      else {
        throw PeatError.usage(
          "An attack needs up to 100,000,000 public tokens, 1 to 1000 epochs, a learning rate above 0, at most 1, and 1 to 1,000,000 steps on own texts; found \(tokens), \(epochs), \(learningRate) and \(ownSteps)."
        )
      }
    }
  }
}

extension TuningTrial {
  /// Measures an emulator's margin.
  ///
  /// - Parameters:
  ///   - own: texts of the attacker's own, such as those of one device.
  ///   - ownHeldOut: of the same kind, to measure on what the attacker has for itself.
  ///   - publicTexts: that everybody may have.
  public func margin(
    of emulator: Emulator, own: [Document], ownHeldOut: [Document] = [], publicTexts: [Document],
    attack: MarginReport.Attack
  ) throws -> MarginReport {
    try attack.validate()
    // What can't be learned from is told before anything is learned.
    let ownTexts = try own.isEmpty ? nil : HeldBack(own, for: self, "The attacker's own texts")
    let publicData =
      try attack.tokens > 0 && !publicTexts.isEmpty
      ? named("The public text") { try dataset(publicTexts).prefix(tokens: attack.tokens) } : nil
    let adapter = try adapter(
      through: emulator.model, ends: emulator.split.ends, stateNoise: settings.stateNoise,
      "tuning the adapter")
    let tuned = try perplexity(emulator.model, with: adapter)
    let plugIn = try perplexity(full, with: adapter)
    var attacked: [String: Double] = [:]
    var attackedForOwn: [String: Double] = [:]
    func measure(_ thief: Emulator, _ name: String) throws {
      attacked[name] = try perplexity(thief.model)
      if !ownHeldOut.isEmpty {
        attackedForOwn[name] = try perplexity(thief.model, on: ownHeldOut)
      }
    }
    // The adapter is in its place throughout: what the middle learns fits it.
    func tuneOnOwn(
      _ thief: Emulator, _ injected: InjectedAdapter, _ texts: HeldBack, _ name: String
    ) throws {
      try tuneCarefully(
        thief.model, thief.middleParameters + injected.parameters.map(\.parameter), on: texts,
        steps: attack.ownSteps, name)
    }
    if let ownTexts {
      let thief = try emulator.unpacked()
      let injected = try adapter.inject(into: thief.model)
      defer { injected.remove() }
      try tuneOnOwn(thief, injected, ownTexts, "attack: the middle on own texts")
      try measure(thief, "middleOnOwn")
    }
    if let publicData {
      let thief = try emulator.unpacked()
      let injected = try adapter.inject(into: thief.model)
      defer { injected.remove() }
      try tune(
        thief.model, thief.middleParameters, on: publicData, epochs: attack.epochs,
        learningRate: attack.learningRate, "attack: the middle on public text")
      try measure(thief, "middleOnPublic")
      if let ownTexts {
        try tuneOnOwn(thief, injected, ownTexts, "attack: then on own texts")
        try measure(thief, "middleOnBoth")
      }
    }
    let forAttacker =
      ownHeldOut.isEmpty
      ? nil
      : MarginReport.OwnTexts(
        emulatorTuned: try perplexity(emulator.model, with: adapter, on: ownHeldOut),
        plugIn: try perplexity(full, with: adapter, on: ownHeldOut), attacked: attackedForOwn)
    return MarginReport(
      fullZeroShot: try perplexity(full), emulatorZeroShot: try perplexity(emulator.model),
      emulatorTuned: tuned, plugIn: plugIn, attacked: attacked, forAttacker: forAttacker,
      margin: log(tuned) - log(plugIn),
      marginAfterAttack: log(attacked.values.reduce(tuned, min)) - log(plugIn),
      publicTokens: publicData?.tokens.count ?? 0, settings: settings, attack: attack)
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
      publicTokens: reports.map(\.publicTokens).max() ?? 0, runs: reports.count)
  }
}
