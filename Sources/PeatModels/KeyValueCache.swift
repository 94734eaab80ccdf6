import PeatTensor

/// The keys and values of the tokens so far, so that generating the next token does not compute them again.
public final class KeyValueCache {
  /// One block's share.
  final class Layer {
    private let keys: Activation
    private let values: Activation
    private(set) var length = 0

    init(capacity: Int, width: Int, tape: Tape) {
      keys = tape.makeActivation(rows: capacity, columns: width, needsGradient: false)
      values = tape.makeActivation(rows: capacity, columns: width, needsGradient: false)
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
  }

  let layers: [Layer]

  /// - Parameters:
  ///   - capacity: longest sequence, in tokens.
  ///   - tape: whose memory is used; it outlives the cache.
  public init(_ configuration: TransformerConfiguration, capacity: Int, on tape: Tape) {
    layers = configuration.order.map { block in
      Layer(
        capacity: capacity,
        width: configuration.sizes(ofBlock: block).keyValueHeads * configuration.headWidth,
        tape: tape)
    }
  }

  /// How many tokens it holds.
  public var length: Int { layers.first?.length ?? 0 }
}
