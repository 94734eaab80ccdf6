import PeatTensor

/// The updates of a round, summed in float64 as they come: weighted values by name, and for each low-rank pair the weighted product B · A in
/// factors.
struct UpdateSums {
  /// The adapter the round began with.
  let current: NamedTensors
  /// What updates hold.
  private let trained: NamedTensors
  /// Names of tensors outside of low-rank pairs, which are averaged.
  private let others: [String]
  /// Those with a low-rank pair.
  private let layers: [String]
  private let averagesPairs: Bool
  private let takesMixedRanks: Bool
  private var sums: [String: [Double]]
  private var products: [String: FactorSum] = [:]
  private var weight = 0.0
  /// What was to be sent, where clients got something else.
  private var whole: NamedTensors?

  /// - Parameters:
  ///   - strategy: says what of the adapter updates hold.
  ///   - averagesPairs: whether the matrices of low-rank pairs are averaged, too, each by itself.
  init(_ current: NamedTensors, for strategy: some AggregationStrategy, averagesPairs: Bool) {
    self.current = current
    trained = strategy.trained(of: current)
    self.averagesPairs = averagesPairs
    takesMixedRanks = strategy.takesMixedRanks
    layers = current.lowRankLayers
    let pairs = Set(layers.flatMap { [$0 + LowRankNames.down, $0 + LowRankNames.up] })
    others = trained.keys.filter { !pairs.contains($0) }.sorted()
    sums = trained.filter { averagesPairs || !pairs.contains($0.key) }.mapValues {
      Array(repeating: 0, count: $0.count)
    }
    for layer in layers {
      guard let pair = current.pair(of: layer) else { continue }
      products[layer] = FactorSum(
        rows: pair.up.shape.first ?? 0, columns: pair.down.shape.last ?? 0)
    }
  }

  // MARK: Taking updates

  mutating func add(_ update: ClientUpdate, scales: [String: Double]) throws {
    guard update.exampleCount > 0 else {
      throw PeatError.badData(
        "Updates are weighted by examples: that of '\(update.client)' has \(update.exampleCount).")
    }
    try check(update.tensors, "The update of '\(update.client)'")
    try add(update.tensors, weight: Double(update.exampleCount), scales)
  }

  mutating func add(server tensors: NamedTensors, share: Double) throws {
    precondition(share >= 0 && share < 1, "the server's share \(share) lies outside of 0..<1")
    if share == 0 { return }
    guard weight > 0 else { throw Self.nothing }
    let own = tensors.filter { trained[$0.key] != nil }
    try check(own, "The server's adapter")
    if let name = own.firstNotFinite {
      throw PeatError.badData(
        "The server's adapter holds a value that is not finite in '\(name)'. Check its learning rate and data."
      )
    }
    try add(own, weight: weight * share / (1 - share), [:])
  }

  private mutating func add(
    _ tensors: NamedTensors, weight share: Double, _ scales: [String: Double]
  ) throws {
    for name in others {
      if let tensor = tensors[name] { add(tensor, to: name, width: tensor.count, share) }
    }
    for layer in layers {
      // Where A does not train updates leave it out.
      guard let up = tensors[layer + LowRankNames.up],
        let down = tensors[layer + LowRankNames.down] ?? current[layer + LowRankNames.down]
      else { continue }
      let scale = scales[layer] ?? 1
      try products[layer]?.add(share * scale, up, down)
      guard averagesPairs else { continue }
      // Of a smaller rank, what it lacks counts as zero; of a larger, what is beyond the adapter's is left out.
      add(down, to: layer + LowRankNames.down, width: down.shape[1], share)
      add(up, to: layer + LowRankNames.up, width: up.shape[1], share * scale)
    }
    weight += share
  }

  /// Adds the rows of a tensor, `width` wide, as far as those of the sum reach.
  private mutating func add(_ tensor: Tensor, to name: String, width: Int, _ share: Double) {
    guard let place = sums.index(forKey: name), let shape = trained[name]?.shape, width > 0 else {
      return
    }
    let own = LowRankNames.layer(ofUp: name) == nil ? width : shape[1]
    tensor.withUnsafeBufferPointer { source in
      sums.values[place].withUnsafeMutableBufferPointer { target in
        for row in 0..<min(source.count / width, target.count / own) {
          for column in 0..<min(width, own) {
            target[row * own + column] += share * Double(source[row * width + column])
          }
        }
      }
    }
  }

