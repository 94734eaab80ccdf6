import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

/// Goes down `h/2 · (w − target)²` by its own steps, corrected as the coordinator says.
private struct QuadraticTrainer: LocalTrainer {
  let curvature: Float
  let target: Float
  var proximal: Float = 0

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    var state = adapter.withoutControls
    let (start, shift) = (state, adapter.controls)
    var sums = shift.mapValues { $0.map { _ in 0 } }
    let (steps, rate): (Int, Float) = (10, 0.1)
    for _ in 0..<steps {
      for (name, tensor) in state {
        let (own, from) = (tensor.scalars, start[name]?.scalars ?? [])
        let correction = shift[name]?.scalars
        let gradient = own.map { curvature * ($0 - target) }
        state[name] = Tensor(
          own.indices.map {
            own[$0] - rate
              * (gradient[$0] + proximal * (own[$0] - from[$0]) + (correction?[$0] ?? 0))
          }, shape: tensor.shape)
        if let sum = sums[name]?.scalars {
          sums[name] = Tensor(
            sum.indices.map { sum[$0] + gradient[$0] / Float(steps) }, shape: tensor.shape)
        }
      }
    }
    return LocalResult(tensors: state.settingControls(sums), exampleCount: 1)
  }
}

@Suite("SCAFFOLD in a federation", .timeLimit(.minutes(10))) struct ScaffoldFederationTests {
  private func run(
    _ kind: TransportKind, _ strategy: any AggregationStrategy, upload: String = "f32",
    rounds: Int = 60
  ) async throws -> RunReport {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: rounds, minimumClients: 2),
        upload: UpdateEncoding(word: upload), strategy: strategy, adapter: ["w": [0, 3]])
      let clients = [
        try federation.client("flat", QuadraticTrainer(curvature: 1, target: 1)),
        try federation.client("steep", QuadraticTrainer(curvature: 4, target: -2)),
      ]
      return try await withThrowingTaskGroup(of: Void.self) { group in
        for client in clients { group.addTask { _ = try await client.run() } }
        let report = try await federation.coordinator.run()
        try await group.waitForAll()
        return report
      }
    }
  }

  /// The minimum of both together is at (1·1 + 4·(−2)) / 5. FedAvg ends elsewhere, as each client goes nearly all the way to its own.
  @Test func `it ends where all data together would, and FedAvg does not`() async throws {
    let best: Float = -1.4
    let mean = try await run(.inMemory, .fedAvg)
    for value in mean.adapter["w"]?.scalars ?? [] { #expect(abs(value - best) > 0.3) }
    let report = try await run(.inMemory, Scaffold())
    #expect(Set(report.adapter.keys) == ["w"])
    for value in report.adapter["w"]?.scalars ?? [] { #expect(abs(value - best) < 1e-3) }
    #expect(report.strategyState.clients == ["flat": 1, "steep": 1])
    // Both ways twice the values.
    let (up, plain) = (report.rounds[1].outcomes[0].bytesUp, mean.rounds[1].outcomes[0].bytesUp)
    #expect(up > plain)
    #expect(
      try await run(.gRPC, Scaffold(), rounds: 5).adapter
        == run(.inMemory, Scaffold(), rounds: 5).adapter)
  }

  @Test func `control variates may travel in fewer bits`() async throws {
    let report = try await run(.inMemory, Scaffold(), upload: "int8", rounds: 100)
    for value in report.adapter["w"]?.scalars ?? [] { #expect(abs(value + 1.4) < 0.05) }
  }

  private func task(round: Int, counted: Int) throws -> TrainingTask {
    var task = TrainingTask(
      run: "run", round: round, client: "anna",
      adapter: BlobReference(digest: Digest(of: Data()), bytes: 0),
      baseDigest: Digest(of: Data([UInt8(round)])), seed: 1)
    task.countedRound = counted
    return task
  }

  @Test func `a client goes on from what counted, and from c where its own is lost`() throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("fedpeat-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let shared: NamedTensors = ["w": [7]]
    var controls = ControlVariates(in: folder)
    #expect(controls.own(for: try task(round: 1, counted: 0), shared) == ["w": [0]])
    try controls.keep(["w": [3]], before: ["w": [0]], of: try task(round: 1, counted: 0))
    // Another process reads them.
    var again = ControlVariates(in: folder)
    try again.restore { Issue.record("\($0)") }
    #expect(again.own(for: try task(round: 2, counted: 1), shared) == ["w": [3]])
    #expect(again.own(for: try task(round: 2, counted: 0), shared) == ["w": [0]])
    // What is damaged is told of, and lost.
    let file = folder.appendingPathComponent("control-variates.safetensors")
    try Data("noise".utf8).write(to: file)
    var reasons: [String] = []
    again = ControlVariates(in: folder)
    try again.restore { reasons.append($0) }
    #expect(reasons.count == 1 && !FileManager.default.fileExists(atPath: file.path))
    #expect(again.own(for: try task(round: 3, counted: 1), shared) == shared)
    // Of another adapter.
    try again.keep(["w": [3]], before: ["w": [0]], of: try task(round: 3, counted: 1))
    let other: NamedTensors = ["w": [7, 8]]
    #expect(again.own(for: try task(round: 4, counted: 3), other) == other)
  }
}

/// A server optimizer in a whole run.
@Suite("Server optimizers in a federation", .timeLimit(.minutes(10)))
struct ServerOptimizerFederationTests {
  @Test func `momentum gets farther in as many rounds, over both transports to the same bits`()
    async throws
  {
    func run(_ kind: TransportKind, _ word: String) async throws -> RunReport {
      try await withTemporaryFolder { folder in
        try await Federation(
          kind, in: folder, rules: RoundRules(rounds: 4, minimumClients: 2),
          strategy: Strategies.named(word)
        ).run(["anna": ToyTrainer(target: 30), "bo": ToyTrainer(target: 20)]).run
      }
    }
    let first = try await run(.inMemory, "fedavgm")
    #expect(try await run(.gRPC, "fedavgm").adapter == first.adapter)
    #expect(first.strategyState.rounds == 4 && first.strategyState.owner == "momentum")
    let plain = try await run(.inMemory, "fedavg")
    #expect(plain.adapter != first.adapter)
    #expect(plain.strategyState == StrategyState())
  }

  @Test func `robust rules run over updates on disk`() async throws {
    for word in ["median", "trimmed-mean", "krum", "multi-krum"] {
      try await withTemporaryFolder { folder in
        let report = try await Federation(
          .inMemory, in: folder, rules: RoundRules(rounds: 2, minimumClients: 5),
          strategy: Strategies.named(word)
        ).run([
          "anna": ToyTrainer(target: 1), "bo": ToyTrainer(target: 1.1), "cy": ToyTrainer(target: 1),
          "di": ToyTrainer(target: 0.9),
          "eve": ToyTrainer(target: 1e6, examples: 1000),
        ]).run
        #expect(report.rounds.count == 2)
        let values = report.adapter.values.flatMap(\.scalars)
        #expect(values.allSatisfy { word == "trimmed-mean" || abs($0) < 10 }, "\(word)")
      }
    }
  }
}
