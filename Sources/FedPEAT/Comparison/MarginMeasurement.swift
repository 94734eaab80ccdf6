import Foundation

/// How much better the owner's tuned model is than the best that a device can make of its emulator.
///
///     margin = ln(perplexity of the emulator, tuned) − ln(perplexity of the full model, adapter plugged in)
///
/// 0 or below: whoever holds the emulator needs the owner's model no more. A device need not leave the emulator as it is: it has that, the tuned adapter, texts of
/// its own and public ones, and tunes the emulator's middle, too. Three attacks are tried, each from the tuned adapter on: the middle and the adapter on
/// its own texts, until those held back are predicted worse; the middle on public text; and the one after the other. `marginAfterAttack` is beside the best of them, or the emulator as it is.
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
  public var margin: Double
  public var marginAfterAttack: Double
  /// Tokens of public text that the attacks used.
  public var publicTokens: Int
  public var settings: TuningTrial.Settings
  public var attack: Attack

  /// How the middle is tuned on public text.
  public struct Attack: Sendable, Codable, Equatable {
    /// Tokens of public text at most.
    public var tokens = 100_000
    public var epochs = 4
    public var learningRate: Float = 1e-3

    public init() {}

    public func validate() throws {
      guard (0...100_000_000).contains(tokens), (1...1000).contains(epochs), learningRate > 0,
        learningRate <= 1
      else {
        throw PeatError.usage(
          "An attack needs up to 100,000,000 public tokens, 1 to 1000 epochs and a learning rate above 0, at most 1; found \(tokens), \(epochs) and \(learningRate)."
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
  ///   - publicTexts: that everybody may have.
  public func margin(
    of emulator: Emulator, own: [Document], publicTexts: [Document], attack: MarginReport.Attack
  ) throws -> MarginReport {
    try attack.validate()
    let adapter = try adapter(
      through: emulator.model, ends: emulator.split.ends, stateNoise: settings.stateNoise,
      "tuning the adapter")
    let tuned = try perplexity(emulator.model, with: adapter)
    let plugIn = try perplexity(full, with: adapter)
    var attacked: [String: Double] = [:]
    // The adapter is in its place throughout: what the middle learns fits it.
    func tuneOnOwn(
      _ thief: Emulator, _ injected: InjectedAdapter, _ name: String
    ) throws -> Double {
      try tuneCarefully(
        thief.model, thief.middleParameters + injected.parameters.map(\.parameter), on: own, name)
      return try perplexity(thief.model)
    }
    if !own.isEmpty {
      let thief = try emulator.unpacked()
      let injected = try adapter.inject(into: thief.model)
      defer { injected.remove() }
      attacked["middleOnOwn"] = try tuneOnOwn(thief, injected, "attack: the middle on own texts")
    }
    var publicTokens = 0
    if attack.tokens > 0, !publicTexts.isEmpty {
      let thief = try emulator.unpacked()
      let injected = try adapter.inject(into: thief.model)
      defer { injected.remove() }
      publicTokens = try tune(
        thief.model, thief.middleParameters, on: publicTexts, limit: attack.tokens,
        epochs: attack.epochs, learningRate: attack.learningRate,
        "attack: the middle on public text")
      attacked["middleOnPublic"] = try perplexity(thief.model)
      if !own.isEmpty {
        attacked["middleOnBoth"] = try tuneOnOwn(thief, injected, "attack: then on own texts")
      }
    }
    let best = attacked.values.reduce(tuned, min)
    return MarginReport(
      fullZeroShot: try perplexity(full), emulatorZeroShot: try perplexity(emulator.model),
      emulatorTuned: tuned, plugIn: plugIn, attacked: attacked,
      margin: log(tuned) - log(plugIn), marginAfterAttack: log(best) - log(plugIn),
      publicTokens: publicTokens, settings: settings, attack: attack)
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
      publicTokens: reports.map(\.publicTokens).max() ?? 0, runs: reports.count)
  }
}
