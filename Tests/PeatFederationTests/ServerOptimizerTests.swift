import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

/// What a server optimizer makes of changes one after the other, at rate 1.
private func directions(
  _ optimizer: some ServerOptimizer, _ changes: [Double]
) -> [Double] {
  var (first, second) = (0.0, optimizer.secondAtFirst)
  return changes.map { optimizer.direction($0, first: &first, second: &second) }
}

private func expectClose(_ found: [Double], _ expected: [Double], _ tolerance: Double = 1e-12) {
  #expect(found.count == expected.count)
  for (a, b) in zip(found, expected) { #expect(abs(a - b) <= tolerance, "\(a) is not \(b)") }
}

@Suite("Server optimizers by hand") struct ServerOptimizerTests {
  private func settings(_ beta1: Double, _ beta2: Double) -> AdaptiveSettings {
    AdaptiveSettings(beta1: beta1, beta2: beta2, tau: 1)
  }

  @Test func `FedAvgM adds up changes`() {
    expectClose(directions(FedAvgM(momentum: 0.5), [1, 1, -2]), [1, 1.5, -1.25])
    expectClose(directions(FedAvgM(momentum: 0), [1, 7]), [1, 7])
  }

  @Test func `FedAdam divides by the root of v, which begins with τ²`() {
    // v: 1 → 0.625 + 0.375·1 = 1 → 0.625 + 0.375·9 = 4; m: 0.5, 1.75.
    expectClose(directions(FedAdam(settings(0.5, 0.625)), [1, 3]), [0.5 / 2, 1.75 / 3])
  }

  @Test func `FedYogi goes toward Δ² by no more than (1 − β₂)·Δ²`() {
    // v: 1 stays 1, then 1 + 9/3 = 4, then 4 − 1/3.
    expectClose(
      directions(FedYogi(settings(0.5, 2 / 3)), [1, 3, 1]),
      [0.5 / 2, 1.75 / 3, 1.375 / ((11 / 3).squareRoot() + 1)])
  }

  @Test func `FedAdagrad adds squares up`() {
    // v: 1 + 3 = 4, 4 + 5 = 9.
    let (a, b) = (3.0.squareRoot(), 5.0.squareRoot())
    expectClose(directions(FedAdagrad(settings(0, 0)), [a, b]), [a / 3, b / 4])
  }

  @Test func `a strategy steps from the adapter toward the mean, and remembers`() throws {
    var options = StrategyOptions()
    (options.serverMomentum, options.serverLearningRate) = (0.5, 2)
    let strategy = try Strategies.named("fedavgm", options)
    var round = AggregationRound()
    // The mean is 1: Δ = 1, m = 1, x = 2.
    let updates = [
      ClientUpdate(["a": [0]], exampleCount: 3), ClientUpdate(["a": [4]], exampleCount: 1),
    ]
    let first = try strategy.aggregate(updates, into: ["a": [0]], round)
    #expect(first.state == ["a": [2]])
    #expect(first.memory.rounds == 1)
    // Δ = 1 − 2 = −1, m = −0.5, x = 1; at half the rate x = 1.5.
    round.state = first.memory
    #expect(try strategy.aggregate(updates, into: first.state, round).state == ["a": [1]])
    round.rateFactor = 0.5
    #expect(try strategy.aggregate(updates, into: first.state, round).state == ["a": [1.5]])
  }

  @Test func `with momentum 0 and rate 1 it is the mean`() throws {
    var options = StrategyOptions()
    options.serverMomentum = 0
    let updates = [
      ClientUpdate(["a": [1, 2]], exampleCount: 1), ClientUpdate(["a": [4, 5]], exampleCount: 2),
    ]
    let next = try Strategies.named("fedavgm", options).aggregate(updates, into: ["a": [7, 8]])
    #expect(next.state == ["a": [3, 4]])
    #expect(next.memory.tensors.isEmpty)
  }

  @Test func `scaling each value by itself is refused where only products are known`() {
    for rule in ["fedex", "product", "product-exact"] {
      for optimizer in ["adam", "yogi", "adagrad"] {
        var options = StrategyOptions()
        options.serverOptimizer = optimizer
        expectError(.usage, "never written out") { _ = try Strategies.named(rule, options) }
      }
    }
  }

  @Test func `options that contradict the strategy, or make no sense, are refused`() {
    for (name, change, words) in [
      ("fedadam", { $0.serverOptimizer = "momentum" }, "Leave one of both out"),
      ("fedavg", { $0.serverOptimizer = "adamm" }, "Did you mean 'adam'?"),
      ("fedavg", { $0.serverMomentum = 1 }, "serverMomentum"),
      ("fedavg", { $0.serverLearningRate = 0 }, "serverLearningRate"),
      ("fedadam", { $0.serverTau = 0 }, "serverTau"),
      ("fedavg", { $0.normBound = -.infinity }, "normBound"),
      ("median", { $0.serverOptimizer = "adam" }, "'median'"),
      ("krum", { $0.normBound = 1 }, "'krum'"),
      ("scaffold", { $0.serverOptimizer = "adam" }, "'scaffold'"),
      ("fedavg", { $0.serverBeta2 = 0.9 }, "serverBeta2"),
      ("fedavgm", { $0.serverTau = 0.1 }, "serverTau"),
      ("fedavg", { $0.serverMomentum = 0.5 }, "serverMomentum"),
      ("median", { $0.faultyClients = 1 }, "faultyClients"),
      ("krum", { $0.krumKeeps = 1 }, "krumKeeps"),
      ("fedavg", { $0.trimmedShare = 0.2 }, "trimmedShare"),
    ] as [(String, (inout StrategyOptions) -> Void, String)] {
      var options = StrategyOptions()
      change(&options)
      expectError(.usage, words) { _ = try Strategies.named(name, options) }
    }
  }
}

@Suite("Server steps on products") struct ProductStepTests {
  private static let layers = [("a.q", outputs: 12, inputs: 9), ("a.v", outputs: 7, inputs: 16)]

  /// Some rounds of clients that send random pairs, whatever they are given.
  private func rounds(
    _ count: Int, seed: UInt64, rank: Int = 3
  ) -> (start: NamedTensors, updates: [[ClientUpdate]]) {
    var random = SeededRandom(seed: seed, "products")
    func adapter() -> NamedTensors {
      var result: NamedTensors = ["x.bias": randomTensor([5], &random, scale: 0.3)]
      for (name, outputs, inputs) in Self.layers {
        result[name + ".lora_A.weight"] = randomTensor([rank, inputs], &random, scale: 0.3)
        result[name + ".lora_B.weight"] = randomTensor([outputs, rank], &random, scale: 0.3)
      }
      return result
    }
    return (
      adapter(),
      (0..<count).map { _ in
        (0..<2).map { ClientUpdate(adapter(), exampleCount: 1 + 2 * $0) }
      }
    )
  }

  private func product(_ state: NamedTensors, _ layer: String) -> [Double] {
    var result: [Double] = []
    for word in ["lora", "remainder"] {
      guard let a = state["\(layer).\(word)_A.weight"], let b = state["\(layer).\(word)_B.weight"]
      else { continue }
      let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0])
      if result.isEmpty { result = Array(repeating: 0, count: inputs * outputs) }
      let (first, second) = (b.scalars.map { Double($0) }, a.scalars.map { Double($0) })
      for i in 0..<outputs {
        for j in 0..<inputs {
          for k in 0..<rank {
            result[i * inputs + j] += first[i * rank + k] * second[k * inputs + j]
          }
        }
      }
    }
    return result
  }

  private func strategy(
    _ name: String, momentum: Double, rate: Double
  ) throws -> any AggregationStrategy {
    var options = StrategyOptions()
    options.serverOptimizer = "momentum"
    (options.serverMomentum, options.serverLearningRate) = (momentum, rate)
    return try Strategies.named(name, options)
  }

  /// The same with matrices written out: M ← β·M + (P̄ − P), P ← P + η·M.
  @Test(arguments: ["product-exact", "fedex"])
  func `momentum in factors is that of the matrices`(rule: String) throws {
    let (start, updates) = rounds(4, seed: 3)
    let strategy = try strategy(rule, momentum: 0.5, rate: 1.5)
    var (state, round) = (start, AggregationRound())
    var matrices = Self.layers.map { product(start, $0.0) }
    var momentum = matrices.map { $0.map { _ in 0.0 } }
    for clients in updates {
      let remainders = Self.layers.map { product(state.remainders, $0.0) }
      let next = try strategy.aggregate(clients, into: state, round)
      for (place, layer) in Self.layers.enumerated() {
        let sent = clients.map { product($0.tensors, layer.0) }
        for i in matrices[place].indices {
          let rest = remainders[place].isEmpty ? 0 : remainders[place][i]
          let mean = 0.25 * sent[0][i] + 0.75 * sent[1][i] + rest
          momentum[place][i] = 0.5 * momentum[place][i] + mean - matrices[place][i]
          matrices[place][i] += 1.5 * momentum[place][i]
        }
        let found = product(next.state, layer.0)
        let worst = zip(found, matrices[place]).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(worst < 2e-6)
      }
      #expect(next.relativeError < 1e-6)
      #expect((next.notes["momentumCut"] ?? 1) < 1e-6)
      (state, round.state) = (next.state, next.memory)
    }
  }

  @Test func `what the momentum of a product is cut by is told`() throws {
    // Rank 1 keeps 4 components of up to 9; each round adds two clients' and the adapter's.
    let (start, updates) = rounds(3, seed: 4, rank: 1)
    let strategy = try strategy("product", momentum: 0.9, rate: 1)
    var (state, round) = (start, AggregationRound())
    var cuts: [Double] = []
    for clients in updates {
      let next = try strategy.aggregate(clients, into: state, round)
      cuts.append(next.notes["momentumCut"] ?? -1)
      #expect(next.memory.tensors["product.a.q.lora_A.weight"]?.shape[0] ?? 9 <= 4)
      (state, round.state) = (next.state, next.memory)
    }
    #expect(cuts[0] < 1e-6)
    #expect(cuts[2] > 1e-3 && cuts[2] < 0.5)
  }

  /// The strategy's state is all there is beside the adapter.
  @Test(arguments: ["product-exact", "product", "fedex", "fedavg", "ffa", "fedadam", "fedyogi"])
  func `a run that goes on from a saved state makes the same bits`(name: String) throws {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("state.safetensors")
      let (start, updates) = rounds(4, seed: 6)
      let isAdaptive = name == "fedadam" || name == "fedyogi"
      let strategy =
        isAdaptive
        ? try Strategies.named(name) : try strategy(name, momentum: 0.7, rate: 1.2)
      func run(stopping: Bool) throws -> NamedTensors {
        var (state, round) = (start, AggregationRound())
        for clients in updates {
          let sent = clients.map {
            ClientUpdate(strategy.trained(of: $0.tensors), exampleCount: $0.exampleCount)
          }
          let next = try strategy.aggregate(sent, into: state, round)
          (state, round.state) = (next.state, next.memory)
          if stopping {
            try round.state.write(to: file)
            round.state = try StrategyState(contentsOf: file)
            #expect(round.state == next.memory)
          }
        }
        return state
      }
      let (stopped, whole) = (try run(stopping: true), try run(stopping: false))
      #expect(stopped == whole)
    }
  }

  @Test func `another strategy's state, or another adapter's, is refused`() throws {
    let (start, updates) = rounds(1, seed: 7)
    var round = AggregationRound()
    round.state = try Strategies.named("fedadam").aggregate(updates[0], into: start).memory
    expectError(.badData, "is of 'adam'") {
      _ = try Strategies.named("fedyogi").aggregate(updates[0], into: start, round)
    }
    expectError(.badData, "another adapter") {
      _ = try Strategies.named("fedadam").aggregate(
        [ClientUpdate(["x.bias": [1]], exampleCount: 1)], into: ["x.bias": [0]], round)
    }
    let momentum = try strategy("product", momentum: 0.5, rate: 1)
    let ofValues = try strategy("fedavg", momentum: 0.5, rate: 1)
    round.state = try ofValues.aggregate(updates[0], into: start).memory
    expectError(.badData, "on the values of A and B") {
      _ = try momentum.aggregate(updates[0], into: start, round)
    }
    round.state = try strategy("fedex", momentum: 0.5, rate: 1)
      .aggregate(updates[0], into: start).memory
    expectError(.badData, "on products") {
      _ = try ofValues.aggregate(updates[0], into: start, round)
    }
    round.state = try momentum.aggregate(updates[0], into: start).memory
    let other: NamedTensors = [
      "a.q.lora_A.weight": Tensor(zeros: [1, 4]), "a.q.lora_B.weight": Tensor(zeros: [4, 1]),
    ]
    expectError(.badData, "another adapter") {
      _ = try momentum.aggregate([ClientUpdate(other, exampleCount: 1)], into: other, round)
    }
  }

  @Test func `a file that is no state is refused`() throws {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("state.safetensors")
      try SafeTensors.write(["a": [1]], to: file)
      expectError(.badData, "no state of a strategy") { _ = try StrategyState(contentsOf: file) }
      var state = StrategyState()
      state.owner = "adam"
      state.tensors = ["first.a": [.nan]]
      try state.write(to: file)
      expectError(.badData, "not finite") { _ = try StrategyState(contentsOf: file) }
    }
  }
}
