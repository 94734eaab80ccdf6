import PeatTensor

/// A rule of the mean and a server optimizer together: the rule says what the clients came to, the optimizer how the server goes there.
///
/// By rules that make a pair from products (`product`, `product-exact`, `fedex`) the step is taken of the products, in factors; only momentum can be. By the others
/// each value of A and B is stepped by itself.
public struct ServerOptimized: AggregationStrategy {
  public let name: String
  public let summary: String
  private let rule: any MeanRule
  private let optimizer: any ServerOptimizer
  private let rate: Double

  /// How many times the adapter's rank a product's momentum keeps.
  private static let rankFactor = 4

  /// - Parameters:
  ///   - name: where the pair has one of its own, such as `fedadam`.
  ///   - rate: η.
  /// - Throws: `usage` where the rule works on products and the optimizer on single values.
  package init(
    _ rule: any MeanRule, _ optimizer: any ServerOptimizer, rate: Double = 1,
    name: String? = nil, summary: String? = nil
  ) throws {
    guard !rule.makesProducts || optimizer.linearMomentum != nil else {
      throw PeatError.usage(
        "The strategy '\(rule.name)' works on LoRA's products, which are never written out, so '\(optimizer.name)', which scales each value by itself, has nothing to work on. "
          + "Take serverOptimizer momentum, or the strategy fedavg or ffa.")
    }
    self.rule = rule
    self.optimizer = optimizer
    self.rate = rate
    self.name = name ?? rule.name
    self.summary = summary ?? rule.summary
  }

  public var freezesDown: Bool { rule.freezesDown }
  public var keepsFactors: Bool { rule.keepsFactors }
  public var keepsRemainders: Bool { rule.keepsRemainders }
  public var takesMixedRanks: Bool { rule.takesMixedRanks }
  public var needsStart: Bool { true }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) throws -> any UpdateAccumulator {
    let rank = current.pairRanks.values.max() ?? 1
    var sums = rule.makeSums(current, round)
    sums.step = try ServerStep(
      optimizer, rate: rate * round.rateFactor, rank: Self.rankFactor * rank,
      ofProducts: rule.makesProducts, state: round.state)
    return SumAccumulator(sums, rule: rule)
  }
}
