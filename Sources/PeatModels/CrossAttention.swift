import PeatNN
import PeatTensor

/// What an encoder says of the sources of some sequences: its last states, `[S, d]`, and how they divide.
struct EncoderMemory {
  let states: Activation
  let layout: SequenceLayout
}

/// The part of a decoder's block that looks at what an encoder says: `x + attention(norm(x), memory)`.
struct CrossAttention: Sendable {
  let norm: Normalization
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  let heads: Int
  let keyValueHeads: Int
  private let pattern: AttentionPattern

  init(
    norm: Normalization, query: Linear, key: Linear, value: Linear, output: Linear, heads: Int,
    keyValueHeads: Int, pattern: AttentionPattern
  ) {
    self.norm = norm
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.pattern = AttentionPattern(isCausal: false, scale: pattern.scale)
  }

  var linears: [Linear] { [query, key, value, output] }

  /// `[N, d]` → `[N, d]`; with a cache, keys and values of the memory are computed once and kept there.
  func callAsFunction(
    _ x: Activation, layout: SequenceLayout, memory: EncoderMemory?, on tape: Tape,
    cache: KeyValueCache.Layer?
  ) -> Activation {
    let seen: KeyValueCache.Memory
    if let kept = cache?.memory {
      seen = kept
    } else {
      guard let memory else { preconditionFailure("a decoder's block needs what an encoder says") }
      seen = KeyValueCache.Memory(
        keys: key(memory.states, on: tape), values: value(memory.states, on: tape),
        layout: memory.layout)
      cache?.memory = seen
    }
    let attended = tape.attention(
      queries: query(norm(x, on: tape), on: tape), keys: seen.keys, values: seen.values,
      heads: heads, keyValueHeads: keyValueHeads, layout: layout, pattern: pattern,
      keyLayout: seen.layout)
    return output(attended, on: tape, residual: x)
  }
}
