import PeatTensor

/// The update that lies nearest to its neighbours: of n updates, f of which may be wrong, the one with the smallest sum of squared distances to the n − f − 2 nearest
/// others.
///
/// Distances are those of what updates do: of a low-rank pair `‖Bᵢ·Aᵢ − Bⱼ·Aⱼ‖`, found in factors, of all else the values' own. So pairs that are the same up to a
/// change of basis lie at the same place.
///
/// Source: Blanchard et al. 2017, <https://arxiv.org/abs/1703.02757>.
public struct Krum: AggregationStrategy, RobustRule {
  /// f; `nil`: as many as n bears, 2f + 2 < n.
  public let faulty: Int?

  public init(faulty: Int? = nil) { self.faulty = faulty }

  public var name: String { "krum" }
  public var summary: String { "the one update that lies nearest to its neighbours" }

  public func caution(updates: Int) -> String? {
    KrumRanking.caution(name, faulty: faulty, updates: updates)
  }

  func combine(
    _ stack: UpdateStack, from current: NamedTensors
  ) throws -> (tensors: NamedTensors, notes: [String: Double]) {
    let ranking = try KrumRanking(stack, faulty: faulty)
    return (try stack.tensors(of: ranking.order[0]), ["taken": 1])
  }
}

/// The mean of the updates that Krum ranks best, as FedAvg makes it, all weighted alike.
///
/// Source: Blanchard et al. 2017, <https://arxiv.org/abs/1703.02757>.
public struct MultiKrum: AggregationStrategy, RobustRule {
  /// f, as Krum's.
  public let faulty: Int?
  /// m, of how many the mean is taken; `nil`: n − f.
  public let keeps: Int?

  public init(faulty: Int? = nil, keeps: Int? = nil) {
    self.faulty = faulty
    self.keeps = keeps
  }

  public var name: String { "multi-krum" }
  public var summary: String { "the mean of the updates that Krum ranks best (krumKeeps)" }

  public func caution(updates: Int) -> String? {
    if let caution = KrumRanking.caution(name, faulty: faulty, updates: updates) { return caution }
    let right = updates - (faulty ?? KrumRanking.borne(by: updates))
    guard let keeps, keeps > right else { return nil }
    return
      "Of \(updates) updates 'multi-krum' takes the mean of \(min(keeps, updates)) (krumKeeps \(keeps)), more than the \(right) that it can tell from wrong ones: those count, too."
  }

  func combine(
    _ stack: UpdateStack, from current: NamedTensors
  ) throws -> (tensors: NamedTensors, notes: [String: Double]) {
    let ranking = try KrumRanking(stack, faulty: faulty)
    let kept = min(keeps ?? stack.count - ranking.faulty, stack.count)
    // Also with the best few the sum does not depend on the order of updates: it is that of float64.
    var mean = FedAvg().makeAccumulator(into: current, AggregationRound())
    for update in ranking.order.prefix(kept) {
      try mean.add(ClientUpdate(try stack.tensors(of: update), exampleCount: 1))
    }
    let next = try mean.next()
    return (
      stack.names.reduce(into: [:]) { $0[$1] = next[$1] }, ["taken": Double(kept)]
    )
  }
}

/// Updates in the order of their scores.
private struct KrumRanking {
  /// Updates by rising score; of the same score, by their digest.
  let order: [Int]
  /// f.
  let faulty: Int

  /// The largest f of n ≥ 2f + 3.
  static func borne(by updates: Int) -> Int { max(0, (updates - 3) / 2) }

  static func caution(_ name: String, faulty: Int?, updates: Int) -> String? {
    guard (faulty ?? borne(by: updates)) == 0 else { return nil }
    return
      "Of \(updates) \(updates == 1 ? "update" : "updates") '\(name)' bears no wrong one: f of them take n ≥ 2f + 3, so 5 updates or more for one\(faulty == 0 ? ", and faultyClients above 0" : "")."
  }

  init(_ stack: UpdateStack, faulty stated: Int?) throws {
    let count = stack.count
    if let stated, stated > 0, count < 2 * stated + 3 {
      throw PeatError.badData(
        "Krum bears \(stated) faulty of \(2 * stated + 3) or more updates; \(count) \(count == 1 ? "is" : "are") there. Bring so many (a run's minimumUpdates sees to it), or give a smaller number: faultyClients \(KrumRanking.borne(by: count))."
      )
    }
    faulty = stated ?? Self.borne(by: count)
    let squares = try Self.squaredDistances(stack)
    let neighbours = min(max(1, count - faulty - 2), count - 1)
    let scores = squares.indices.map { update in
      squares[update].enumerated().filter { $0.offset != update }.map(\.element).sorted()
        .prefix(neighbours).reduce(0, +)
    }
    let digests = try (0..<count).map { try stack.tensors(of: $0).digest.hex }
    order = (0..<count).sorted { (scores[$0], digests[$0]) < (scores[$1], digests[$1]) }
  }

  /// Between any two; two tensors, or pairs, are in memory at a time.
  private static func squaredDistances(_ stack: UpdateStack) throws -> [[Double]] {
    let count = stack.count
    var squares = [[Double]](repeating: [Double](repeating: 0, count: count), count: count)
    func add(_ square: Double, _ first: Int, _ second: Int) {
      squares[first][second] += square
      squares[second][first] += square
    }
    for name in stack.names {
      if LowRankNames.layer(ofUp: name) != nil { continue }
      guard let layer = LowRankNames.layer(ofDown: name) else {
        for first in 0..<count {
          let own = try stack.tensor(name, of: first)
          for second in first + 1..<max(count, first + 1) {
            add(squaredDistance(own, try stack.tensor(name, of: second)), first, second)
          }
        }
        continue
      }
      func pair(_ update: Int) throws -> LowRankFactors {
        LowRankFactors(
          down: try stack.tensor(name, of: update),
          up: try stack.tensor(layer + LowRankNames.up, of: update))
      }
      for first in 0..<count {
        let own = try pair(first)
        for second in first + 1..<max(count, first + 1) {
          var difference = FactorSum(rows: own.up.shape[0], columns: own.down.shape[1])
          try difference.add(1, own)
          try difference.add(-1, try pair(second))
          let norm = difference.norm
          add(norm * norm, first, second)
        }
      }
    }
    return squares
  }

  private static func squaredDistance(_ first: Tensor, _ second: Tensor) -> Double {
    (0..<first.count).reduce(0) { sum, place in
      let difference = Double(first.pointer[place]) - Double(second.pointer[place])
      return sum + difference * difference
    }
  }
}
