import PeatTensor

/// What a transformer consists of: the sizes, the kinds of its parts, and the names of its tensors.
///
/// An architecture reads it out of config.json; `TransformerModel` is built from it. So Llama and GPT-2 are two
/// descriptions of the same parts.
public struct TransformerConfiguration: Sendable, Equatable {
  /// Which rule normalises in front of attention, feed-forward and head.
  public enum Norm: Sendable, Equatable {
    case rms(epsilon: Float)
    case layer(epsilon: Float)
  }

  /// How a token's position enters.
  public enum Positions: Sendable, Equatable {
    /// Queries and keys are turned by their position.
    case rotary(theta: Double)
    /// A learned row per position is added to the embedding.
    case learned
  }

  /// The feed-forward layer.
  public enum FeedForward: Sendable, Equatable {
    /// `down(silu(gate(x)) · up(x))`
    case swiGLU
    /// `down(gelu(up(x)))`
    case gelu(GELUForm)
  }

  /// `model_type` in config.json.
  public var modelType: String
  public var vocabularySize: Int
  public var hiddenSize: Int
  public var blockCount: Int
  public var heads: Int
  public var keyValueHeads: Int
  public var headWidth: Int
  public var feedForwardSize: Int
  /// Longest sequence, in tokens.
  public var contextLength: Int
  public var norm: Norm
  public var positions: Positions
  public var feedForward: FeedForward
  /// Whether the head is the embedding table.
  public var tiesEmbeddings: Bool
  public var attentionHasBias: Bool
  public var feedForwardHasBias: Bool
  public var layout: WeightLayout
  public var keys: TransformerKeys
  /// What an emulator changes of it.
  public var variation = ModelVariation.none
}

/// The checkpoint's name of each tensor. Names of blocks stand behind `blocks` and the block's number.
public struct TransformerKeys: Sendable, Equatable {
  /// Queries, keys and values: three layers, or one layer whose outputs are cut in three.
  public enum Projections: Sendable, Equatable {
    case separate(query: String, key: String, value: String)
    case fused(String)
  }

  public var embedding: String
  public var positions: String?
  /// `model.layers`, so that block 3 is `model.layers.3`.
  public var blocks: String
  public var attentionNorm: String
  public var projections: Projections
  public var attentionOutput: String
  public var feedForwardNorm: String
  public var gate: String?
  public var up: String
  public var down: String
  public var finalNorm: String
  /// The head's weight where it is not tied.
  public var head: String
  /// Endings of tensors that checkpoints may hold and that are no weights.
  public var ignoredSuffixes: [String] = []
  /// A prefix that some checkpoints of the architecture leave out of every name.
  public var optionalPrefix: String?

  /// `model.layers.3`.
  public func block(_ number: Int) -> String { "\(blocks).\(number)" }

  /// Where a block's linear layers lie in it, in the order of the computation: `self_attn.q_proj`, `attn.c_attn`.
  public var linearPaths: [String] {
    attentionPaths + (gate.map { [$0] } ?? []) + [up, down]
  }

  /// Those of attention.
  public var attentionPaths: [String] {
    switch projections {
    case .separate(let query, let key, let value): [query, key, value, attentionOutput]
    case .fused(let path): [path, attentionOutput]
    }
  }

  /// The short names of a block's linear layers, as LoRA targets are named: `q_proj`, `c_attn`.
  public var linearNames: [String] {
    var seen: Set<String> = []
    return linearPaths.map { $0.split(separator: ".").last.map(String.init) ?? $0 }.filter {
      seen.insert($0).inserted
    }
  }
}