  private func check(_ tensors: NamedTensors, _ what: String) throws {
    if let missing = trained.keys.filter({ tensors[$0] == nil }).min() {
      throw PeatError.badData(
        "\(what) lacks '\(missing)', which the adapter has. Aggregate updates of one and the same adapter."
      )
    }
    if let stranger = tensors.keys.filter({ trained[$0] == nil }).min() {
      throw PeatError.badData(
        "\(what) has '\(stranger)', which does not train in this adapter. Aggregate updates of one and the same adapter."
      )
    }
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      let expected = trained[name]?.shape ?? []
      if takesMixedRanks,
        let layer = LowRankNames.layer(ofDown: name) ?? LowRankNames.layer(ofUp: name)
      {
        try checkPair(layer, of: tensors, what)
      } else if tensor.shape != expected {
        throw PeatError.badData(
          "\(what) has '\(name)' with the shape \(tensor.shape); the adapter's has \(expected). "
            + "Aggregate updates of one and the same adapter.")
      }
    }
  }

  /// A pair may have a rank of its own.
  private func checkPair(_ layer: String, of tensors: NamedTensors, _ what: String) throws {
    guard let pair = tensors.pair(of: layer), let product = products[layer],
      let rank = pair.down.shape.first, rank > 0, pair.down.shape == [rank, product.columns],
      pair.up.shape == [product.rows, rank]
    else {
      throw PeatError.badData(
        "\(what) has a pair of '\(layer)' that does not fit: A is [r, \(products[layer]?.columns ?? 0)], B "
          + "[\(products[layer]?.rows ?? 0), r].")
    }
  }

  private static var nothing: PeatError { .badData("There is no update to aggregate.") }

  // MARK: What they come to

  /// Takes what clients did not get of the adapter: W of what was to be sent, of which S was read.
  mutating func restore(_ whole: NamedTensors) throws {
    try check(whole.filter { trained[$0.key] != nil }, "The adapter that was to be sent")
    self.whole = whole
  }

  /// The adapter with the weighted means of the tensors that are averaged, rounded once, and W − S of them; its other tensors are as they were.
  func means() throws -> NamedTensors {
    guard weight > 0 else { throw Self.nothing }
    var result = whole ?? current
    for (name, values) in sums {
      guard let old = current[name] else { continue }
      let kept = whole?[name].map { zip($0.scalars, old.scalars).map { Double($0) - Double($1) } }
      result[name] = Tensor(
        values.indices.map { Float(values[$0] / weight + (kept?[$0] ?? 0)) }, shape: old.shape)
    }
    return result
  }

  /// The weighted mean of a layer's products B · A, and the adapter's remainder, exactly.
  func exactProduct(_ layer: String) throws -> FactorSum {
    guard var product = products[layer], weight > 0 else { throw Self.nothing }
    product.scale(by: 1 / weight)
    if let remainder = current.remainder(of: layer) { try product.add(1, remainder) }
    return product
  }

  /// The same with W − S of the products.
  func product(_ layer: String) throws -> FactorSum {
    var product = try exactProduct(layer)
    guard let whole else { return product }
    for (sign, state) in [(1.0, whole), (-1.0, current)] {
      for pair in [state.pair(of: layer), state.remainder(of: layer)] {
        if let pair { try product.add(sign, pair) }
      }
    }
    return product
  }

  /// How far an adapter's products are from the exact ones.
  func relativeError(of state: NamedTensors) throws -> Double {
    var (off, all) = (0.0, 0.0)
    for layer in layers {
      var difference = try exactProduct(layer)
      let norm = difference.norm
      for pair in [state.pair(of: layer), state.remainder(of: layer)] {
        if let pair { try difference.add(-1, pair) }
      }
      let distance = difference.norm
      off += distance * distance
      all += norm * norm
    }
    // Nothing was learned, and nothing broadcast.
    let error = off == 0 ? 0 : (off / all).squareRoot()
    guard error.isFinite else {
      throw PeatError.badData("The aggregated adapter holds values that are not finite.")
    }
    return error
  }
}

/// Sums updates, then makes the next adapter by a rule.
struct SumAccumulator: UpdateAccumulator {
  private var sums: UpdateSums
  private let rule: (UpdateSums) throws -> NamedTensors

  init(_ sums: UpdateSums, rule: @escaping (UpdateSums) throws -> NamedTensors) {
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

  func next() throws -> NamedTensors { try rule(sums) }

  func relativeError(of state: NamedTensors) throws -> Double {
    try sums.relativeError(of: state)
  }
}
