/// Where the making of an emulator stands.
public struct CompressionProgress: Sendable {
  /// The word of the recipe that is under way.
  public let word: String
  /// Blocks done, of so many.
  public let done: Int
  public let total: Int

  /// Is told before each block; what it throws ends the work.
  public typealias Listener = @Sendable (CompressionProgress) throws -> Void
}
