import PeatTensor

/// Learned keys and values of one attention, which stand in front of those of every sequence.
///
/// Source: Li and Liang 2021, <https://arxiv.org/abs/2101.00190>.
public final class KeyValuePrefix: Sendable {
  /// `[P, key width]`.
  public let keys: Parameter
  /// `[P, key width]`.
  public let values: Parameter

  public init(keys: Parameter, values: Parameter) {
    precondition(
      keys.shape.count == 2 && keys.shape == values.shape,
      "KeyValuePrefix: keys \(keys.shape), values \(values.shape)")
    self.keys = keys
    self.values = values
  }

  /// P: how many keys there are.
  public var count: Int { keys.shape[0] }
  public var parameters: [Parameter] { [keys, values] }

  package var weights: KeyValuePrefixWeights {
    KeyValuePrefixWeights(keys: keys.weight, values: values.weight)
  }
}
