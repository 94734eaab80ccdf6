import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

/// What is asked of every strategy alike.
@Suite("Every strategy") struct CommonStrategyTests {
  private static let robust: Set = ["median", "trimmed-mean", "krum", "multi-krum"]
  /// Those whose next adapter is, of plain tensors, the weighted mean.
  private static let means: Set = [
    "fedavg", "ffa", "fedex", "product", "product-exact", "fedprox", "scaffold",
  ]
  private static let layer = "base_model.model.layers.0.q_proj"

  private static func adapter(_ random: inout SeededRandom) -> NamedTensors {
    [
      layer + ".lora_A.weight": randomTensor([2, 7], &random, scale: 0.3),
      layer + ".lora_B.weight": randomTensor([5, 2], &random, scale: 0.3),
      "x.bias": randomTensor([11], &random, scale: 0.3),
    ]
  }

  /// The adapter that clients are sent, and updates of it that lie near.
  private func round(
    of strategy: any AggregationStrategy, clients: Int, seed: UInt64 = 1
  ) throws -> (start: NamedTensors, updates: [ClientUpdate]) {
    var random = SeededRandom(seed: seed, "every strategy")
    let start = strategy.broadcast(Self.adapter(&random), StrategyState())
    let updates = try (0..<clients).map { client in
      var update = ClientUpdate(
        strategy.trained(of: start).mapValues { tensor in
          let move = randomTensor(tensor.shape, &random, scale: 0.05)
          return Tensor(
            zip(tensor.scalars, move.scalars).map { $0 + $1 }, shape: tensor.shape)
        }, exampleCount: 1 + client % 3)
      update.header.client = try ClientID("client-\(client)")
      return update
    }
    return (start, updates)
  }

  private func difference(_ found: NamedTensors, _ expected: NamedTensors) -> Double {
    guard Set(found.keys) == Set(expected.keys) else { return .infinity }
    return found.reduce(0) { worst, entry in
      guard let other = expected[entry.key], other.shape == entry.value.shape else {
        return .infinity
      }
      return zip(entry.value.scalars, other.scalars).reduce(worst) {
        max($0, Double(abs($1.0 - $1.1)))
      }
    }
  }

  /// The layer's matrix with its remainder, row by row, and the plain tensor: what an adapter does, whatever its bases.
  private func effect(_ state: NamedTensors) -> [Double] {
    var result = (state["x.bias"]?.scalars ?? []).map { Double($0) }
    var matrix = [Double](repeating: 0, count: 35)
    for word in ["lora", "remainder"] {
      guard let a = state["\(Self.layer).\(word)_A.weight"],
        let b = state["\(Self.layer).\(word)_B.weight"]
      else { continue }
      for i in 0..<5 {
        for j in 0..<7 {
          for k in 0..<a.shape[0] {
            matrix[i * 7 + j] +=
              Double(b.scalars[i * a.shape[0] + k]) * Double(a.scalars[k * 7 + j])
          }
        }
      }
    }
    result += matrix
    return result
  }

