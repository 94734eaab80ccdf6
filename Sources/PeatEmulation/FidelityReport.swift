import PeatTensor

/// How well an emulator stands for the full model on a text.
public struct FidelityReport: Sendable, Codable, Equatable {
  /// Predicted tokens of the text.
  public var tokens: Int
  /// Mean nats per token of the full model, and of the emulator.
  public var fullLoss: Double
  public var emulatorLoss: Double
  /// `emulatorLoss − fullLoss`.
  public var crossEntropyGap: Double

  public init(full: TokenLoss, emulator: TokenLoss) {
    tokens = full.count
    fullLoss = full.mean
    emulatorLoss = emulator.mean
    crossEntropyGap = emulator.mean - full.mean
  }
}
