/// Rows of tokens and, for each place, the token that is to be predicted there.
///
/// `B` rows, `T` context (the longest row of this batch; shorter rows are filled up at their end).
public struct TokenBatch: Sendable, Equatable {
  /// Stands in `targets` where there is nothing to learn.
  public static let ignored: Int32 = -1

  /// `[B, T]`, row after row; 0 where a row is filled up.
  public let tokens: [Int32]
  /// `[B, T]`: the token after each of `tokens`, or `ignored`.
  public let targets: [Int32]
  public let rows: Int
  public let context: Int
  /// How many targets are not ignored: what a sum of losses is divided by.
  public let targetCount: Int

  /// - Precondition: both arrays hold `rows × context` numbers.
  public init(tokens: [Int32], targets: [Int32], rows: Int, context: Int) {
    precondition(
      tokens.count == rows * context && targets.count == rows * context,
      "TokenBatch: \(tokens.count) tokens and \(targets.count) targets for [\(rows), \(context)]")
    self.tokens = tokens
    self.targets = targets
    self.rows = rows
    self.context = context
    self.targetCount = targets.count { $0 != Self.ignored }
  }

  /// Some of the rows, as when a batch is divided among workers.
  ///
  /// - Precondition: the rows are rows of this batch.
  public func slice(rows range: Range<Int>) -> TokenBatch {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= rows,
      "TokenBatch: rows \(range) of \(rows)")
    let places = range.lowerBound * context..<range.upperBound * context
    return TokenBatch(
      tokens: Array(tokens[places]), targets: Array(targets[places]), rows: range.count,
      context: context)
  }
}