  private func distance(_ first: NamedTensors, _ second: NamedTensors) -> Double {
    zip(effect(first), effect(second)).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  @Test(arguments: Strategies.names, [2, 5, 8])
  func `the order of updates does not matter`(name: String, clients: Int) throws {
    let strategy = try Strategies.named(name)
    let (start, updates) = try round(of: strategy, clients: clients)
    let next = try strategy.aggregate(updates, into: start)
    let turned = try strategy.aggregate(updates.reversed(), into: start)
    #expect(distance(next.state, turned.state) < 1e-6)
    #expect(abs(next.relativeError - turned.relativeError) < 1e-6)
  }

  @Test(arguments: Strategies.names)
  func `an update counts by its examples, and by robust rules not`(name: String) throws {
    let strategy = try Strategies.named(name)
    var (start, updates) = try round(of: strategy, clients: 3)
    updates[0].header.exampleCount = 2
    updates[1].header.exampleCount = 1
    updates[2].header.exampleCount = 1
    var alike = updates
    alike[0].header.exampleCount = 1
    let weighted = try strategy.aggregate(updates, into: start)
    let even = try strategy.aggregate(alike, into: start)
    if Self.robust.contains(name) {
      #expect(weighted.state == even.state)
      return
    }
    #expect(distance(weighted.state, even.state) > 1e-4)
    // Twice the examples are the same as being there twice.
    var twin = updates[0]
    twin.header.client = "twin"
    alike.append(twin)
    alike[3].header.exampleCount = 1
    let twice = try strategy.aggregate(alike, into: start)
    #expect(distance(weighted.state, twice.state) < 1e-6)
  }

  @Test(arguments: Strategies.names)
  func `one that is far off leads means away, and robust rules not`(name: String) throws {
    let strategy = try Strategies.named(name)
    var (start, updates) = try round(of: strategy, clients: 7)
    // Trimming a tenth of seven would leave all in.
    var options = StrategyOptions()
    if name == "trimmed-mean" { options.trimmedShare = 0.2 }
    if name == "norm-bound" { options.normBound = 0.5 }
    let rule = try Strategies.named(name, options)
    let before = try rule.aggregate(updates, into: start).state
    updates[3].tensors = updates[3].tensors.mapValues { $0.map { -1000 * $0 } }
    let moved = distance(try rule.aggregate(updates, into: start).state, before)
    if Self.robust.contains(name) {
      // Within what the others say.
      #expect(moved < 0.2)
    } else if name == "norm-bound" {
      #expect(moved < 0.5)
    } else if ["fedadam", "fedyogi", "fedadagrad"].contains(name) {
      // Steps of single values are bounded, of which an outlier takes the sign.
      #expect(moved < 0.5)
    } else {
      #expect(moved > 5)
    }
  }

  @Test(arguments: Strategies.names)
  func `updates that are all the same are where they lead`(name: String) throws {
    let strategy = try Strategies.named(name)
    var (start, updates) = try round(of: strategy, clients: 4)
    for place in updates.indices { updates[place].tensors = updates[0].tensors }
    let next = try strategy.aggregate(updates, into: start)
    #expect(next.relativeError < 1e-6)
    if Self.means.contains(name) || Self.robust.contains(name) {
      let expected = start.withoutControls.merging(updates[0].tensors.withoutControls) { $1 }
      #expect(distance(next.state, expected) < 1e-6)
      if Self.robust.contains(name) { #expect(difference(next.state, expected) == 0) }
    }
  }

  @Test(arguments: Strategies.names)
  func `a single client's update is taken`(name: String) throws {
    let strategy = try Strategies.named(name)
    let (start, updates) = try round(of: strategy, clients: 1)
    let next = try strategy.aggregate(updates, into: start)
    #expect(next.state.firstNotFinite == nil)
    #expect(next.state.controls.isEmpty)
    let sent = start.withoutControls.merging(updates[0].tensors.withoutControls) { $1 }
    if Self.means.contains(name) || Self.robust.contains(name) || name == "fedavgm" {
      #expect(distance(next.state, sent) < 1e-6)
    }
    expectError(.badData, "no update") { _ = try strategy.aggregate([], into: start) }
  }

  @Test(arguments: Strategies.names)
  func `updates that do not fit are refused`(name: String) throws {
    let strategy = try Strategies.named(name)
    let (start, updates) = try round(of: strategy, clients: 1)
    for change in [
      { $0["stranger"] = [1] }, { $0["x.bias"] = nil }, { $0["x.bias"] = [1] },
      { $0[Self.layer + ".lora_B.weight"] = Tensor(zeros: [6, 2]) },
    ] as [(inout NamedTensors) -> Void] {
      var bad = updates[0]
      change(&bad.tensors)
      #expect(throws: PeatError.self) { try strategy.aggregate([bad], into: start) }
    }
    var empty = updates[0]
    empty.header.exampleCount = 0
    #expect(throws: PeatError.self) { try strategy.aggregate([empty], into: start) }
  }

  @Test(arguments: Strategies.names)
  func `the server counts by its share, and what was lost in sending comes back`(
    name: String
  ) throws {
    let strategy = try Strategies.named(name)
    let (start, updates) = try round(of: strategy, clients: 1)
    if !strategy.usesControls {
      var accumulator = try strategy.makeAccumulator(into: start)
      try accumulator.add(updates[0])
      try accumulator.add(server: strategy.trained(of: start), share: 0.75)
      let next = try accumulator.finish().state
      if ["fedavg", "fedprox", "fedavgm", "median", "trimmed-mean", "krum", "multi-krum"]
        .contains(name)
      {
        let (from, to) = (
          start["x.bias"]?.scalars ?? [], updates[0].tensors["x.bias"]?.scalars ?? []
        )
        for (place, value) in (next["x.bias"]?.scalars ?? []).enumerated() {
          #expect(abs(value - (0.75 * from[place] + 0.25 * to[place])) < 1e-6)
        }
      }
    }
    // Clients learned nothing: they send back what they read of the adapter.
    let whole = start.mapValues { $0.map { $0 + 0.01 } }
    var accumulator = try strategy.makeAccumulator(into: start)
    var idle = updates[0]
    idle.tensors = strategy.trained(of: start)
    try accumulator.add(idle)
    try accumulator.restore(whole)
    let next = try accumulator.finish().state
    #expect(distance(next, whole.withoutControls) < 2e-6)
  }
}

@Suite("Robust rules by hand") struct RobustRuleTests {
  private func next(
    _ strategy: some AggregationStrategy, _ values: [[Float]]
  ) throws -> AggregatedAdapter {
    try strategy.aggregate(
      values.map { ClientUpdate(["a": Tensor($0)], exampleCount: 1) },
      into: ["a": Tensor(values[0].map { _ in 0 })])
  }

  @Test func `the median is the value in the middle, or between two`() throws {
    #expect(
      try next(CoordinateMedian(), [[1, 9], [5, -1], [2, 1e6]]).state == ["a": [2, 9]])
    #expect(
      try next(CoordinateMedian(), [[1, 0], [2, 0], [4, 8], [1e9, 8]]).state == ["a": [3, 4]])
  }

