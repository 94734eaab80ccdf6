/// What multiplies the product B · A of each low-rank pair: s = α / r, or α / √r, with the α and r of its layer.
///
/// One value for all who need it: training, folders, updates and aggregation. Layers are named without PEFT's prefix.
///
/// Sources: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>; √r: Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>.
package struct LowRankScales: Sendable, Equatable {
  /// r and α where no pattern says another.
  package var rank: Int
  package var alpha: Double
  /// Whether α is divided by √r.
  package var isRankStabilized: Bool
  /// α of single layers; see `LayerPattern`.
  package var alphaPattern: [String: Double]
  /// r of single layers.
  package var rankPattern: [String: Int]

  package init(
    rank: Int, alpha: Double, isRankStabilized: Bool = false, alphaPattern: [String: Double] = [:],
    rankPattern: [String: Int] = [:]
  ) {
    self.rank = rank
    self.alpha = alpha
    self.isRankStabilized = isRankStabilized
    self.alphaPattern = alphaPattern
    self.rankPattern = rankPattern
  }

  /// Throws `usage` where a value makes no sense.
  package func validate() throws {
    for rank in [rank] + rankPattern.values.sorted() {
      guard rank > 0, rank <= 1 << 16 else {
        throw PeatError.usage(
          "A LoRA rank of \(rank) makes no sense; it is at least 1, often 8, and at most 65536.")
      }
    }
    guard alpha > 0, alpha <= 1e6 else {
      throw PeatError.usage(
        "A LoRA alpha of \(alpha) makes no sense; it is above 0 and at most 1e6, often twice the rank."
      )
    }
    for (pattern, alpha) in alphaPattern.sorted(by: { $0.key < $1.key }) {
      guard alpha > 0, alpha <= 1e6 else {
        throw PeatError.usage(
          "The LoRA alpha of \(alpha) for '\(pattern)' makes no sense; it is above 0 and at most 1e6."
        )
      }
      try LayerPattern.check(pattern, of: "alpha_pattern")
    }
    for pattern in rankPattern.keys.sorted() {
      try LayerPattern.check(pattern, of: "rank_pattern")
    }
  }

  // MARK: Of one layer

  package func alpha(forLayer name: String) -> Double {
    LayerPattern.value(in: alphaPattern, forLayer: name) ?? alpha
  }

  package func rank(forLayer name: String) -> Int {
    LayerPattern.value(in: rankPattern, forLayer: name) ?? rank
  }

  /// s of a pair, whose own rank may differ from what is stated.
  package func scale(forLayer name: String, rank: Int) -> Double {
    alpha(forLayer: name) / divisor(rank)
  }

  private func divisor(_ rank: Int) -> Double {
    isRankStabilized ? Double(rank).squareRoot() : Double(rank)
  }

  // MARK: Of an adapter's pairs

  /// s of each pair of an adapter, by the names of its layers there.
  package func scales(of adapter: NamedTensors) -> [String: Double] {
    Dictionary(
      uniqueKeysWithValues: adapter.pairRanks.map { layer, rank in
        (layer, scale(forLayer: LowRankNames.inModel(layer), rank: rank))
      })
  }

  /// The same for the pairs of an adapter, in patterns of whole names alone.
  package func resolved(for adapter: NamedTensors) -> LowRankScales {
    fitted(to: rank, adapter, from: adapter)
  }

  /// The same scales for an adapter whose pairs have other ranks: their α follows.
  ///
  /// - Parameters:
  ///   - rank: r where nothing else is said.
  ///   - old: the pairs that these scales are of.
  package func fitted(
    to rank: Int, _ adapter: NamedTensors, from old: NamedTensors
  ) -> LowRankScales {
    func grown(_ alpha: Double, _ before: Int, _ after: Int) -> Double {
      before == after ? alpha : alpha * (divisor(after) / divisor(before))
    }
    var result = LowRankScales(
      rank: rank, alpha: grown(alpha, self.rank, rank), isRankStabilized: isRankStabilized)
    let ranks = old.pairRanks
    for (layer, after) in adapter.pairRanks {
      let name = LowRankNames.inModel(layer)
      let alpha = grown(alpha(forLayer: name), ranks[layer] ?? after, after)
      if alpha != result.alpha { result.alphaPattern[name] = alpha }
      if after != rank { result.rankPattern[name] = after }
    }
    return result
  }
}

extension NamedTensors {
  /// The rank of each low-rank pair by its layer: rows of A, or columns of B where A is not among the tensors.
  package var pairRanks: [String: Int] {
    var result: [String: Int] = [:]
    for (name, tensor) in self {
      if let layer = LowRankNames.layer(ofDown: name), let rank = tensor.shape.first {
        result[layer] = rank
      } else if let layer = LowRankNames.layer(ofUp: name), self[layer + LowRankNames.down] == nil,
        let rank = tensor.shape.last
      {
        result[layer] = rank
      }
    }
    return result
  }

  /// Throws where a low-rank pair lacks a matrix, or its two do not fit each other.
  package func checkPairs() throws {
    for (first, second) in [
      (LowRankNames.down, LowRankNames.up), (LowRankNames.remainderDown, LowRankNames.remainderUp),
    ] {
      let layers = Set(
        keys.compactMap { name in
          [first, second].first { name.hasSuffix($0) }.map { String(name.dropLast($0.count)) }
        })
      for layer in layers.sorted() {
        guard let down = self[layer + first], let up = self[layer + second] else {
          let (own, other) = self[layer + first] == nil ? (second, first) : (first, second)
          throw PeatError.badData(
            "There is '\(layer + own)' but no '\(layer + other)', without which the pair has no meaning."
          )
        }
        guard down.shape.count == 2, up.shape.count == 2, down.shape[0] == up.shape[1],
          !down.shape.contains(0), !up.shape.contains(0)
        else {
          throw PeatError.badData(
            "The pair of '\(layer)' does not fit together: A is \(down.shape) and B \(up.shape); they are [r, inputs] and "
              + "[outputs, r], none of them 0.")
        }
      }
    }
  }
}
