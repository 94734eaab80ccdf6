import PeatTensor

/// How the next token is chosen.
public struct SamplingSettings: Sendable, Equatable {
  /// 0 takes the most likely token; else logits are divided by it before the softmax.
  public var temperature: Float
  /// Only this many most likely tokens are considered; `nil`: all.
  public var topTokens: Int?
  public var seed: UInt64

  public init(temperature: Float = 0, topTokens: Int? = nil, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topTokens = topTokens
    self.seed = seed
  }
}

/// Continues a text token by token, with cached keys and values.
///
/// Each product's outputs are divided among threads, each output computed whole by one of them: the text does not depend
/// on their number, to the last bit of the logits. They end with the generator.
public struct TextGenerator {
  private let model: TransformerModel
  private let settings: SamplingSettings
  private let tape = Tape()
  private let cache: KeyValueCache
  private var random: SeededRandom
  private var pending: [Int32]

  /// - Parameters:
  ///   - prompt: at least one token, fewer than the context length.
  ///   - capacity: longest sequence, prompt included; cut to the context length.
  ///   - threads: how many share the work on a token.
  public init(
    _ model: TransformerModel, prompt: [Int32], capacity: Int, settings: SamplingSettings,
    threads: Int = 1
  ) throws {
    try model.configuration.requireNextTokenHead(for: "Generating text")
    let context = model.contextLength
    guard !prompt.isEmpty else {
      throw PeatError.usage(
        "There is nothing to continue: the prompt is empty and the tokenizer has no begin token.")
    }
    guard prompt.count < context else {
      throw PeatError.badData(
        "The prompt has \(prompt.count) tokens; the model's context of \(context)\(model.besideVirtualTokens) leaves "
          + "no room for more."
      )
    }
    if let token = prompt.first(where: { $0 < 0 || $0 >= model.configuration.vocabularySize }) {
      throw PeatError.badData(
        "The tokenizer gives token \(token), the model knows \(model.configuration.vocabularySize). Check that "
          + "tokenizer.json and config.json come from the same checkpoint.")
    }
    // A prompt that is learned lies in the cache with the tokens.
    let sizes = model.configuration
    // What an encoder reads lies in no cache but as keys and values that a decoder looks at.
    sourceLength = sizes.hasEncoder ? prompt.count : 0
    room =
      max(min(capacity, context), prompt.count + 1) - sourceLength
      + (sizes.hasEncoder ? 0 : model.promptLength)
    try MemoryDemand.check(
      bytes: 8 * Double(room + sourceLength)
        * Double(sizes.depth * sizes.keyValueHeads * sizes.headWidth),
      for: "Remembering the keys and values of \(room) tokens",
      advice: "Ask for fewer tokens (--max-tokens).")
    self.model = model
    self.settings = settings
    pending = sizes.hasEncoder ? prompt + [sizes.decoderStart] : prompt
    random = SeededRandom(seed: settings.seed, "generation")
    cache = KeyValueCache(model, capacity: room, on: tape)
    tape.team = ThreadTeam(count: threads)
  }

  private let room: Int
  /// How many tokens an encoder reads.
  private let sourceLength: Int

  /// The next token; `nil` when the context is full.
  ///
  /// Throws where the model computes something else than numbers.
  public mutating func next() throws -> Int32? {
    let isFirst = cache.length == 0
    guard cache.length + pending.count - (isFirst ? sourceLength : 0) <= room else { return nil }
    let logits = pending.withUnsafeBufferPointer { tokens in
      let layout =
        sourceLength > 0 && isFirst
        ? SequenceLayout(lengths: [tokens.count], sources: [sourceLength])
        : SequenceLayout(lengths: [tokens.count], firstPosition: cache.length)
      let hidden = model.hiddenStates(tokens, layout: layout, on: tape, cache: cache)
      let last = hidden.rows(hidden.rows - 1..<hidden.rows)
      return model.head?.logits(last, on: tape) ?? last
    }
    guard logits.isFinite else {
      throw PeatError.badData(
        "The model computes NaN or infinity: its weights are damaged, or the adapter diverged.")
    }
    let token = choose(logits)
    pending = [token]
    return token
  }

  private mutating func choose(_ row: Activation) -> Int32 {
    guard settings.temperature > 0 else { return Int32(row.columnOfMaximum(row: 0)) }
    let logits = row.tensor().scalars
    let order = logits.indices.sorted { (logits[$0], $1) > (logits[$1], $0) }
    let candidates = order.prefix(max(1, settings.topTokens ?? logits.count))
    let top = logits[candidates[0]]
    let weights = candidates.map { exponential((logits[$0] - top) / settings.temperature) }
    var left = random.uniform() * weights.reduce(0, +)
    for (candidate, weight) in zip(candidates, weights) {
      left -= weight
      if left < 0 { return Int32(candidate) }
    }
    return Int32(candidates[0])
  }
}