  @Test func `the trimmed mean leaves out as many at each end`() throws {
    // ⌊0.25 · 5⌋ = 1 at each end: (2 + 3 + 4) / 3.
    let values: [[Float]] = [[4], [-1e6], [2], [1e6], [3]]
    let made = try next(TrimmedMean(share: 0.25), values)
    #expect(made.state == ["a": [3]])
    #expect(made.notes["taken"] == 3)
    #expect(try next(TrimmedMean(share: 0), [[1], [2], [6]]).state == ["a": [3]])
    // A share that is no binary fraction: 29 of 100 at each end, which leaves 42.
    let many = (0..<100).map { [Float($0)] }
    #expect(try next(TrimmedMean(share: 0.29), many).notes["taken"] == 42)
  }

  @Test func `Krum takes the update with the nearest neighbours`() throws {
    // n = 5, f = 1: two neighbours. Squared distances on a line: 0: 1 + 9 = 10, 1: 1 + 4 = 5, 3: 4 + 1 = 5, 4: 1 + 9 = 10, 100: far.
    let values: [[Float]] = [[0], [1], [3], [4], [100]]
    let made = try next(Krum(faulty: 1), values).state
    #expect(made == ["a": [1]] || made == ["a": [3]])
    // A tie is broken by what they hold, not by their order.
    #expect(try next(Krum(faulty: 1), values.reversed()).state == made)
    // 2 in the middle has 1 + 1.
    #expect(try next(Krum(faulty: 1), [[1], [2], [3], [9], [100]]).state == ["a": [2]])
  }

