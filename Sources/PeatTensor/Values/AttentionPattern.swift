/// Which keys a query sees, and what becomes of its scores before the softmax.
public struct AttentionPattern: Sendable, Hashable {
  /// Whether a query sees only keys at or before its own position.
  public var isCausal: Bool
  /// How many keys a query sees at most, its own and those before it; `nil`: all.
  ///
  /// Source: Beltagy et al. 2020, <https://arxiv.org/abs/2004.05150>, section 3.1.
  public var window: Int?
  /// What products of queries and keys are multiplied with; `nil`: `1/√D`.
  public var scale: Float?
  /// c, where scores become `c · tanh(score / c)`.
  ///
  /// Source: Gemma Team 2024, <https://arxiv.org/abs/2408.00118>, section 2.
  public var softCap: Float?

  public init(
    isCausal: Bool = true, window: Int? = nil, scale: Float? = nil, softCap: Float? = nil
  ) {
    precondition(
      window.map { $0 > 0 && isCausal } ?? true, "a window looks back, at one key or more")
    precondition(scale.map { $0 > 0 } ?? true, "attention's scale must be positive")
    precondition(softCap.map { $0 > 0 } ?? true, "attention's soft cap must be positive")
    self.isCausal = isCausal
    self.window = window
    self.scale = scale
    self.softCap = softCap
  }

  /// Each query sees the keys at or before it.
  public static let causal = AttentionPattern()
  /// Each query sees all keys of its sequence.
  public static let bidirectional = AttentionPattern(isCausal: false)
}
