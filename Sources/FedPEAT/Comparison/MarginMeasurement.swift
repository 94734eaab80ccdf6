import Foundation

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
    let ownTexts = try own.isEmpty ? nil : texts(own, "The attacker's own texts", held: 0.2)
    let publicData =
      try attack.tokens > 0 && !publicTexts.isEmpty
      ? named("The public text") { try dataset(publicTexts).prefix(tokens: attack.tokens) } : nil
    let publicSplit = try publicData.map {
      try CarefulTuning.Texts($0, holdingBack: 0.1, for: self, "The public text")
    }
    let adapter = try adapter(
      through: emulator.model, ends: emulator.split.ends, stateNoise: settings.stateNoise,
      "tuning the adapter")
    let plugIn = try perplexity(full, with: adapter)
    var attacks = Attacks(
      trial: self, adapter: adapter, plugIn: plugIn, ownHeldOut: ownHeldOut, attack: attack)
    if let ownTexts {
      try attacks.tuneOnOwn(Thief(emulator, adapter), ownTexts, "middleOnOwn")
    }
    if let publicSplit {
      let best = try attacks.tuneOnPublic(emulator, publicSplit, choosingBy: ownTexts)
      if let ownTexts, let best { try attacks.tuneOnOwn(best, ownTexts, "middleOnBoth") }
    }
    let forAttacker =
      ownHeldOut.isEmpty
      ? nil
      : MarginReport.OwnTexts(
        emulatorTuned: try perplexity(emulator.model, with: adapter, on: ownHeldOut),
        plugIn: try perplexity(full, with: adapter, on: ownHeldOut),
        attacked: attacks.tried.best(\.ownPerplexity))
    return MarginReport(
      fullZeroShot: try perplexity(full), emulatorZeroShot: try perplexity(emulator.model),
      emulatorTuned: try perplexity(emulator.model, with: adapter), plugIn: plugIn,
      forAttacker: forAttacker, tried: attacks.tried,
      publicTokens: publicData?.tokenCount ?? 0, settings: settings, attack: attack)
  }

  private func texts(
    _ documents: [Document], _ name: String, held: Double
  ) throws -> CarefulTuning.Texts {
    try CarefulTuning.Texts(
      try named(name) { try dataset(documents) }, holdingBack: held, for: self, name)
  }
}

/// An emulator in an attacker's hands, with the tuned adapter in its place: what the middle learns fits it.
private struct Thief {
  let emulator: Emulator
  let injected: InjectedAdapter

  /// - Parameter emulator: it is not changed.
  init(_ emulator: Emulator, _ adapter: Adapter) throws {
    self.emulator = try emulator.unpacked()
    injected = try adapter.inject(into: self.emulator.model)
  }
}

/// Attacks on one emulator, one after the other.
private struct Attacks {
  let trial: TuningTrial
  let adapter: Adapter
  let plugIn: Double
  let ownHeldOut: [Document]
  let attack: MarginReport.Attack
  private(set) var tried: [MarginReport.Tried] = []

  init(
    trial: TuningTrial, adapter: Adapter, plugIn: Double, ownHeldOut: [Document],
    attack: MarginReport.Attack
  ) {
    self.trial = trial
    self.adapter = adapter
    self.plugIn = plugIn
    self.ownHeldOut = ownHeldOut
    self.attack = attack
  }

  /// The middle and the adapter, on the attacker's own texts, until those held back are predicted worse.
  mutating func tuneOnOwn(
    _ thief: Thief, _ texts: CarefulTuning.Texts, _ name: String
  ) throws {
    let tuning = CarefulTuning(
      steps: attack.ownSteps, learningRate: trial.settings.learningRate, checks: 40,
      patience: max(10, attack.ownSteps / 4))
    let outcome = try trial.tune(
      thief.emulator.model,
      thief.emulator.middleParameters + thief.injected.parameters.map(\.parameter), on: texts,
      tuning, "attack: \(MarginReport.title(of: name))")
    try add(name, thief, outcome, tuning, texts)
  }

  /// The middle on public text, as it is and grown, at each rate.
  ///
  /// - Parameter own: by what an attacker chooses who has texts of the task; by public text that was held back if not given.
  /// - Returns: what it would choose.
  mutating func tuneOnPublic(
    _ emulator: Emulator, _ texts: CarefulTuning.Texts, choosingBy own: CarefulTuning.Texts?
  ) throws -> Thief? {
    let batch = trial.settings.batch
    let perEpoch = (texts.training.windowCount + batch - 1) / batch
    let grown = attack.grows ? try emulator.grown() : nil
    var best: (thief: Thief, loss: Double)?
    for (name, start) in [("middleOnPublic", emulator), ("grownOnPublic", grown)] {
      guard let start else { continue }
      for rate in attack.learningRates {
        let thief = try Thief(start, adapter)
        let tuning = CarefulTuning(
          steps: max(1, attack.epochs * perEpoch), learningRate: rate,
          schedule: .init(.cosine), checks: 20)
        let outcome = try trial.tune(
          thief.emulator.model, thief.emulator.middleParameters, on: texts, tuning,
          "attack: \(MarginReport.title(of: name)), rate \(rate)")
        try add(name, thief, outcome, tuning, texts)
        let loss = try own.map { try trial.loss(thief.emulator.model, on: $0.validation) }
        if (loss ?? outcome.loss) < best?.loss ?? .infinity {
          best = (thief, loss ?? outcome.loss)
        }
      }
    }
    return best?.thief
  }

  /// Measures what an attack came to.
  private mutating func add(
    _ name: String, _ thief: Thief, _ outcome: CarefulTuning.Outcome, _ tuning: CarefulTuning,
    _ texts: CarefulTuning.Texts
  ) throws {
    let model = thief.emulator.model
    let perplexity = try trial.perplexity(model)
    let split = thief.emulator.split
    tried.append(
      .init(
        name: name, learningRate: tuning.learningRate,
        blocks: model.configuration.depth - split.bottom - split.top, steps: outcome.steps,
        keptStep: outcome.keptStep,
        epochs: Double(outcome.keptStep * trial.settings.batch)
          / Double(max(texts.training.windowCount, 1)),
        heldBackPerplexity: exp(outcome.loss), perplexity: perplexity,
        margin: log(perplexity) - log(plugIn),
        ownPerplexity: ownHeldOut.isEmpty
          ? nil : try trial.perplexity(model, on: ownHeldOut)))
  }
}

extension MarginReport {
  /// What each attack does, by its name.
  public static let titles = [
    ("middleOnOwn", "the middle tuned on its own texts"),
    ("middleOnPublic", "the middle tuned on public text"),
    ("grownOnPublic", "grown to the model's depth, tuned on public text"),
    ("middleOnBoth", "the best of these tuned on its own texts, too"),
  ]

  fileprivate static func title(of name: String) -> String {
    titles.first { $0.0 == name }?.1 ?? name
  }
}