  @Test func `MultiKrum takes the mean of the best`() throws {
    let values: [[Float]] = [[1], [2], [3], [9], [100]]
    // f = 1: all but one.
    #expect(try next(MultiKrum(faulty: 1), values).state == ["a": [3.75]])
    #expect(try next(MultiKrum(faulty: 1, keeps: 1), values).state == ["a": [2]])
    #expect(try next(MultiKrum(faulty: 1, keeps: 3), values).state == ["a": [2]])
  }

  @Test func `more faulty clients than Krum bears are refused`() {
    expectError(.badData, "5 or more") {
      _ = try next(Krum(faulty: 1), [[1], [2], [3], [4]])
    }
  }

  @Test func `Krum sees what pairs do, not in which basis`() throws {
    let down = "x.q.lora_A.weight"
    let up = "x.q.lora_B.weight"
    func pair(_ a: [Float], _ b: [Float]) -> ClientUpdate {
      ClientUpdate(
        [down: Tensor(a, shape: [2, 2]), up: Tensor(b, shape: [2, 2])], exampleCount: 1)
    }
    // Three are the unit matrix, in other bases and signs; as values they lie far apart. Two lie near each other, at another place.
    let updates = [
      pair([1, 0, 0, 1], [1, 0, 0, 1]), pair([0, -8, 8, 0], [0, 0.125, -0.125, 0]),
      pair([-4, 0, 0, -4], [-0.25, 0, 0, -0.25]), pair([1, 0, 0, 1], [1, 0, 0, 0.4]),
      pair([1, 0, 0, 1], [1, 0, 0, 0.5]),
    ]
    let made = try Krum(faulty: 1).aggregate(updates, into: updates[0].tensors).state
    #expect(updates.prefix(3).contains { $0.tensors == made })
  }

  @Test func `a bound cuts what is beyond it, and says how many`() throws {
    // From (1, 1): by (3, 4) of norm 5 cut to 1, and by (0, 0.5), which stays.
    let next = try NormBound(1).aggregate(
      [
        ClientUpdate(["a": [4, 5]], exampleCount: 1),
        ClientUpdate(["a": [1, 1.5]], exampleCount: 1),
      ],
      into: ["a": [1, 1]])
    let found = next.state["a"]?.scalars ?? []
    #expect(abs(found[0] - 1.3) < 1e-6 && abs(found[1] - 1.65) < 1e-6)
    #expect(next.notes == ["clipped": 1, "medianNorm": 2.75, "largestNorm": 5])
  }

  /// A strategy, the fewest updates of which it leaves out or bears a wrong one, and the words that say it of one fewer.
  @Test(arguments: [
    ("trimmed-mean", 10, "from 10 updates on"), ("krum", 5, "2f + 3"), ("multi-krum", 5, "2f + 3"),
    ("median", 3, "from 3 on"),
  ])
  func `a robust rule says where it protects against nothing`(
    name: String, fewest: Int, words: String
  ) throws {
    let rule = try Strategies.named(name)
    #expect(rule.caution(updates: fewest) == nil)
    let caution = try #require(rule.caution(updates: fewest - 1))
    #expect(caution.contains(words), "\(caution)")
    #expect(try Strategies.named("fedavg").caution(updates: 1) == nil)
  }

  @Test func `taking more than are right is said, too`() throws {
    var options = StrategyOptions()
    options.krumKeeps = 9
    let rule = try Strategies.named("multi-krum", options)
    // Of 7 updates 2 may be wrong.
    #expect(rule.caution(updates: 7)?.contains("mean of 7 (krumKeeps 9), more than the 5") == true)
    options.krumKeeps = 5
    #expect(try Strategies.named("multi-krum", options).caution(updates: 7) == nil)
  }

