import PeatTensor
import PeatTuning

/// What `emulator.json` says of an emulator that was distilled again during a run, with the adapter as it was then in the ends of both models.
public struct RealignmentFacts: Sendable, Codable, Equatable {
  /// The round before it.
  public var round: Int
  public var settings: DistillationSettings
  /// Mean objective of the last steps.
  public var finalLoss: Double
  /// Digest of the text's bytes.
  public var text: Digest
  /// Cosines of the adapter's gradients through the emulator and through the full model.
  public var fidelityBefore: Double
  public var fidelityAfter: Double

  public init(
    round: Int, settings: DistillationSettings, finalLoss: Double, text: Digest,
    fidelityBefore: Double, fidelityAfter: Double
  ) {
    self.round = round
    self.settings = settings
    self.finalLoss = finalLoss
    self.text = text
    self.fidelityBefore = fidelityBefore
    self.fidelityAfter = fidelityAfter
  }
}
