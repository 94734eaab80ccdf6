import PeatNN
import PeatTensor

/// One block: attention and feed-forward, each with a norm, and added to what came in.
///
///     x ← x + attention(norm₁(x))
///     x ← x + feedForward(norm₂(x))
///
/// or with norms in other places, or side by side, as the configuration says.
///
/// Unchecked Sendable: what a tuning method puts into it is set between steps, by the owner of the model.
public final class TransformerBlock: @unchecked Sendable {
  /// Queries, keys and values, as the checkpoint keeps them.
  enum Projections: Sendable {
    case separate(query: Linear, key: Linear, value: Linear)
    case fused(Linear)
    case fusedByHead(Linear)
    /// None: what leads into the layers that mix tokens.
    case tokens(Linear)
  }

  /// Its number in the full model; an emulator's blocks keep the number they had.
  public let numberInFullModel: Int
  /// Its name there: `model.layers.3`.
  public let nameInFullModel: String
  let attentionNorm: Normalization
  let projections: Projections
  let queryNorm: Normalization?
  let keyNorm: Normalization?
  let attentionOutput: Linear
  let attentionOutputNorm: Normalization?
  /// What looks at an encoder's states, between attention and the feed-forward layer.
  let cross: CrossAttention?
  let feedForwardNorm: Normalization
  let gate: Linear?
  let up: Linear
  let down: Linear
  let feedForwardOutputNorm: Normalization?
  private let configuration: TransformerConfiguration
  private let pattern: AttentionPattern
  /// How wide it is inside.
  public let sizes: BlockSizes
  /// Keys and values in front of each sequence's, where it is tuned that way.
  public var prefix: KeyValuePrefix?
  /// What stands behind attention, where it is tuned that way.
  public var attentionAdapter: BottleneckAdapter?
  /// What stands behind the feed-forward layer, where it is tuned that way.
  public var feedForwardAdapter: BottleneckAdapter?

  init(
    configuration: TransformerConfiguration, number: Int, numberInFullModel full: Int,
    parameter: (String, [Int], _ inputAxis: Int?) throws -> Parameter
  ) throws {
    self.configuration = configuration
    numberInFullModel = full
    pattern = configuration.attention(ofBlock: number)
    let sizes = configuration.sizes(ofBlock: number)
    self.sizes = sizes
    let keys = configuration.keys.ofBlock(number)
    nameInFullModel = keys.inFullModel.block(full)
    let prefix = keys.block(number)
    let hidden = configuration.hiddenSize
    let queryWidth = sizes.heads * configuration.headWidth
    let keyWidth = sizes.keyValueHeads * configuration.headWidth

    func linear(_ path: String, _ inputs: Int, _ outputs: Int, bias: Bool) throws -> Linear {
      let name = "\(prefix).\(path)"
      func matrix(_ name: String, _ inputs: Int, _ outputs: Int) throws -> Parameter {
        configuration.layout == .outputsByInputs
          ? try parameter(name, [outputs, inputs], 1) : try parameter(name, [inputs, outputs], 0)
      }
      let rank = configuration.variation.ranks[name]
      return Linear(
        name,
        reduction: try rank.map { try matrix("\(name).low_rank_down", inputs, $0) },
        weight: try rank.map { try matrix("\(name).low_rank_up", $0, outputs) }
          ?? matrix("\(name).weight", inputs, outputs),
        bias: bias ? try parameter("\(name).bias", [outputs], nil) : nil,
        layout: configuration.layout)
    }

    func norm(_ path: String, _ width: Int) throws -> Normalization {
      try .make(configuration, "\(prefix).\(path)", width: width, parameter)
    }

    let biases = configuration.biases
    attentionNorm = try norm(keys.attentionNorm, hidden)
    queryNorm = try keys.queryNorm.map { try norm($0, configuration.headWidth) }
    keyNorm = try keys.keyNorm.map { try norm($0, configuration.headWidth) }
    attentionOutputNorm = try keys.attentionOutputNorm.map { try norm($0, hidden) }
    feedForwardNorm = try norm(keys.feedForwardNorm, hidden)
    feedForwardOutputNorm = try keys.feedForwardOutputNorm.map { try norm($0, hidden) }
    func fused(_ path: String) throws -> Linear {
      try linear(path, hidden, queryWidth + 2 * keyWidth, bias: biases.projections)
    }
    switch keys.projections {
    case .separate(let query, let key, let value):
      projections = .separate(
        query: try linear(query, hidden, queryWidth, bias: biases.projections),
        key: try linear(key, hidden, keyWidth, bias: biases.projections),
        value: try linear(value, hidden, keyWidth, bias: biases.projections))
    case .fused(let path): projections = .fused(try fused(path))
    case .fusedByHead(let path): projections = .fusedByHead(try fused(path))
    case .tokens(let path):
      projections = .tokens(
        try linear(
          path, configuration.contextLength, configuration.tokenMixing ?? 0,
          bias: biases.projections))
    }
    let mixed = configuration.tokenMixing.map { ($0, configuration.contextLength) }
    let (queries, outputs) = mixed ?? (queryWidth, hidden)
    attentionOutput = try linear(
      keys.attentionOutput, queries, outputs, bias: biases.attentionOutput)
    cross = try keys.cross.map { keys in
      CrossAttention(
        norm: try norm(keys.norm, hidden),
        query: try linear(keys.query, hidden, queryWidth, bias: biases.projections),
        key: try linear(keys.key, hidden, keyWidth, bias: biases.projections),
        value: try linear(keys.value, hidden, keyWidth, bias: biases.projections),
        output: try linear(keys.output, queryWidth, hidden, bias: biases.attentionOutput),
        heads: sizes.heads, keyValueHeads: sizes.keyValueHeads, pattern: configuration.attention)
    }
    let inner = sizes.feedForwardSize
    gate = try keys.gate.map { try linear($0, hidden, inner, bias: biases.feedForward) }
    up = try linear(keys.up, hidden, inner, bias: biases.feedForward)
    down = try linear(keys.down, inner, hidden, bias: biases.feedForward)
  }

