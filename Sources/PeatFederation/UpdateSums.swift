import PeatTensor

/// The updates of a round, summed in float64 as they come: weighted values by name, and for each low-rank pair the weighted product B · A in
/// factors.
package struct UpdateSums {
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
  /// The server optimizer's step; `nil`: the next adapter is the mean.
  var step: ServerStep?
  /// What it adds to each layer's product, once it was made.
  private var moves: [String: FactorSum] = [:]
  /// The norm that an update's difference from the adapter is cut to.
  private let bound: Double?
  private var clipped = 0
  /// How far each update was from the adapter, where there is a bound.
  private var norms: [Double] = []

  /// - Parameters:
  ///   - strategy: says what of the adapter updates hold.
  ///   - averagesPairs: whether the matrices of low-rank pairs are averaged, too, each by itself.
  ///   - bound: the norm that an update's difference from the adapter is cut to.
  init(
    _ current: NamedTensors, for strategy: some AggregationStrategy, averagesPairs: Bool,
    bound: Double? = nil
  ) {
    self.current = current
    self.bound = bound
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
    let what = "The update of '\(update.client)'"
    try check(update.tensors, what)
    try add(
      try bounded(update.tensors, what), weight: update.discount * Double(update.exampleCount),
      scales)
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

  /// What the round comes to: the means, or where the server's own step leads.
  package mutating func target() throws -> RoundTarget {
    guard weight > 0 else { throw Self.nothing }
    guard var step else {
      return RoundTarget(current: current, means: try means()) { [self] in try product($0) }
    }
    var next = whole ?? current
    for (name, values) in sums.sorted(by: { $0.key < $1.key }) {
      guard let old = current[name], let start = next[name] else { continue }
      let (before, from) = (old.scalars, start.scalars)
      let change = values.indices.map { values[$0] / weight - Double(before[$0]) }
      let move = try step.move(name, by: change, shape: old.shape)
      next[name] = Tensor(move.indices.map { Float(Double(from[$0]) + move[$0]) }, shape: old.shape)
    }
    // Of pairs that are averaged alone the product is not stepped.
    if makesProducts {
      for layer in layers {
        var change = try exactProduct(layer)
        try change.add(-1, current, layer)
        moves[layer] = try step.move(layer, by: change)
      }
    }
    self.step = step
    return RoundTarget(current: current, means: next) { [self] in try product($0) }
  }

  /// Whether the rule makes pairs of products.
  var makesProducts = false

  /// What the adapter multiplies a layer's product with, α / r; 1 where a layer is not named. Layers count in the error by what they do in the model.
  var scales: [String: Double] = [:]

  /// The adapter with the weighted means of the tensors that are averaged, rounded once, and W − S of them; its other tensors are as they were.
  private func means() throws -> NamedTensors {
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

  /// The weighted mean of a layer's products B · A, and the adapter's remainder, exactly; or where a step from there leads.
  private func exactProduct(_ layer: String) throws -> FactorSum {
    guard var product = products[layer], weight > 0 else { throw Self.nothing }
    if let move = moves[layer] {
      var stepped = FactorSum(rows: product.rows, columns: product.columns)
      try stepped.add(1, current, layer)
      stepped.add(1, move)
      return stepped
    }
    product.scale(by: 1 / weight)
    if let remainder = current.remainder(of: layer) { try product.add(1, remainder) }
    return product
  }

  /// The same with W − S of the products.
  private func product(_ layer: String) throws -> FactorSum {
    var product = try exactProduct(layer)
    guard let whole else { return product }
    try product.add(1, whole, layer)
    try product.add(-1, current, layer)
    return product
  }

  /// What the step remembers.
  var state: StrategyState { step?.state ?? StrategyState() }

  var notes: [String: Double] {
    var notes: [String: Double] = [:]
    if bound != nil {
      notes["clipped"] = Double(clipped)
      let sorted = norms.sorted()
      if let largest = sorted.last {
        notes["medianNorm"] = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
        notes["largestNorm"] = largest
      }
    }
    if makesProducts, let step, step.optimizer.linearMomentum != 0 {
      notes["momentumCut"] = step.cut
    }
    return notes
  }

  /// Cuts an update's difference from the adapter to the bound, over all its values.
  private mutating func bounded(_ tensors: NamedTensors, _ what: String) throws -> NamedTensors {
    guard let bound else { return tensors }
    var square = 0.0
    for (name, tensor) in tensors {
      guard let start = current[name], start.shape == tensor.shape else {
        throw PeatError.badData(
          "\(what) has '\(name)' with the shape \(tensor.shape), the adapter \(current[name]?.shape ?? []): a bound on what changed needs updates of the adapter's ranks."
        )
      }
      for place in 0..<tensor.count {
        let difference = Double(tensor.pointer[place]) - Double(start.pointer[place])
        square += difference * difference
      }
    }
    let norm = square.squareRoot()
    norms.append(norm)
    guard norm > bound else { return tensors }
    clipped += 1
    let factor = bound / norm
    return tensors.reduce(into: [:]) { result, entry in
      guard let start = current[entry.key] else { return }
      let (new, old) = (entry.value.scalars, start.scalars)
      result[entry.key] = Tensor(
        new.indices.map { Float(Double(old[$0]) + factor * (Double(new[$0]) - Double(old[$0]))) },
        shape: start.shape)
    }
  }

  /// How far an adapter is from the exact weighted mean: the larger of what its products are off, and of what all its other tensors together are.
  ///
  /// Where a server optimizer steps the values of A and B there is no product to compare with: the error is then the mean's, before the step.
  func relativeError(of state: NamedTensors) throws -> Double {
    let state = step != nil && !makesProducts ? try means() : state
    var (off, all) = (0.0, 0.0)
    for layer in layers {
      var difference = try exactProduct(layer)
      let norm = difference.norm
      for pair in [state.pair(of: layer), state.remainder(of: layer)] {
        if let pair { try difference.add(-1, pair) }
      }
      let (distance, scale) = (difference.norm, scales[layer] ?? 1)
      off += scale * scale * distance * distance
      all += scale * scale * norm * norm
    }
    let errors = [(off, all), try squaredError(ofOthers: state)].map { off, all in
      // Nothing was learned, and nothing broadcast.
      off == 0 ? 0 : (off / all).squareRoot()
    }
    guard errors.allSatisfy(\.isFinite) else {
      throw PeatError.badData("The aggregated adapter holds values that are not finite.")
    }
    return errors.max() ?? 0
  }

  /// The squared distance of the tensors that are averaged as they are from their exact means, and those means' squared norm. Where a server optimizer steps them
  /// there is no mean to compare with.
  private func squaredError(
    ofOthers state: NamedTensors
  ) throws -> (off: Double, all: Double) {
    guard weight > 0, step == nil else { return (0, 0) }
    var (off, all) = (0.0, 0.0)
    for name in others {
      guard let sum = sums[name], let tensor = state[name], tensor.count == sum.count else {
        continue
      }
      for place in sum.indices {
        let exact = sum[place] / weight
        let difference = Double(tensor.pointer[place]) - exact
        off += difference * difference
        all += exact * exact
      }
    }
    return (off, all)
  }
}

extension FactorSum {
  /// Adds w times a layer's product and its remainder's.
  fileprivate mutating func add(_ weight: Double, _ state: NamedTensors, _ layer: String) throws {
    for pair in [state.pair(of: layer), state.remainder(of: layer)] {
      if let pair { try add(weight, pair) }
    }
  }
}
