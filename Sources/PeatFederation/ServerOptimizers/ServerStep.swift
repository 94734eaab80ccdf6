import PeatTensor

/// One step of a server optimizer, from what a round's updates came to.
///
/// Single values are stepped each by itself. The product of a low-rank pair is stepped in factors where the optimizer is linear: `M ← β·M + (P̄ − P)`, next
/// `P + η·M`, where P is B · A and the remainder's product. M is kept as two factors of `rank` components at most, the largest; what that leaves away is
/// told by `cut`.
struct ServerStep {
  let optimizer: any ServerOptimizer
  /// η, the round's factor included.
  let rate: Double
  /// The most components that the momentum of a product keeps.
  let rank: Int
  private(set) var state: StrategyState
  private var (lost, all) = (0.0, 0.0)

  private static let first = "first."
  private static let second = "second."
  /// Before a layer's name; its pair's own tensors may have moments of their own.
  private static let product = "product."

  /// - Parameter ofProducts: whether it steps the products of low-rank pairs, not their values.
  /// - Throws: `badData` where the state is of another optimizer, or of one that stepped otherwise.
  init(
    _ optimizer: any ServerOptimizer, rate: Double, rank: Int, ofProducts: Bool,
    state: StrategyState
  ) throws {
    try state.check(isOf: optimizer.name)
    // Where products are stepped pairs may have moments of their own beside them.
    let products = state.tensors.keys.contains { $0.hasPrefix(Self.product) }
    let pairs = state.tensors.keys.contains { LowRankNames.layer(ofDown: $0) != nil }
    guard ofProducts ? products || !pairs : !products else {
      throw PeatError.badData(
        "The state is of '\(optimizer.name)' on \(ofProducts ? "the values of A and B, as by fedavg" : "products, as by product, product-exact and fedex"); this strategy steps \(ofProducts ? "products" : "values"). Go on with the strategy that it is of, or begin with a new state."
      )
    }
    self.optimizer = optimizer
    self.rate = rate
    self.rank = rank
    self.state = state
    self.state.owner = optimizer.name
    self.state.rounds += 1
  }

  /// ‖left away‖ / ‖M‖ of the products' momentum in this step, over all layers.
  var cut: Double { all > 0 ? (lost / all).squareRoot() : 0 }

  /// What is to be added to a tensor whose values changed by `change`.
  mutating func move(_ name: String, by change: [Double], shape: [Int]) throws -> [Double] {
    let (firstName, secondName) = (Self.first + name, Self.second + name)
    let old = (state.tensors[firstName], state.tensors[secondName])
    for tensor in [old.0, old.1] {
      guard tensor == nil || tensor?.shape == shape else {
        throw PeatError.badData(
          "The strategy's state has '\(name)' with the shape \(tensor?.shape ?? []), the adapter \(shape). It is of another adapter."
        )
      }
    }
    var first = old.0?.scalars ?? [Float](repeating: 0, count: change.count)
    var second =
      old.1?.scalars ?? [Float](repeating: Float(optimizer.secondAtFirst), count: change.count)
    var moves = [Double](repeating: 0, count: change.count)
    for place in change.indices {
      var (m, v) = (Double(first[place]), Double(second[place]))
      moves[place] = rate * optimizer.direction(change[place], first: &m, second: &v)
      (first[place], second[place]) = (Float(m), Float(v))
    }
    guard moves.allSatisfy(\.isFinite) else {
      throw PeatError.badData(
        "The server's step on '\(name)' is not finite. Take a smaller serverLearningRate.")
    }
    if optimizer.linearMomentum == nil {
      state.tensors[firstName] = Tensor(first, shape: shape)
      state.tensors[secondName] = Tensor(second, shape: shape)
    } else if optimizer.linearMomentum != 0 {
      state.tensors[firstName] = Tensor(first, shape: shape)
    }
    return moves
  }

  /// What is to be added to a layer's product that changed by `change`.
  mutating func move(_ layer: String, by change: FactorSum) throws -> FactorSum {
    guard let momentum = optimizer.linearMomentum else {
      preconditionFailure("ServerStep: '\(optimizer.name)' has no step of products")
    }
    var moves = change
    if momentum != 0 {
      let key = Self.product + layer
      if let old = state.tensors.pair(of: key) {
        guard old.down.shape.last == change.columns, old.up.shape == [change.rows, old.rank] else {
          throw PeatError.badData(
            "The strategy's state has a pair of '\(layer)' that does not fit the adapter's. It is of another adapter."
          )
        }
        try moves.add(momentum, old)
      }
      let parts = try moves.singularValues()
      let squares = parts.values.map { $0 * $0 }
      let kept = min(rank, parts.rank(tolerance: 1e-7))
      lost += squares.dropFirst(kept).reduce(0, +)
      all += squares.reduce(0, +)
      moves = FactorSum(rows: change.rows, columns: change.columns)
      state.tensors[key + LowRankNames.down] = nil
      state.tensors[key + LowRankNames.up] = nil
      if kept > 0 {
        let pair = parts.factors(0..<kept) { $0.squareRoot() }
        state.tensors.setPair(pair, of: key)
        try moves.add(1, pair)
      }
    }
    moves.scale(by: rate)
    return moves
  }
}
