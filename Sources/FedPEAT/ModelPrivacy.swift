import Foundation

extension RunConfiguration {
  /// Throws where an emulator that would be sent was measured to leave the owner's model no margin, and nobody said that this is meant.
  ///
  /// Emulators that were not measured pass: `fedpeat attack` measures them.
  public func checkModelPrivacy() throws {
    guard !withoutModelPrivacy else { return }
    for word in emulators {
      guard case .folder(let folder) = try EmulatorSource(word),
        let margin = try EmulatorFacts.read(in: folder)?.margin, margin.hasModelPrivacy == false
      else { continue }
      throw PeatError.usage(
        "The emulator '\(word)' gives no model privacy: after attacks on it the owner's margin is \(String(format: "%.3f", margin.least)) nats per token, so that a device can make a model of it that is as good as the owner's (emulator.json, margin). Send a smaller emulator, or say --without-model-privacy if devices may have such a model."
      )
    }
  }

  /// For each emulator of a folder whose margin was found by an attack too feeble to show that there is one, or with other settings than the
  /// run's: what is to be said of it.
  public func modelPrivacyCautions() throws -> [String] {
    try emulators.flatMap { word -> [String] in
      guard case .folder(let folder) = try EmulatorSource(word),
        let margin = try EmulatorFacts.read(in: folder)?.margin
      else { return [] }
      var cautions: [String] = []
      if margin.hasModelPrivacy == nil, let doubt = margin.doubt {
        cautions.append(
          "the owner's margin that emulator.json of '\(word)' states says little: \(doubt); measure it again with 'fedpeat attack'"
        )
      }
      let own = MarginFacts.Tuning(
        learningRate: learningRate, stateNoise: stateNoise, rank: rank, alpha: alpha)
      if method == LoRA.name, let difference = margin.tuning?.difference(from: own) {
        cautions.append(
          "the owner's margin that emulator.json of '\(word)' states is of tuning with \(difference): the run's may be less; 'fedpeat attack' with the run's settings measures it"
        )
      }
      return cautions
    }
  }
}
