import PeatTensor

/// The coordinator's own part in the training, with the uncompressed middle and its own data.
public struct ServerParticipation: Sendable {
  /// The server's share `W` in the next adapter, 0 ≤ W < 1.
  public let weight: Double
  /// Tunes the same adapter as the clients do, through the full model.
  public let trainer: any LocalTrainer

  /// Throws where the weight lies outside of 0..<1.
  public init(weight: Double, trainer: any LocalTrainer) throws {
    guard weight >= 0, weight < 1 else {
      throw PeatError.usage(
        "The server's weight is \(weight); it must be at least 0 and below 1. With 0 the server "
          + "changes nothing, with 0.5 it counts as much as all clients together.")
    }
    self.weight = weight
    self.trainer = trainer
  }
}
