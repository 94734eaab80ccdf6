/// What the blocks of a decoder are called that stands behind an encoder, and how a model's blocks divide into both. The keys beside it are then those of the
/// encoder's blocks.
///
/// Blocks are numbered in the order of the computation: the encoder's first, then the decoder's.
public struct DecoderKeys: Sendable, Equatable {
  /// The norm behind the encoder's blocks.
  public var encoderNorm: String
  /// `decoder.block`, so that the first block behind the encoder's is `decoder.block.0`.
  public var blocks: String
  public var cross: CrossAttentionKeys
  public var feedForwardNorm: String
  public var gate: String?
  public var up: String
  public var down: String
  /// How many of the blocks that are numbered are the encoder's: of a model, of an emulator, or of an adapter's folder.
  public var encoderBlocks = 0
  /// How many the full model's encoder has.
  public var encoderBlocksInFullModel = 0

  public init(
    encoderNorm: String, blocks: String, cross: CrossAttentionKeys, feedForwardNorm: String,
    gate: String?, up: String, down: String
  ) {
    self.encoderNorm = encoderNorm
    self.blocks = blocks
    self.cross = cross
    self.feedForwardNorm = feedForwardNorm
    self.gate = gate
    self.up = up
    self.down = down
  }
}

/// Attention of a decoder's block to what the encoder says.
public struct CrossAttentionKeys: Sendable, Equatable {
  public var norm: String
  public var query: String
  public var key: String
  public var value: String
  public var output: String

  public init(norm: String, query: String, key: String, value: String, output: String) {
    self.norm = norm
    self.query = query
    self.key = key
    self.value = value
    self.output = output
  }

  /// Its linear layers, in the order of the computation.
  public var paths: [String] { [query, key, value, output] }
}
