import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

/// Federations whose updates and adapters travel in fewer bytes.
@Suite("Updates in fewer bytes", .timeLimit(.minutes(10))) struct EncodedUpdateTests {
  private static let rules = RoundRules(rounds: 12, minimumClients: 2)
  private static let names: [ClientID] = ["anna", "bo"]

  private func trainers() -> [ClientID: ToyTrainer] {
    ["anna": ToyTrainer(target: 1, examples: 10), "bo": ToyTrainer(target: -2, examples: 30)]
  }

  private func run(
    _ kind: TransportKind, upload: String, download: String = "f32",
    strategy: any AggregationStrategy = .fedAvg
  ) async throws -> (RunReport, [ClientID: ClientReport]) {
    try await withTemporaryFolder { folder in
      try await Federation(
        kind, in: folder, rules: Self.rules, upload: UpdateEncoding(word: upload),
        download: UpdateEncoding(word: download), strategy: strategy
      ).run(trainers())
    }
  }

  /// The largest distance between two adapters' values.
  private func distance(_ left: NamedTensors, _ right: NamedTensors) -> Float {
    left.reduce(0) { most, item in
      let other = right[item.key]?.scalars ?? []
      return zip(item.value.scalars, other).reduce(most) { max($0, abs($1.0 - $1.1)) }
    }
  }

  @Test(arguments: [
    ("f16", "f32", 0.002), ("bf16", "bf16", 0.05), ("int8", "f32", 0.02), ("int8", "int8", 0.2),
    ("int4", "f32", 0.3), ("top-k=0.5,int8", "f32", 1.5), ("f32", "int4", 1.5),
  ])
  func `clients deliver them over both transports to the same bits, and near what f32 gives`(
    upload: String, download: String, bound: Double
  ) async throws {
    let plain = try await run(.inMemory, upload: "f32").0
    let (first, reports) = try await run(.inMemory, upload: upload, download: download)
    let second = try await run(.gRPC, upload: upload, download: download).0
    #expect(first.adapter == second.adapter)
    #expect(first.adapter != plain.adapter)
    #expect(Double(distance(first.adapter, plain.adapter)) <= bound)

    let shapes = ToyTrainer.adapter.mapValues(\.shape)
    let up = try UpdateEncoding(word: upload).byteCount(shapes)
    let down = try BroadcastAdapter.byteCount(shapes, as: UpdateEncoding(word: download))
    for id in Self.names {
      let report = try #require(reports[id])
      #expect(report.updates == 12 && report.refusals == 0 && report.failures == 0)
      #expect(report.bytesUp == 12 * up)
      #expect(report.bytesDown == 12 * down + 1000 + 12)
      #expect(first.traffic[id]?.bytesDown == report.bytesDown)
      #expect(
        first.rounds.last?.outcomes.first(where: { $0.client == id })?.telemetry?.bytesUp == up)
    }
  }

  @Test func `what top-k keeps back arrives later, but for rules that make factors anew`()
    async throws
  {
    // One of ten values a round: with nothing carried over the others would never move.
    let start = ToyTrainer.adapter
    let (report, _) = try await run(.inMemory, upload: "top-k=0.1,f32")
    let still = start.reduce(0) { sum, item in
      sum + zip(item.value.scalars, report.adapter[item.key]?.scalars ?? []).count { $0 == $1 }
    }
    #expect(still < 5)

    try await withTemporaryFolder { folder in
      let trainer = ToyTrainer(target: 1)
      let federation = try await Federation(
        .gRPC, in: folder, rules: RoundRules(rounds: 2, minimumClients: 1),
        upload: UpdateEncoding(word: "int8"), strategy: ProductFactors())
      _ = try await federation.run(["anna": trainer])
      #expect(await trainer.seen.tasks.allSatisfy { $0.countedRound == nil && $0.uploadBits == 8 })
    }
  }

  @Test(arguments: TransportKind.allCases)
  func `a task says in which round the client's last update counted`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      var anna = ToyTrainer(target: 1)
      // Her update of round 2 is refused.
      anna.corrupt = { task, result in if task.round == 2 { result.exampleCount = 0 } }
      let bo = ToyTrainer(target: -2)
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 4, minimumClients: 2),
        upload: UpdateEncoding(word: "top-k=0.5,int4"))
      let (run, clients) = try await federation.run(["anna": anna, "bo": bo])
      #expect(run.ending == .completed)
      #expect(clients["anna"]?.refusals == 1)
      #expect(await anna.seen.tasks.map(\.countedRound) == [0, 1, 1, 3])
      #expect(await bo.seen.tasks.map(\.countedRound) == [0, 1, 2, 3])
      #expect(await bo.seen.tasks.allSatisfy { $0.upload == "top-k=0.5,int4" })
    }
  }

  @Test(arguments: Strategies.names)
  func `an adapter in few bits does not lose what rounding takes from it`(
    name: String
  ) async throws {
    // Nobody moves it: it stays what it is, however coarse the broadcast.
    try await withTemporaryFolder { folder in
      let strategy = try Strategies.named(name)
      var random = SeededRandom(seed: 4, "pair")
      let start: NamedTensors = [
        "layers.0.q.lora_A.weight": randomTensor([2, 5], &random),
        "layers.0.q.lora_B.weight": randomTensor([4, 2], &random),
        "layers.0.q.lora_magnitude_vector": randomTensor([4], &random),
      ]
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 20, minimumClients: 1),
        download: UpdateEncoding(word: "int4"), strategy: strategy, adapter: start)
      let client = try federation.client("anna", StillTrainer(strategy: strategy))
      async let working = client.run()
      let run = try await federation.coordinator.run()
      _ = try await working
      let found = run.adapter
      let pairs = Set(
        start.lowRankLayers.flatMap { ["\($0).lora_A.weight", "\($0).lora_B.weight"] })
      #expect(
        distance(
          found.filter { start[$0.key] != nil && !pairs.contains($0.key) },
          start.filter { !pairs.contains($0.key) }) < 1e-5)
      for layer in start.lowRankLayers {
        let before = try #require(start.pair(of: layer))
        var sum = FactorSum(rows: before.up.shape[0], columns: before.down.shape[1])
        try sum.add(1, before)
        let norm = sum.norm
        for pair in [found.pair(of: layer), found.remainder(of: layer)] {
          if let pair { try sum.add(-1, pair) }
        }
        #expect(sum.norm < 1e-4 * norm, "\(layer): \(sum.norm) of \(norm)")
      }
      // What was sent is that coarse, and the rounds say so; robust rules have no mean to compare with.
      let robust: Set = ["median", "trimmed-mean", "krum", "multi-krum"]
      #expect(
        robust.contains(name) || run.rounds.allSatisfy { (1e-3...1).contains($0.aggregationError) })
    }
  }

  @Test func `the adapter can't be sent in part`() async throws {
    await #expect(throws: PeatError.self) {
      try await withTemporaryFolder { folder in
        _ = try await Federation(
          .inMemory, in: folder, rules: Self.rules,
          download: UpdateEncoding(word: "top-k=0.5,int8"))
      }
    }
  }
}

/// Gives back what it was sent.
private struct StillTrainer: LocalTrainer {
  let strategy: any AggregationStrategy

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    LocalResult(tensors: strategy.trained(of: adapter), exampleCount: 1)
  }
}