  /// Every linear layer, in the order of the computation.
  public var linears: [Linear] {
    var result: [Linear]
    switch projections {
    case .separate(let query, let key, let value): result = [query, key, value]
    case .fused(let linear), .fusedByHead(let linear), .tokens(let linear): result = [linear]
    }
    result.append(attentionOutput)
    if let cross { result += cross.linears }
    if let gate { result.append(gate) }
    return result + [up, down]
  }

  /// The weights of its norms.
  public var norms: [Parameter] {
    [
      attentionNorm, queryNorm, keyNorm, attentionOutputNorm, cross?.norm, feedForwardNorm,
      feedForwardOutputNorm,
    ].flatMap { $0?.parameters ?? [] }
  }

  /// The block's own weights, without those of low-rank updates.
  public var parameters: [Parameter] { norms + linears.flatMap(\.parameters) }

  /// What a tuning method has put into it.
  package var added: [Parameter] {
    (prefix?.parameters ?? []) + (attentionAdapter?.parameters ?? [])
      + (feedForwardAdapter?.parameters ?? []) + linears.flatMap(\.added)
  }

  /// Whether anything in the block trains.
  var trains: Bool {
    parameters.contains(where: \.trains) || added.contains(where: \.trains)
  }

  /// `[N, d]` → `[N, d]`; with a cache, the tokens are one sequence that follows those in the cache.
  ///
  /// - Parameters:
  ///   - positions: the layout with the positions that rows turn by, which begin behind a prefix.
  ///   - relative: what attention adds to scores by distance.
  ///   - memory: what an encoder says, for a block of a decoder.
  func callAsFunction(
    _ x: Activation, layout: SequenceLayout, positions: SequenceLayout, rotary: RotaryTable?,
    relative: RelativePositions? = nil, memory: EncoderMemory? = nil, on tape: Tape,
    cache: KeyValueCache.Layer? = nil
  ) -> Activation {
    func mixed(_ x: Activation, residual: Activation? = nil) -> Activation {
      if case .tokens(let first) = projections {
        return tokensMixed(x, through: first, residual: residual, on: tape)
      }
      return output(
        of: attentionOutput,
        attention(x, layout, positions, rotary, relative, on: tape, cache: cache),
        attentionAdapter, residual: residual, on: tape)
    }
    switch configuration.normPlace {
    case .before:
      var attended = mixed(attentionNorm(x, on: tape), residual: x)
      if let cross {
        attended = cross(attended, layout: layout, memory: memory, on: tape, cache: cache)
      }
      let inner = feedForwardNorm(configuration.isParallel ? x : attended, on: tape)
      return output(
        of: down, channels(inner, on: tape), feedForwardAdapter, residual: attended, on: tape)
    case .after:
      let attended = attentionNorm(mixed(x, residual: x), on: tape)
      return feedForwardNorm(
        output(
          of: down, channels(attended, on: tape), feedForwardAdapter, residual: attended, on: tape),
        on: tape)
    case .around:
      let attended = mixed(attentionNorm(x, on: tape))
      let x = tape.addition(attentionOutputNorm?(attended, on: tape) ?? attended, x)
      let fed = output(
        of: down, channels(feedForwardNorm(x, on: tape), on: tape), feedForwardAdapter, on: tape)
      return tape.addition(feedForwardOutputNorm?(fed, on: tape) ?? fed, x)
    }
  }

