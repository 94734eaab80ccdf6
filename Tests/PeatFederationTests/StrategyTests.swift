import PeatFederation
import PeatTensor
import TestSupport
import Testing

/// An adapter of one layer, its product, and random ones of several layers.
private enum Sample {
  static let layer = "base_model.model.layers.0.q_proj"
  static let down = layer + ".lora_A.weight"
  static let up = layer + ".lora_B.weight"

  static func pair(_ a: [Float], _ b: [Float], rank: Int = 1) -> NamedTensors {
    [
      down: Tensor(a, shape: [rank, a.count / rank]), up: Tensor(b, shape: [b.count / rank, rank]),
    ]
  }

  static func random(
    _ layers: [(String, outputs: Int, inputs: Int)], rank: Int, using random: inout SeededRandom
  ) -> NamedTensors {
    var result: NamedTensors = [:]
    for (name, outputs, inputs) in layers {
      result[name + ".lora_A.weight"] = randomTensor([rank, inputs], &random, scale: 0.3)
      result[name + ".lora_B.weight"] = randomTensor([outputs, rank], &random, scale: 0.1)
    }
    return result
  }

  /// B · A, and the remainder's, in float64.
  static func product(_ state: NamedTensors, _ layer: String = layer) -> [Double] {
    var result: [Double] = []
    for (a, b) in [("lora_A", "lora_B"), ("remainder_A", "remainder_B")] {
      guard let a = state["\(layer).\(a).weight"], let b = state["\(layer).\(b).weight"] else {
        continue
      }
      let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0])
      if result.isEmpty { result = Array(repeating: 0, count: inputs * outputs) }
      let (first, second) = (b.scalars, a.scalars)
      for i in 0..<outputs {
        for k in 0..<rank {
          let factor = Double(first[i * rank + k])
          for j in 0..<inputs { result[i * inputs + j] += factor * Double(second[k * inputs + j]) }
        }
      }
    }
    return result
  }
}

/// max |found − expected| / max |expected|.
private func difference(_ found: [Double], _ expected: [Double]) -> Double {
  guard found.count == expected.count else { return .infinity }
  let worst = zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
  return worst / expected.reduce(1e-300) { max($0, abs($1)) }
}

@Suite("Strategies by hand") struct HandCheckedStrategyTests {
  /// Clients whose products are the two halves of the unit matrix; the mean of the products is 0.5 · 1.
  private let updates = [
    ClientUpdate(Sample.pair([1, 0], [1, 0]), exampleCount: 5),
    ClientUpdate(Sample.pair([0, 1], [0, 1]), exampleCount: 5),
  ]
  private let start = Sample.pair([1, 1], [0, 0])

  @Test func `the mean of the factors is off, and says by how much`() throws {
    let next = try FedAvg().aggregate(updates, into: start)
    #expect(next.state == Sample.pair([0.5, 0.5], [0.5, 0.5]))
    // 0.25 everywhere instead of 0.5 on the diagonal: √(4 · 0.25²) / √(2 · 0.5²).
    #expect(abs(next.relativeError - 0.5.squareRoot()) < 1e-12)
  }

  @Test func `layers count in the error by their scales`() throws {
    func pairs(_ a: Float) -> NamedTensors {
      [
        "a.lora_A.weight": Tensor([a], shape: [1, 1]),
        "a.lora_B.weight": Tensor([a], shape: [1, 1]),
        "b.lora_A.weight": Tensor([1], shape: [1, 1]),
        "b.lora_B.weight": Tensor([2], shape: [1, 1]),
      ]
    }
    // The products are 1 and 2 in both; the mean of the factors makes 0 of the first.
    func error(_ scales: [String: Double]) throws -> Double {
      var sums = FedAvg().makeAccumulator(into: pairs(1), AggregationRound(scales: scales))
      for a in [1, -1] as [Float] { try sums.add(ClientUpdate(pairs(a), exampleCount: 1)) }
      return try sums.finish().relativeError
    }
    #expect(abs(try error([:]) - (1.0 / 5).squareRoot()) < 1e-7)
    #expect(abs(try error(["a": 2, "b": 1]) - (4.0 / 8).squareRoot()) < 1e-7)
  }

  @Test func `with a remainder the mean of the factors is exact`() throws {
    let next = try FedEx().aggregate(updates, into: start)
    #expect(next.state[Sample.down] == Tensor([0.5, 0.5], shape: [1, 2]))
    #expect(next.state[Sample.up] == Tensor([0.5, 0.5], shape: [2, 1]))
    #expect(difference(Sample.product(next.state), [0.5, 0, 0, 0.5]) < 1e-7)
    #expect(next.relativeError < 1e-7)
  }

