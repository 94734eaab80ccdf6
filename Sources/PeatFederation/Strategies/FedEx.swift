import PeatTensor

/// FedEx-LoRA: the means of A and of B, and beside them what those lack of the mean of the products, `Σ wₖ·Bₖ·Aₖ − B̄·Ā`, as a remainder.
///
/// In the paper the remainder is added to the model's own weights. Here it travels as a second pair of factors of the rank that it needs, so that the
/// model's weights, and with them its digest, stay what they are; whoever plugs the adapter in adds both.
///
/// Source: Singhal, Ponkshe and Vepakomma 2024, <https://arxiv.org/abs/2410.09432>.
public struct FedEx: AggregationStrategy, MeanRule {
  public init() {}

  public var name: String { "fedex" }
  public var summary: String {
    "means of LoRA's A and B, and what they lack of the mean product as a remainder; exact"
  }

  public var keepsRemainders: Bool { true }
  package var makesProducts: Bool { true }
  package var averagesPairs: Bool { true }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) -> any UpdateAccumulator {
    SumAccumulator(makeSums(current, round), rule: self)
  }

  package func next(_ target: RoundTarget) throws -> NamedTensors {
    var next = target.means.withoutRemainders
    for layer in next.lowRankLayers {
      guard let means = next.pair(of: layer) else { continue }
      var rest = try target.product(layer)
      let least = Remainder.leastValue(beside: rest)
      try rest.add(-1, means)
      Remainder.write(try rest.singularValues(), from: 0, above: least, of: layer, to: &next)
    }
    return next
  }
}

/// Writes a layer's second pair.
enum Remainder {
  /// Singular values below are rounding of the factors, which are float32.
  static func leastValue(beside product: FactorSum) -> Double { 1e-7 * product.norm }

  /// - Parameter first: the first component that belongs to it.
  static func write(
    _ parts: FactorSum.SingularValues, from first: Int, above least: Double, of layer: String,
    to state: inout NamedTensors
  ) {
    let end = parts.values.prefix { $0 > least }.count
    guard first < end else { return }
    state.setRemainder(parts.factors(first..<end) { $0.squareRoot() }, of: layer)
  }
}
