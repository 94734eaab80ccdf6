import PeatModels
import PeatNN
import PeatTensor

/// Prefix tuning: in front of each sequence's keys and values, P learned ones in each block.
///
/// Tensors are `BLOCK.attention_prefix.keys` and `BLOCK.attention_prefix.values`, `[P, key/value heads · head width]` each. Keys are
/// what attention sees: rotary positions do not turn them. The sequence's own positions begin at P, in all blocks. There is no
/// network that makes the prefix while it is tuned: what PEFT saves of one is the same table.
///
/// Of a model with an encoder the decoder's blocks have prefixes, in their self-attention, as PEFT has it; relative positions count the distance
/// to the place in front of the sequence.
///
/// Source: Li and Liang 2021, <https://arxiv.org/abs/2101.00190>.
public struct PrefixTuning: TuningMethod {
  public static let name = "prefix-tuning"
  /// PEFT's name of the one tensor.
  static let tableName = "prompt_embeddings"
  static let keysSuffix = ".attention_prefix.keys"
  static let valuesSuffix = ".attention_prefix.values"

  public let configuration: VirtualTokenConfiguration

  public init(_ configuration: VirtualTokenConfiguration) { self.configuration = configuration }

  /// The keys and values that the model computes of P tokens: with those of all blocks it starts as if it had read them. Normal
  /// numbers where the configuration wants that.
  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    let count = configuration.virtualTokens
    try model.checkRoom(forVirtualTokens: count)
    let places = blocks.compactMap { lookup.block($0) }
      .filter { model.configuration.keys.takesPrefix($0.local) }
    guard !places.isEmpty else { throw Self.noDecoder(blocks, model) }
    let width = places.reduce(0) { $0 + Self.width($1.block, model) }
    // Values, their copies in training, gradient and two moments.
    try MemoryDemand.check(
      bytes: 24 * 2 * Double(count) * Double(width), for: "A prefix of \(count) virtual tokens",
      advice: "Use fewer virtual tokens.")
    let tokens = try configuration.start.tokens(
      count, vocabularySize: model.configuration.vocabularySize, using: &random)
    let computed = tokens.map { model.keysAndValues(of: $0) }
    var state: NamedTensors = [:]
    for (block, local) in places {
      let name = block.nameInFullModel
      if let (keys, values) = computed?[local] {
        state[name + Self.keysSuffix] = keys
        state[name + Self.valuesSuffix] = values
      } else {
        for suffix in [Self.keysSuffix, Self.valuesSuffix] {
          state[name + suffix] = .normal(
            [count, Self.width(block, model)], deviation: 1, using: &random)
        }
      }
    }
    return state
  }

  /// What is said where all of the blocks that are to be tuned are an encoder's.
  private static func noDecoder(_ blocks: [Int], _ model: TransformerModel) -> PeatError {
    .usage(
      "prefix-tuning puts keys and values in front of those of a decoder's blocks; of the blocks that are to be tuned ("
        + blocks.sorted().map(String.init).joined(separator: ", ")
        + ") none is one of them, as this model's decoder begins with block \(model.configuration.keys.inFullModel.encoderBlocks). Tune blocks at the top, too, or use another method."
    )
  }

  static func width(_ block: TransformerBlock, _ model: TransformerModel) -> Int {
    block.sizes.keyValueHeads * model.configuration.headWidth
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    let found = try prefixes(in: state, for: model)
    for (_, block, prefix) in found { block.prefix = prefix }
    return InjectedAdapter(
      parameters: found.flatMap { name, _, prefix in
        [(name + Self.keysSuffix, prefix.keys), (name + Self.valuesSuffix, prefix.values)]
      },
      undo: { for (_, block, _) in found { block.prefix = nil } })
  }

  /// The blocks that a state belongs to, each with its prefix.
  private func prefixes(
    in state: NamedTensors, for model: TransformerModel
  ) throws -> [(name: String, block: TransformerBlock, prefix: KeyValuePrefix)] {
    let lookup = BlockLookup(model)
    let count = configuration.virtualTokens
    var result: [(String, TransformerBlock, KeyValuePrefix)] = []
    for (key, keys) in state.sorted(by: { $0.key < $1.key }) {
      if key.hasSuffix(Self.valuesSuffix),
        state[String(key.dropLast(Self.valuesSuffix.count)) + Self.keysSuffix] != nil
      {
        continue
      }
      guard key.hasSuffix(Self.keysSuffix) else {
        throw PeatError.badData(
          "The adapter has '\(key)', which is not part of a prefix, or without its keys.")
      }
      let name = String(key.dropLast(Self.keysSuffix.count))
      guard let (block, _) = lookup.resolve(key[...]),
        name == block.nameInFullModel
      else {
        throw PeatError.badData(
          "The adapter has '\(key)', for which this model has no block. It has the blocks "
            + model.blocks.map { String($0.numberInFullModel) }.joined(separator: ", ") + ".")
      }
      guard model.configuration.keys.inFullModel.takesPrefix(block.numberInFullModel) else {
        throw PeatError.badData(
          "The adapter has '\(key)', a prefix of an encoder's block; only a decoder's have one.")
      }
      guard let values = state[name + Self.valuesSuffix] else {
        throw PeatError.badData("The adapter has '\(key)' but no '\(name)\(Self.valuesSuffix)'.")
      }
      let width = Self.width(block, model)
      guard keys.shape == [count, width], values.shape == [count, width] else {
        throw PeatError.badData(
          "The adapter's '\(name)' has keys \(keys.shape) and values \(values.shape); \(count) virtual tokens of this "
            + "model are [\(count), \(width)]. Was it tuned for another model?")
      }
      guard block.prefix == nil else {
        throw PeatError.badData("The block '\(name)' already carries an adapter; remove it first.")
      }
      result.append(
        (
          name, block,
          KeyValuePrefix(
            keys: Parameter(key, keys.copied()),
            values: Parameter(name + Self.valuesSuffix, values.copied()))
        ))
    }
    guard !result.isEmpty else { throw PeatError.badData("The adapter is empty.") }
    try model.checkRoom(forVirtualTokens: count)
    return result
  }
}
