import PeatTensor

/// A rule whose next adapter is a mean of what clients sent, in one way or another: updates stream, and a server optimizer can make a step from it.
package protocol MeanRule: AggregationStrategy {
  /// Whether its pairs are made of products.
  var makesProducts: Bool { get }

  /// Whether A and B of pairs are averaged, each by itself.
  var averagesPairs: Bool { get }

  /// The norm that an update's difference from the adapter is cut to; `nil`: none.
  var bound: Double? { get }

  /// The next adapter from what the round came to.
  func next(_ target: RoundTarget) throws -> NamedTensors
}

extension MeanRule {
  package var bound: Double? { nil }

  func makeSums(_ current: NamedTensors, _ round: AggregationRound) -> UpdateSums {
    var sums = UpdateSums(current, for: self, averagesPairs: averagesPairs, bound: bound)
    sums.makesProducts = makesProducts
    sums.scales = round.scales
    return sums
  }
}

/// What a round comes to, before a rule makes an adapter of it.
package struct RoundTarget {
  /// The adapter the round began with.
  package let current: NamedTensors
  /// The tensors that are averaged, the others as they were.
  package let means: NamedTensors
  /// A layer's product, made when it is asked for.
  package let product: (_ layer: String) throws -> FactorSum
}

/// Sums updates, then makes the next adapter by a rule.
struct SumAccumulator: UpdateAccumulator {
  private var sums: UpdateSums
  private let rule: any MeanRule

  init(_ sums: UpdateSums, rule: any MeanRule) {
    self.sums = sums
    self.rule = rule
  }

  mutating func add(_ update: ClientUpdate, scales: [String: Double]) throws {
    try sums.add(update, scales: scales)
  }

  mutating func add(server tensors: NamedTensors, share: Double) throws {
    try sums.add(server: tensors, share: share)
  }

  mutating func restore(_ whole: NamedTensors) throws { try sums.restore(whole) }

  mutating func next() throws -> NamedTensors { try rule.next(try sums.target()) }

  var state: StrategyState { sums.state }
  var notes: [String: Double] { sums.notes }

  func relativeError(of state: NamedTensors) throws -> Double {
    try sums.relativeError(of: state)
  }
}