  @Test func `the product cut to rank 1 loses one of two equal components`() throws {
    let next = try ProductFactors().aggregate(updates, into: start)
    let values = Sample.product(next.state)
    let size = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
    #expect(abs(size - 0.5) < 1e-7)
    #expect(abs(next.relativeError - 0.5.squareRoot()) < 1e-7)
    #expect(next.state.remainders.isEmpty)
  }

  @Test func `the product with its remainder is exact`() throws {
    let next = try ProductFactors(keepsRemainder: true).aggregate(updates, into: start)
    #expect(difference(Sample.product(next.state), [0.5, 0, 0, 0.5]) < 1e-7)
    #expect(next.state[Sample.down]?.shape == [1, 2])
    #expect(next.relativeError < 1e-7)
  }

  @Test func `with one A for all the mean of the B is exact`() throws {
    let up = { (values: [Float]) in [Sample.up: Tensor(values, shape: [2, 1])] }
    let next = try FreezeA().aggregate(
      [
        ClientUpdate(up([2, 0]), exampleCount: 1), ClientUpdate(up([4, 8]), exampleCount: 3),
      ], into: start)
    #expect(next.state == Sample.pair([1, 1], [3.5, 6]))
    #expect(next.relativeError < 1e-12)
    expectError(.badData, "does not train") {
      _ = try FreezeA().aggregate(updates, into: start)
    }
  }

  @Test func `products are weighted by examples, and scaled`() throws {
    var accumulator = try ProductFactors().makeAccumulator(into: start)
    try accumulator.add(ClientUpdate(Sample.pair([1, 0], [4, 0]), exampleCount: 1))
    try accumulator.add(
      ClientUpdate(Sample.pair([1, 0], [4, 0]), exampleCount: 3), scales: [Sample.layer: 0.5])
    let next = try accumulator.finish()
    #expect(difference(Sample.product(next.state), [2.5, 0, 0, 0]) < 1e-6)
  }

  @Test func `the server counts by its share of the product`() throws {
    var accumulator = try ProductFactors(keepsRemainder: true).makeAccumulator(into: start)
    for update in updates { try accumulator.add(update) }
    try accumulator.add(server: Sample.pair([2, 0], [2, 0]), share: 0.25)
    let next = try accumulator.finish()
    // 0.75 · 0.5 + 0.25 · 4 and 0.75 · 0.5.
    #expect(difference(Sample.product(next.state), [1.375, 0, 0, 0.375]) < 1e-6)
  }

  @Test func `components without weight keep their A and a B of zero`() throws {
    let start = Sample.pair([1, 1, 3, -3], [0, 0, 0, 0], rank: 2)
    let next = try ProductFactors().aggregate(
      [ClientUpdate(Sample.pair([1, 0, 0, 0], [2, 0, 0, 0], rank: 2), exampleCount: 1)], into: start
    )
    let (a, b) = (next.state[Sample.down]?.scalars ?? [], next.state[Sample.up]?.scalars ?? [])
    #expect(a[2...] == [3, -3] && b[1] == 0 && b[3] == 0)
    // A's first row has the length of a row that LoRA draws.
    #expect(abs(a[0] * a[0] + a[1] * a[1] - 1 / 3) < 1e-6)
    #expect(difference(Sample.product(next.state), [2, 0, 0, 0]) < 1e-6)
  }
}

@Suite("Strategies") struct StrategyTests {
  private static let exact: [any AggregationStrategy] = [
    FedEx(), ProductFactors(keepsRemainder: true),
  ]

  private static let means: [any AggregationStrategy] =
    [FedAvg(), FreezeA(), ProductFactors()] + exact

  @Test(arguments: [2, 7, 64], [0, 1])
  func `exact rules equal the weighted sum in float64, whatever the ranks`(
    clients: Int, rule: Int
  ) throws {
    let strategy = Self.exact[rule]
    var random = SeededRandom(seed: 11, "clients \(clients)")
    let layers = [("a.q", outputs: 40, inputs: 24), ("a.v", outputs: 16, inputs: 48)]
    let updates = (0..<clients).map { client in
      ClientUpdate(
        Sample.random(layers, rank: [2, 4, 8, 16, 32][client % 5], using: &random),
        exampleCount: 1 + Int(random.uniform() * 50))
    }
    var state = Sample.random(layers, rank: 8, using: &random)
    // A second round begins with the first one's remainder, which all share.
    for _ in 0..<2 {
      let next = try strategy.aggregate(updates, into: state)
      let total = Double(updates.reduce(0) { $0 + $1.exampleCount })
      for (name, outputs, inputs) in layers {
        var expected = [Double](repeating: 0, count: outputs * inputs)
        for update in updates {
          for (place, value) in Sample.product(update.tensors, name).enumerated() {
            expected[place] += Double(update.exampleCount) / total * value
          }
        }
        if !state.remainders.isEmpty {
          let rest = Sample.product(state.remainders, name)
          for place in rest.indices { expected[place] += rest[place] }
        }
        #expect(difference(Sample.product(next.state, name), expected) < 1e-6)
      }
      #expect(next.relativeError < 1e-6)
      #expect(next.state["a.q.lora_A.weight"]?.shape == [8, 24])
      state = next.state
    }
  }

