import PeatNN
import PeatTensor

/// One block: attention and feed-forward, each behind a norm and added to what came in.
///
///     x ← x + attention(norm₁(x))
///     x ← x + feedForward(norm₂(x))
///
/// Unchecked Sendable: what a tuning method puts into it is set between steps, by the owner of the model.
public final class TransformerBlock: @unchecked Sendable {
  /// Queries, keys and values, as the checkpoint keeps them.
  enum Projections: Sendable {
    case separate(query: Linear, key: Linear, value: Linear)
    case fused(Linear)
  }

  /// Its number in the full model; an emulator's blocks keep the number they had.
  public let numberInFullModel: Int
  let attentionNorm: Normalization
  let projections: Projections
  let attentionOutput: Linear
  let feedForwardNorm: Normalization
  let gate: Linear?
  let up: Linear
  let down: Linear
  private let configuration: TransformerConfiguration
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
    let sizes = configuration.sizes(ofBlock: number)
    self.sizes = sizes
    let keys = configuration.keys
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

    attentionNorm = try .make(configuration, "\(prefix).\(keys.attentionNorm)", parameter)
    feedForwardNorm = try .make(configuration, "\(prefix).\(keys.feedForwardNorm)", parameter)
    let bias = configuration.attentionHasBias
    switch keys.projections {
    case .separate(let query, let key, let value):
      projections = .separate(
        query: try linear(query, hidden, queryWidth, bias: bias),
        key: try linear(key, hidden, keyWidth, bias: bias),
        value: try linear(value, hidden, keyWidth, bias: bias))
    case .fused(let path):
      projections = .fused(try linear(path, hidden, queryWidth + 2 * keyWidth, bias: bias))
    }
    attentionOutput = try linear(keys.attentionOutput, queryWidth, hidden, bias: bias)
    let inner = sizes.feedForwardSize
    let innerBias = configuration.feedForwardHasBias
    gate = try keys.gate.map { try linear($0, hidden, inner, bias: innerBias) }
    up = try linear(keys.up, hidden, inner, bias: innerBias)
    down = try linear(keys.down, inner, hidden, bias: innerBias)
  }

  /// Every linear layer, in the order of the computation.
  public var linears: [Linear] {
    var result: [Linear]
    switch projections {
    case .separate(let query, let key, let value): result = [query, key, value]
    case .fused(let linear): result = [linear]
    }
    result.append(attentionOutput)
    if let gate { result.append(gate) }
    return result + [up, down]
  }

  /// The weights of its norms.
  public var norms: [Parameter] { attentionNorm.parameters + feedForwardNorm.parameters }

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
  /// - Parameter positions: the layout with the positions that rows turn by, which begin behind a prefix.
  func callAsFunction(
    _ x: Activation, layout: SequenceLayout, positions: SequenceLayout, rotary: RotaryTable?,
    on tape: Tape, cache: KeyValueCache.Layer? = nil
  ) -> Activation {
    let normed = attentionNorm(x, on: tape)
    var (queries, keys, values) = project(normed, on: tape)
    if let rotary {
      queries = tape.rotary(queries, table: rotary, layout: positions)
      keys = tape.rotary(keys, table: rotary, layout: positions)
    }
    if let cache { (keys, values) = cache.append(keys: keys, values: values) }
    let attended = tape.attention(
      queries: queries, keys: keys, values: values, heads: sizes.heads,
      keyValueHeads: sizes.keyValueHeads,
      layout: cache.map { layout.shifted(by: $0.prefixLength) } ?? layout,
      prefix: cache == nil ? prefix?.weights : nil)
    let x = output(of: attentionOutput, attended, attentionAdapter, residual: x, on: tape)
    let inner = feedForwardNorm(x, on: tape)
    let raised = up(inner, on: tape)
    let active: Activation
    switch configuration.feedForward {
    case .swiGLU:
      guard let gate else { preconditionFailure("a SwiGLU layer has a gate") }
      active = tape.swiGLU(gate: gate(inner, on: tape), up: raised)
    case .gelu(let form):
      active = tape.gelu(raised, form: form)
    }
    return output(of: down, active, feedForwardAdapter, residual: x, on: tape)
  }

  /// A sublayer's last layer, its adapter where it has one, and what came into the sublayer.
  private func output(
    of layer: Linear, _ x: Activation, _ adapter: BottleneckAdapter?, residual: Activation,
    on tape: Tape
  ) -> Activation {
    guard let adapter else { return layer(x, on: tape, residual: residual) }
    return adapter(layer(x, on: tape), on: tape, residual: residual)
  }

  private func project(
    _ x: Activation, on tape: Tape
  ) -> (queries: Activation, keys: Activation, values: Activation) {
    switch projections {
    case .separate(let query, let key, let value):
      return (query(x, on: tape), key(x, on: tape), value(x, on: tape))
    case .fused(let linear):
      let all = linear(x, on: tape)
      let q = sizes.heads * configuration.headWidth
      let k = sizes.keyValueHeads * configuration.headWidth
      return (
        all.columns(0..<q), all.columns(q..<q + k), all.columns(q + k..<q + 2 * k)
      )
    }
  }
}

extension Normalization {
  static func make(
    _ configuration: TransformerConfiguration, _ name: String,
    _ parameter: (String, [Int], _ inputAxis: Int?) throws -> Parameter
  ) throws -> Normalization {
    let weight = try parameter("\(name).weight", [configuration.hiddenSize], nil)
    switch configuration.norm {
    case .rms(let epsilon): return Normalization(weight: weight, bias: nil, epsilon: epsilon)
    case .layer(let epsilon):
      return Normalization(
        weight: weight, bias: try parameter("\(name).bias", [configuration.hiddenSize], nil),
        epsilon: epsilon)
    }
  }
}
