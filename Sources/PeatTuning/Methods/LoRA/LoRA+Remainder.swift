import PeatTensor

extension Adapter {
  /// The same adapter with each layer's pair and remainder as one pair of the rank that both need together: what other programs can read.
  ///
  /// α of such a layer is chosen so that its scale, α / r or α / √r, stays.
  public func mergingRemainders() throws -> Adapter {
    guard case .lora(var configuration) = method, !state.remainders.isEmpty else { return self }
    var result = state.withoutRemainders
    var alphas: [String: Double] = [:]
    for key in state.lowRankLayers {
      guard let down = state[key + LowRankNames.down], let up = state[key + LowRankNames.up]
      else { continue }
      let layer = String(key.dropFirst(LoRA.prefix.count))
      let alpha = configuration.alpha(forLayer: layer)
      if alpha != configuration.alpha { alphas[layer] = alpha }
      guard let restDown = state[key + LowRankNames.remainderDown],
        let restUp = state[key + LowRankNames.remainderUp]
      else { continue }
      var sum = FactorSum(rows: up.shape[0], columns: down.shape[1])
      try sum.add(1, up, down)
      try sum.add(1, restUp, restDown)
      let parts = try sum.singularValues()
      let rank = max(parts.rank(tolerance: 1e-8), 1)
      let (first, second) = parts.factors(0..<rank) { $0.squareRoot() }
      result[key + LowRankNames.up] = first
      result[key + LowRankNames.down] = second
      let growth = Double(rank) / Double(down.shape[0])
      alphas[layer] =
        alpha * (configuration.usesRankStabilizedScale ? growth.squareRoot() : growth)
    }
    configuration.alphaPattern = alphas
    return Adapter(method: .lora(configuration), state: result, sourceDigest: sourceDigest)
  }
}
