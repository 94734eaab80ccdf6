import PeatTensor

/// What a transformer consists of: the sizes, the kinds of its parts, and the names of its tensors.
///
/// An architecture reads it out of config.json; `TransformerModel` is built from it. So all families are descriptions of the same
/// parts.
public struct TransformerConfiguration: Sendable, Equatable {
  /// Which rule normalises.
  public enum Norm: Sendable, Equatable {
    /// `x / rms(x) · (w + offset)`.
    case rms(epsilon: Float, offset: Float = 0)
    case layer(epsilon: Float)
  }

  /// Where in a block norms stand, f being attention or the feed-forward layer.
  public enum NormPlace: Sendable, Equatable {
    /// `x + f(norm(x))`.
    case before
    /// `norm(x + f(x))`.
    case after
    /// `x + norm(f(norm(x)))`.
    case around
  }

  /// How a token's position enters.
  public enum Positions: Sendable, Equatable {
    /// Queries and keys are turned by their position.
    case rotary(RotaryEmbedding)
    /// A learned row per position is added to the embedding, from a first row of the table on.
    case learned(firstRow: Int = 0)
    /// Not at all: whatever mixes tokens knows their order itself.
    case none
    /// Attention adds to scores what it has learned of distances, in so many buckets: see `RelativePositions`.
    case relative(buckets: Int, longest: Int)

    var isLearned: Bool { if case .learned = self { true } else { false } }
  }

  /// The feed-forward layer.
  public enum FeedForward: Sendable, Equatable {
    /// `down(f(gate(x)) · up(x))`
    case gated(ActivationFunction)
    /// `down(f(up(x)))`
    case plain(ActivationFunction)
  }

  /// Which linear layers have a bias.
  public struct Biases: Sendable, Equatable {
    public var projections: Bool
    public var attentionOutput: Bool
    public var feedForward: Bool

    public init(projections: Bool, attentionOutput: Bool, feedForward: Bool) {
      self.projections = projections
      self.attentionOutput = attentionOutput
      self.feedForward = feedForward
    }

    public static let all = Biases(projections: true, attentionOutput: true, feedForward: true)
    public static let none = Biases(projections: false, attentionOutput: false, feedForward: false)
  }

  /// `model_type` in config.json.
  public var modelType: String
  public var vocabularySize: Int
  public var hiddenSize: Int
  /// Width of the embedding's rows and of what the head sees, where it is not that of states: layers lead from one to the other.
  public var embeddingSize: Int?
  public var blockCount: Int
  public var heads: Int
  public var keyValueHeads: Int
  public var headWidth: Int
  public var feedForwardSize: Int
  /// Longest sequence, in tokens.
  public var contextLength: Int
  public var norm: Norm
  public var normPlace = NormPlace.before
  /// Whether attention and feed-forward layer both see what comes into the block, `x + attention(norm₁(x)) + feedForward(norm₂(x))`.
  public var isParallel = false
  public var positions: Positions
  /// A token that has no position of its own, with learned positions: it gets the row in front of the first, and others do not count it. `nil`: there is none.
  public var unplacedToken: Int32?
  /// What the embedding's rows are multiplied with.
  public var embeddingScale: Float = 1
  /// Which keys a query sees, and what becomes of scores.
  public var attention = AttentionPattern.causal
  /// Values between the two layers that mix tokens, where those stand in the place of attention; `nil`: attention does it.
  public var tokenMixing: Int?
  /// For each stored block how many keys a query sees at most; `nil`: all, in all blocks.
  public var windows: [Int?]?
  public var feedForward: FeedForward
  /// What stands on the last states; `nil`: nothing, the states are the result.
  public var head: HeadLayout?
  /// c, where a vocabulary's logits become `c · tanh(logit / c)`.
  public var logitSoftCap: Float?
  /// How the model sees pictures; `nil`: it reads tokens. `vocabularySize` is then the size of a patch.
  public var image: ImageInput?
  /// How many kinds of tokens the embedding tells apart; the first is added to all.
  public var tokenTypes = 0
  public var biases: Biases
  public var layout = WeightLayout.outputsByInputs
  public var keys: TransformerKeys
  /// The token that a decoder behind an encoder begins with.
  public var decoderStart: Int32 = 0
  /// What an emulator changes of it.
  public var variation = ModelVariation.none

  /// The description of a model of some of this one's blocks, in this order; one may stand more than once.
  public func selecting(blocks numbers: [Int]) -> TransformerConfiguration {
    var result = self
    result.blockCount = numbers.count
    result.windows = windows.map { windows in numbers.map { windows[$0] } }
    result.keys = keys.counting(encoderBlocks: numbers.count { $0 < keys.encoderBlocks })
    return result
  }

