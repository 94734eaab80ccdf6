import PeatTensor

extension Adapter {
  /// The same adapter with each layer's pair and remainder as one pair of the rank that both need together: what other programs can read.
  ///
  /// α of such a layer is chosen so that its scale, α / r or α / √r, stays.
  public func mergingRemainders() throws -> Adapter {
    guard case .lora(var configuration) = method, !state.remainders.isEmpty else { return self }
    var result = state.withoutRemainders
    for key in state.lowRankLayers {
      guard let pair = state.pair(of: key), let remainder = state.remainder(of: key) else {
        continue
      }
      var sum = FactorSum(rows: pair.up.shape[0], columns: pair.down.shape[1])
      try sum.add(1, pair)
      try sum.add(1, remainder)
      let parts = try sum.singularValues()
      let rank = max(parts.rank(tolerance: 1e-8), 1)
      result.setPair(parts.factors(0..<rank) { $0.squareRoot() }, of: key)
    }
    configuration.scales = configuration.scales.fitted(
      to: result.pairRanks.values.max() ?? configuration.rank, result, from: state)
    return Adapter(method: .lora(configuration), state: result, sourceDigest: sourceDigest)
  }
}