  @Test func `tensors beside low-rank pairs are averaged by every rule`() throws {
    for strategy in Self.means {
      let start: NamedTensors = ["bias": [0, 0], "magnitude": [1]]
      let next = try strategy.aggregate(
        [
          ClientUpdate(["bias": [1, 2], "magnitude": [3]], exampleCount: 1),
          ClientUpdate(["bias": [4, 5], "magnitude": [6]], exampleCount: 2),
        ], into: start)
      #expect(next.state == ["bias": [3, 4], "magnitude": [5]], "\(strategy.name)")
      #expect(next.relativeError == 0)
    }
  }

  @Test func `what a broadcast in few bits is off counts, also beside low-rank pairs`() throws {
    var accumulator = try FedAvg().makeAccumulator(into: ["bias": [0, 0]])
    try accumulator.add(ClientUpdate(["bias": [3, 4]], exampleCount: 1), scales: [:])
    _ = try accumulator.next()
    #expect(try accumulator.relativeError(of: ["bias": [3, 4]]) == 0)
    #expect(try abs(accumulator.relativeError(of: ["bias": [3, 4.5]]) - 0.1) < 1e-12)
    #expect(try abs(accumulator.relativeError(of: ["bias": [0, 0]]) - 1) < 1e-12)
  }

  @Test func `a rule leaves an adapter that all send back as it is`() throws {
    var random = SeededRandom(seed: 5, "same")
    let state = Sample.random([("x.q", outputs: 12, inputs: 9)], rank: 3, using: &random)
    for strategy in Self.means {
      let update = ClientUpdate(strategy.trained(of: state), exampleCount: 2)
      let next = try strategy.aggregate([update, update], into: state)
      let before = Sample.product(state, "x.q")
      #expect(difference(Sample.product(next.state, "x.q"), before) < 1e-6, "\(strategy.name)")
      #expect(next.relativeError < 1e-6)
    }
  }

  /// What clients did not get of the round's adapter, as it was sent in fewer bits, is in the next one.
  @Test func `what was lost in sending comes back, by every rule`() throws {
    var random = SeededRandom(seed: 8, "lossy")
    let layers = [("x.q", outputs: 12, inputs: 9)]
    var whole = Sample.random(layers, rank: 3, using: &random)
    whole["x.q.lora_magnitude_vector"] = [1.03, 2.06]
    for strategy in Self.means {
      var whole = whole
      if strategy.name.contains("ex") {
        whole["x.q.remainder_A.weight"] = randomTensor([1, 9], &random, scale: 0.2)
        whole["x.q.remainder_B.weight"] = randomTensor([12, 1], &random, scale: 0.2)
      }
      // The same rounded to quarters.
      let sent = whole.mapValues { tensor in
        Tensor(tensor.scalars.map { ($0 * 4).rounded() / 4 }, shape: tensor.shape)
      }
      var accumulator = try strategy.makeAccumulator(into: sent)
      // Clients learned nothing: they send back what they got.
      try accumulator.add(ClientUpdate(strategy.trained(of: sent), exampleCount: 3))
      try accumulator.restore(whole)
      let next = try accumulator.finish()
      let expected = Sample.product(whole, "x.q")
      #expect(difference(Sample.product(next.state, "x.q"), expected) < 1e-5, "\(strategy.name)")
      #expect(next.state["x.q.lora_magnitude_vector"] == [1.03, 2.06], "\(strategy.name)")
      // The error is that of what is sent against the mean of what clients sent.
      #expect(try accumulator.relativeError(of: sent) < 1e-6)
      #expect(next.relativeError > 0.01)
    }
  }

  @Test func `updates that do not fit are refused`() throws {
    let start = Sample.pair([1, 1], [0, 0])
    let fitting = Sample.pair([1, 2], [1, 2])
    for strategy in Self.means where !strategy.freezesDown {
      for (bad, words) in [
        ([Sample.down: Tensor([1, 1], shape: [1, 2])], "lacks"),
        (Sample.pair([1, 2, 3], [1, 2]), "does not fit"),
        (Sample.pair([1, 2, 3, 4], [1, 2], rank: 2), "does not fit"),
        (fitting.merging(["stranger": [1]]) { first, _ in first }, "'stranger'"),
      ] as [(NamedTensors, String)] {
        expectError(.badData, words) {
          _ = try strategy.aggregate([ClientUpdate(bad, exampleCount: 1)], into: start)
        }
      }
      expectError(.badData, "no update") { _ = try strategy.aggregate([], into: start) }
    }
  }
}