  @Test func `a bound goes with other rules of the mean`() throws {
    var options = StrategyOptions()
    options.normBound = 0.1
    let start: NamedTensors = [
      "x.q.lora_A.weight": Tensor([1, 0], shape: [1, 2]),
      "x.q.lora_B.weight": Tensor([1, 0], shape: [2, 1]),
    ]
    var far = start
    far["x.q.lora_B.weight"] = Tensor([11, 0], shape: [2, 1])
    let next = try Strategies.named("product-exact", options).aggregate(
      [ClientUpdate(far, exampleCount: 1)], into: start)
    let (a, b) = (
      next.state["x.q.lora_A.weight"]?.scalars ?? [], next.state["x.q.lora_B.weight"]?.scalars ?? []
    )
    #expect(abs(a[0] * b[0] - 1.1) < 1e-6)
  }

  /// More values than are read at a time, so that slices are put together.
  @Test func `many updates are combined slice by slice`() throws {
    var random = SeededRandom(seed: 2, "slices")
    let count = 9000
    let rows = (0..<count).map { _ in randomTensor([700], &random, scale: 1) }
    let made = try CoordinateMedian().aggregate(
      rows.lazy.map { ClientUpdate(["a": $0], exampleCount: 1) },
      into: ["a": Tensor(zeros: [700])]
    ).state["a"]?.scalars
    for place in [0, 255, 256, 699] {
      let column = rows.map { $0.scalars[place] }.sorted()
      #expect(
        made?[place]
          == Float((Double(column[count / 2 - 1]) + Double(column[count / 2])) / 2))
    }
  }

  @Test func `files of updates are removed`() throws {
    try inTemporaryFolder { folder in
      let update = ClientUpdate(["a": [1]], exampleCount: 1)
      _ = try CoordinateMedian().aggregate(
        [update], into: ["a": [0]], AggregationRound(folder: folder))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }
  }
}

@Suite("SCAFFOLD") struct ScaffoldTests {
  /// Two clients, weights 1 and 3, one scalar. c is the mean of the cₖ, and what an update brings is c + Δcₖ.
  @Test func `control variates by hand`() throws {
    let strategy = Scaffold()
    var round = AggregationRound()
    func update(_ name: ClientID, _ value: Float, _ control: Float, _ count: Int) -> ClientUpdate {
      var update = ClientUpdate(["a": [value], "a.control": [control]], exampleCount: count)
      update.header.client = name
      return update
    }
    #expect(strategy.broadcast(["a": [5]], round.state) == ["a": [5], "a.control": [0]])
    // Both take part: c = (1·2 + 3·(−2)) / 4.
    let first = try strategy.aggregate(
      [update("x", 1, 2, 1), update("y", 5, -2, 3)], into: ["a": [5], "a.control": [0]], round)
    #expect(first.state == ["a": [4]])
    round.state = first.memory
    let sent = strategy.broadcast(first.state, round.state)
    #expect(sent == ["a": [4], "a.control": [-1]])
    // y alone: of c + Δ = −1 + 4 three quarters count.
    let second = try strategy.aggregate([update("y", 0, 3, 3)], into: sent, round)
    #expect(second.state == ["a": [0]])
    round.state = second.memory
    #expect(strategy.broadcast(second.state, round.state) == ["a": [0], "a.control": [2]])
    #expect(second.memory.clients == ["x": 1, "y": 3])
  }

  @Test func `a saved state goes on to the same bits`() throws {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("state.safetensors")
      let update = ClientUpdate(["a": [0.1], "a.control": [0.7]], exampleCount: 3)
      let made = try Scaffold().aggregate([update], into: ["a": [0], "a.control": [0]])
      try made.memory.write(to: file)
      #expect(try StrategyState(contentsOf: file) == made.memory)
    }
  }

  @Test func `the server has no part of its own`() throws {
    var accumulator = try Scaffold().makeAccumulator(into: ["a": [0], "a.control": [0]])
    try accumulator.add(ClientUpdate(["a": [0], "a.control": [0]], exampleCount: 3))
    expectError(.usage, "no part of its own") {
      try accumulator.add(server: ["a": [0]], share: 0.5)
    }
  }
}
