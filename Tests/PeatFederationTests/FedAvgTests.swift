import PeatFederation
import PeatTensor
import Testing

@Suite("FedAvg") struct FedAvgTests {
  @Test func `weights each client by its number of examples`() throws {
    let updates = [
      ClientUpdate(["lora_a": [1, 2]], exampleCount: 1),
      ClientUpdate(["lora_a": [4, 5]], exampleCount: 2),
    ]
    let next = try FedAvg().aggregate(updates, into: ["lora_a": [0, 0]]).state
    #expect(next == ["lora_a": [3, 4]])
  }

  @Test func `one client's adapter comes back unchanged`() throws {
    let tensors: NamedTensors = ["a": [0.1, -3.7e-12, 1e30], "b": Tensor([1, 2], shape: [2, 1])]
    let next = try FedAvg().aggregate(
      [ClientUpdate(tensors, exampleCount: 7)], into: tensors.mapValues { $0.map { _ in 0 } }
    ).state
    #expect(next == tensors)
  }

  @Test func `sums in float64, so that small values are not lost beside large ones`() throws {
    // In float32, 1e8 + 1 = 1e8.
    let updates = [Float(1e8), 1, -1e8].map { ClientUpdate(["a": [$0]], exampleCount: 1) }
    let next = try FedAvg().aggregate(updates, into: ["a": [0]]).state
    #expect(next == ["a": [Float(1.0 / 3.0)]])
  }

  @Test func `an update with other names or shapes is an error`() {
    let first = ClientUpdate(["a": [1, 2]], exampleCount: 1)
    for other in [["b": [1, 2]], ["a": [1, 2, 3]], ["a": [1, 2], "b": [1]]] as [NamedTensors] {
      #expect(throws: PeatError.self) {
        try FedAvg().aggregate(
          [first, ClientUpdate(other, exampleCount: 1)], into: ["a": [0, 0]])
      }
    }
    #expect(throws: PeatError.self) { try FedAvg().aggregate([first], into: ["a": [0]]) }
    #expect(throws: PeatError.self) { try FedAvg().aggregate([], into: ["a": [0]]) }
    #expect(throws: PeatError.self) {
      try FedAvg().aggregate([ClientUpdate(["a": [1]], exampleCount: 0)], into: ["a": [0]])
    }
  }

  @Test func `is found by name, and a misspelt name is told the nearest`() throws {
    #expect(try Strategies.named("fedavg") is FedAvg)
    let error = #expect(throws: PeatError.self) { try Strategies.named("fedagv") }
    #expect(error?.code == .usage)
    #expect(error?.message.contains("Did you mean 'fedavg'?") == true)
  }
}

@Suite("ServerParticipation") struct ServerParticipationTests {
  private func mixing(
    _ clients: NamedTensors, with server: NamedTensors, share: Double
  ) throws -> NamedTensors {
    var accumulator = try FedAvg().makeAccumulator(into: clients)
    try accumulator.add(ClientUpdate(clients, exampleCount: 3))
    try accumulator.add(server: server, share: share)
    return try accumulator.finish().state
  }

  @Test func `mixes the server's adapter by its weight`() throws {
    #expect(try mixing(["a": [0, 4]], with: ["a": [8, 8]], share: 0.25) == ["a": [2, 5]])
  }

  @Test func `with weight 0 the server changes nothing, whatever it has`() throws {
    #expect(try mixing(["a": [0.1]], with: ["a": [.nan]], share: 0) == ["a": [0.1]])
  }

  @Test func `a server's adapter that does not fit is an error`() {
    for server in [["b": [1]], ["a": [1, 2]], ["a": [.infinity]]] as [NamedTensors] {
      #expect(throws: PeatError.self) { try mixing(["a": [1]], with: server, share: 0.5) }
    }
  }

  @Test(arguments: [-0.1, 1, 1.5, .nan]) func `a weight outside of 0..<1 is refused`(weight: Double)
  {
    #expect(throws: PeatError.self) {
      try ServerParticipation(weight: weight, trainer: IdleTrainer())
    }
  }
}

private struct IdleTrainer: LocalTrainer {
  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    LocalResult(tensors: adapter, exampleCount: 1)
  }
}
