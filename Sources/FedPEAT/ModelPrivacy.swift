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

  /// For each emulator of a folder whose margin was found by an attack too feeble to show that there is one: what is to be said of it.
  public func modelPrivacyCautions() throws -> [String] {
    try emulators.compactMap { word in
      guard case .folder(let folder) = try EmulatorSource(word),
        let margin = try EmulatorFacts.read(in: folder)?.margin, margin.hasModelPrivacy == nil,
        let doubt = margin.doubt
      else { return nil }
      return
        "the owner's margin that emulator.json of '\(word)' states says little: \(doubt); measure it again with 'fedpeat attack'"
    }
  }
}
