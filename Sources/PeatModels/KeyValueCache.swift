import PeatNN
import PeatTensor

/// The keys and values of the tokens so far, so that generating the next token does not compute them again.
///
/// Where a block has learned ones in front of them, it begins with those.
public final class KeyValueCache {
  /// Keys and values of what an encoder says.
  struct Memory {
    let keys: Activation
    let values: Activation
    let layout: SequenceLayout
  }

  /// One block's share.
  final class Layer {
    private let keys: Activation
    private let values: Activation
    /// Rows that are learned and stand in front.
    let prefixLength: Int
    private(set) var length: Int
    /// Of a decoder's block, once it has looked at the encoder.
    var memory: Memory?

    init(capacity: Int, width: Int, prefix: KeyValuePrefix?, tape: Tape) {
      prefixLength = prefix?.count ?? 0
      length = prefixLength
      let rows = capacity + prefixLength
      keys = tape.makeActivation(rows: rows, columns: width, needsGradient: false)
      values = tape.makeActivation(rows: rows, columns: width, needsGradient: false)
      if let prefix {
        tape.input(prefix.keys.tensor).copyRows(to: keys, at: 0)
        tape.input(prefix.values.tensor).copyRows(to: values, at: 0)
      }
    }

    /// Adds the rows of new tokens and returns all rows so far.
    func append(keys newKeys: Activation, values newValues: Activation) -> (Activation, Activation)
    {
      precondition(
        length + newKeys.rows <= keys.rows, "KeyValueCache: more than \(keys.rows) tokens")
      newKeys.copyRows(to: keys, at: length)
      newValues.copyRows(to: values, at: length)
      length += newKeys.rows
      return (keys.rows(0..<length), values.rows(0..<length))
    }

    /// The last rows, copied.
    func tensors(ofLast count: Int) -> (keys: Tensor, values: Tensor) {
      let rows = length - count..<length
      return (keys.rows(rows).tensor(), values.rows(rows).tensor())
    }
  }

  let layers: [Layer]

  /// - Parameters:
  ///   - model: with its adapter, which must stay while the cache is used.
  ///   - capacity: longest sequence, in tokens, with those of a prompt that is learned.
  ///   - tape: whose memory is used; it outlives the cache.
  public init(_ model: TransformerModel, capacity: Int, on tape: Tape) {
    let configuration = model.configuration
    layers = configuration.order.map { block in
      Layer(
        // An encoder reads its source once.
        capacity: configuration.hasEncoder && !configuration.keys.isInDecoder(block) ? 0 : capacity,
        width: configuration.sizes(ofBlock: block).keyValueHeads * configuration.headWidth,
        prefix: model.blocks[block].prefix, tape: tape)
    }
  }

  /// How many tokens it holds, with those of a prompt that is learned.
  ///
  /// Of a model with an encoder those of the decoder.
  public var length: Int { layers.last.map { $0.length - $0.prefixLength } ?? 0 }
}

extension TransformerModel {
  /// The keys and values that stored blocks compute of a sequence, `[tokens, key width]` each, by the block's number; where a block is run more than once, the
  /// first time. Rotary positions have turned the keys.
  ///
  /// Behind an encoder only the decoder's blocks have some: those of the same sequence once more, behind it as the source.
  package func keysAndValues(of tokens: [Int32]) -> [Int: (keys: Tensor, values: Tensor)] {
    let tape = Tape()
    let cache = KeyValueCache(self, capacity: tokens.count + promptLength, on: tape)
    let copies = configuration.hasEncoder ? tokens + tokens : tokens
    copies.withUnsafeBufferPointer {
      _ = hiddenStates(
        $0, layout: layout(rows: copies.count, length: copies.count, sourceLength: tokens.count),
        on: tape, cache: cache)
    }
    var result: [Int: (keys: Tensor, values: Tensor)] = [:]
    for block in blocks.indices where configuration.keys.takesPrefix(block) {
      guard let place = order.firstIndex(of: block) else { continue }
      result[block] = cache.layers[place].tensors(ofLast: tokens.count)
    }
    return result
  }

  /// The rows of the embedding, `[tokens, d]`, as they go into the model, without positions.
  package func embeddings(of tokens: [Int32]) -> Tensor {
    tokens.withUnsafeBufferPointer {
      Tape().embedding(
        $0, layout: SequenceLayout(lengths: [tokens.count]), table: embedding.weight,
        scale: configuration.embeddingScale
      ).tensor()
    }
  }
}
