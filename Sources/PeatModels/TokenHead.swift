import PeatNN
import PeatTensor

/// The layer that says how probable each token is.
public struct TokenHead: Sendable {
  /// `[V, d]`: the embedding itself where the two are tied.
  public let table: Parameter
  /// c, where logits become `c · tanh(logit / c)`.
  public let softCap: Float?

  /// Logits of rows of final hidden states, `[N, d]` → `[N, V]`, without gradients: for few rows.
  package func callAsFunction(_ states: Activation, on tape: Tape) -> Activation {
    let logits = tape.linear(states, weight: table.weight)
    return softCap.map { tape.capped(logits, by: $0) } ?? logits
  }
}