  /// What mixes tokens in the place of attention: a plain feed-forward layer over the values that a channel has in all tokens of a sequence, `[N, d]` → `[N, d]`.
  ///
  /// Source: Tolstikhin et al. 2021, <https://arxiv.org/abs/2105.01601>, equation 1.
  private func tokensMixed(
    _ x: Activation, through first: Linear, residual: Activation?, on tape: Tape
  ) -> Activation {
    let (tokens, channels) = (configuration.contextLength, x.columns)
    let place = tape.dropoutPlace
    tape.dropoutPlace = place?.counting(channels, for: tokens)
    let raised = activated(first(tape.transposed(x, groupsOf: tokens), on: tape), on: tape)
    let columns = attentionOutput(raised, on: tape)  // [B·d, tokens]
    tape.dropoutPlace = place
    let result = tape.transposed(columns, groupsOf: channels)
    guard let attentionAdapter else {
      return residual.map { tape.addition(result, $0) } ?? result
    }
    return attentionAdapter(result, on: tape, residual: residual)
  }

  /// The function of a plain layer.
  private func activated(_ x: Activation, on tape: Tape) -> Activation {
    switch configuration.feedForward {
    case .gated(let function), .plain(let function): tape.activated(x, by: function)
    }
  }

  /// What attention gives before its last layer, `[N, H·D]`.
  private func attention(
    _ x: Activation, _ layout: SequenceLayout, _ positions: SequenceLayout, _ rotary: RotaryTable?,
    _ relative: RelativePositions?, on tape: Tape, cache: KeyValueCache.Layer?
  ) -> Activation {
    var (queries, keys, values) = project(x, on: tape)
    queries = normed(queries, by: queryNorm, on: tape)
    keys = normed(keys, by: keyNorm, on: tape)
    if let rotary {
      queries = tape.rotary(queries, table: rotary, layout: positions)
      keys = tape.rotary(keys, table: rotary, layout: positions)
    }
    if let cache { (keys, values) = cache.append(keys: keys, values: values) }
    return tape.attention(
      queries: queries, keys: keys, values: values, heads: sizes.heads,
      keyValueHeads: sizes.keyValueHeads,
      layout: cache.map { layout.shifted(by: $0.prefixLength) } ?? layout, pattern: pattern,
      prefix: cache == nil ? prefix?.weights : nil, relative: relative)
  }

  /// Each head's values normalised by themselves.
  private func normed(
    _ heads: Activation, by norm: Normalization?, on tape: Tape
  ) -> Activation {
    guard let norm else { return heads }
    return norm(heads.reshaped(columns: configuration.headWidth), on: tape)
      .reshaped(columns: heads.columns)
  }

  /// What the feed-forward layer gives before its last layer, `[N, f]`.
  private func channels(_ x: Activation, on tape: Tape) -> Activation {
    let raised = up(x, on: tape)
    switch configuration.feedForward {
    case .gated(let function):
      guard let gate else { preconditionFailure("a gated layer has a gate") }
      return tape.gated(gate: gate(x, on: tape), up: raised, by: function)
    case .plain: return activated(raised, on: tape)
    }
  }

  /// A sublayer's last layer, its adapter where it has one, and what came into the sublayer where that is added.
  private func output(
    of layer: Linear, _ x: Activation, _ adapter: BottleneckAdapter?, residual: Activation? = nil,
    on tape: Tape
  ) -> Activation {
    guard let adapter else { return layer(x, on: tape, residual: residual) }
    return adapter(layer(x, on: tape), on: tape, residual: residual)
  }

  private func project(
    _ x: Activation, on tape: Tape
  ) -> (queries: Activation, keys: Activation, values: Activation) {
    let all: Activation
    switch projections {
    case .separate(let query, let key, let value):
      return (query(x, on: tape), key(x, on: tape), value(x, on: tape))
    case .fused(let linear): all = linear(x, on: tape)
    case .fusedByHead(let linear):
      all = tape.regrouped(linear(x, on: tape), groups: sizes.heads, parts: 3)
    case .tokens: preconditionFailure("what mixes tokens has no queries")
    }
    let q = sizes.heads * configuration.headWidth
    let k = sizes.keyValueHeads * configuration.headWidth
    return (
      all.columns(0..<q), all.columns(q..<q + k), all.columns(q + k..<q + 2 * k)
    )
  }
}

extension Normalization {
  static func make(
    _ configuration: TransformerConfiguration, _ name: String, width: Int,
    _ parameter: (String, [Int], _ inputAxis: Int?) throws -> Parameter
  ) throws -> Normalization {
    let weight = try parameter("\(name).weight", [width], nil)
    switch configuration.norm {
    case .rms(let epsilon, let offset):
      return Normalization(weight: weight, bias: nil, epsilon: epsilon, offset: offset)
    case .layer(let epsilon):
      return Normalization(
        weight: weight, bias: try parameter("\(name).bias", [width], nil), epsilon: epsilon)
    }
  }
}