  /// Which keys the queries of a stored block see.
  public func attention(ofBlock number: Int) -> AttentionPattern {
    var pattern = attention
    if let windows { pattern.window = windows[number] }
    if hasEncoder, !keys.isInDecoder(number) { pattern.isCausal = false }
    return pattern
  }
}

/// The checkpoint's name of each tensor. Names of blocks stand behind `blocks` and the block's number.
public struct TransformerKeys: Sendable, Equatable {
  /// Queries, keys and values.
  public enum Projections: Sendable, Equatable {
    /// Three layers.
    case separate(query: String, key: String, value: String)
    /// One layer: of its outputs all queries come first, then all keys, then all values.
    case fused(String)
    /// One layer: of its outputs each head's query, key and value lie side by side.
    case fusedByHead(String)
    /// None: one layer into what mixes tokens in the place of attention.
    case tokens(String)
  }

  public var embedding: String
  public var positions: String?
  /// `model.layers`, so that block 3 is `model.layers.3`.
  public var blocks: String
  /// In front of attention, or behind it where norms stand behind.
  public var attentionNorm: String
  public var projections: Projections
  /// Norms of each head's queries and keys.
  public var queryNorm: String?
  public var keyNorm: String?
  public var attentionOutput: String
  /// Behind attention, where norms stand around it.
  public var attentionOutputNorm: String?
  public var feedForwardNorm: String
  public var gate: String?
  public var up: String
  public var down: String
  /// Behind the feed-forward layer, where norms stand around it.
  public var feedForwardOutputNorm: String?
  public var finalNorm: String?
  /// A norm of the embedding.
  public var embeddingNorm: String?
  /// Linear layers without biases from the embedding's width to that of states, and back.
  public var inputProjection: String?
  public var outputProjection: String?
  /// The table of token types.
  public var tokenTypes: String?
  /// What a model of pictures has below its blocks.
  public var image: ImageKeys?
  /// Endings of names that some checkpoints have in the place of others: of a norm's weight, `LayerNorm.gamma`.
  public var olderSuffixes: [String: String] = [:]
  /// Endings of tensors that checkpoints may hold and that are no weights, or other names of some.
  public var ignoredSuffixes: [String] = []
  /// Endings of tensors that are of no use to what is computed here, such as a pooler's; they stay where a checkpoint is written anew.
  public var unusedSuffixes: [String] = []
  /// Beginnings of tensors of parts that this program does not compute, such as a text tower beside one of pictures.
  public var ignoredPrefixes: [String] = []
  /// A prefix that some checkpoints of the architecture leave out of every name.
  public var optionalPrefix: String?
  /// The table of relative positions in a stack's first block.
  public var relativePositions: String?
  /// Linear layers that other versions of the family have in a block; none in a model's own keys.
  public var otherVersionsPaths: [String] = []
  /// Of a decoder's blocks, where the blocks are an encoder's and a decoder's.
  public var decoder: DecoderKeys?
  /// Of a block that looks at what an encoder says; `nil` for others.
  public var cross: CrossAttentionKeys?

  /// How the names of heads begin.
  static let headPrefixes = [
    "lm_head.", "embed_out.", "cls.", "vocab_", "classifier.", "score.", "pre_classifier.",
    "qa_outputs.",
  ]

  /// `optionalPrefix` where a checkpoint leaves it out, as GPT-2's first ones do, which were saved from inside the model; empty elsewhere.
  ///
  /// - Parameter has: whether the checkpoint has a tensor.
  func missingPrefix(_ has: (String) -> Bool) -> String {
    guard let prefix = optionalPrefix, !has(embedding), has(embedding.dropping(prefix: prefix))
    else { return "" }
    return prefix
  }

  /// Where a block's linear layers lie in it, in the order of the computation: `self_attn.q_proj`, `attn.c_attn`.
  public var linearPaths: [String] { attentionPaths + feedForwardPaths }

  /// Those of attention.
  public var attentionPaths: [String] {
    switch projections {
    case .separate(let query, let key, let value):
      [query, key, value, attentionOutput] + (cross?.paths ?? [])
    case .fused(let path), .fusedByHead(let path), .tokens(let path):
      [path, attentionOutput] + (cross?.paths ?? [])
    }
  }

  /// Those of the feed-forward layer.
  public var feedForwardPaths: [String] { innerPaths + [down] }

  /// Those that lead into the feed-forward layer's channels.
  public var innerPaths: [String] { (gate.map { [$0] } ?? []) + [up] }

  /// The short names of a block's linear layers, as LoRA targets are named: `q_proj`, `c_attn`.
  public var linearNames: [String] {
    var seen: Set<String> = []
    return allLinearPaths.map { $0.split(separator: ".").last.map(String.init) ?? $0 }.filter {
      seen.insert($0).inserted
    }
  }
}
