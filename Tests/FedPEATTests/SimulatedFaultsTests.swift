import FedPEAT
import Foundation
import PeatFederation
import PeatTensor
import Testing

@Suite("Faults of a simulation") struct SimulatedFaultsTests {
  /// Moves each value by 1.
  private struct Stepper: LocalTrainer {
    func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
      LocalResult(tensors: adapter.mapValues { $0.map { $0 + 1 } }, exampleCount: 5)
    }
  }

  private func task(of client: ClientID, round: Int) -> TrainingTask {
    let blob = BlobReference(digest: Digest(of: Data()), bytes: 0)
    return TrainingTask(
      run: "run", round: round, client: client, adapter: blob, baseDigest: blob.digest, seed: 0)
  }

  /// What each of four rounds sends of an adapter of one value, the round's number; the first client is the hostile one.
  private func sent(_ words: [String]) async throws -> [Float] {
    let faults = SimulatedFaults(
      dropouts: 0, attackers: 0.5, attacks: try words.map(SimulatedFaults.Attack.init))
    let trainer = FaultyTrainer(Stepper(), faults, number: 0, seed: 1)
    var sent: [Float] = []
    for round in 1...4 {
      let result = try await trainer.train(
        task(of: "a", round: round), adapter: ["w": Tensor([Float(round)])])
      #expect(result.exampleCount == 5)
      sent.append(result.tensors["w"]?.scalars.first ?? 0)
    }
    return sent
  }

  @Test func `each attack sends what it says, and several take turns`() async throws {
    #expect(try await sent(["sign-flip"]) == [0, 1, 2, 3])
    #expect(try await sent(["sign-flip=2"]) == [-1, 0, 1, 2])
    #expect(try await sent(["scaled"]) == [11, 12, 13, 14])
    #expect(try await sent(["scaled=3"]) == [4, 5, 6, 7])
    #expect(try await sent(["stale"]) == [2, 2, 2, 2])
    #expect(try await sent(["nan"]).allSatisfy(\.isNaN))
    // Of round r the (0 + r)-th.
    #expect(try await sent(["stale", "scaled"]) == [11, 2, 13, 2])
  }

  @Test func `who is hostile, and who drops out, is chance of the seed alone`() async throws {
    let faults = SimulatedFaults(dropouts: 0.2, attackers: 0.1, attacks: [.nan])
    #expect(faults.hostile(among: 16, seed: 3).count == 2)
    #expect(faults.hostile(among: 16, seed: 3) == faults.hostile(among: 16, seed: 3))
    #expect(Set((0..<20).map { faults.hostile(among: 16, seed: $0) }).count > 10)
    #expect(faults.hostile(among: 3, seed: 3).count == 1)
    var parts = 0
    for round in 1...100 {
      for client in 0..<16 {
        let name = try ClientID("client-\(client)")
        #expect(
          faults.dropsOut(name, in: round, seed: 1) == faults.dropsOut(name, in: round, seed: 1))
        if faults.dropsOut(name, in: round, seed: 1) { parts += 1 }
      }
    }
    #expect((260...380).contains(parts), "\(parts) of 1600")
    // Who failed once does not fail for ever.
    let again = (1...20).map { faults.dropsOut("a", in: 1, attempt: $0, seed: 1) }
    #expect(again.contains(true) && again.contains(false))
    let trainer = FaultyTrainer(
      Stepper(), SimulatedFaults(dropouts: 0.999999, attackers: 0, attacks: []), number: nil,
      seed: 0)
    await #expect(throws: PeatError.self) {
      try await trainer.train(task(of: "a", round: 1), adapter: [:])
    }
  }

  @Test(arguments: [
    ("attackers: 0.1", "belong together"), ("attacks: nan", "belong together"),
    ("attackers: 1\nattacks: nan", "attackers is 1"), ("clientDropouts: -0.1", "clientDropouts"),
    ("attackers: 0.1\nattacks: [sign-flop]", "Did you mean 'sign-flip'?"),
    ("attackers: 0.1\nattacks: [scaled=x]", "scaled=10"),
    ("attackers: 0.1\nattacks: [nan=3]", "takes no number"),
  ])
  func `what makes no sense is refused`(text: String, says: String) throws {
    var configuration = RunConfiguration()
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ": ")
      let value = String(parts[1])
      switch parts[0] {
      case "attackers": configuration.attackers = Double(value) ?? -1
      case "clientDropouts": configuration.clientDropouts = Double(value) ?? -1
      default: configuration.attacks = [value.trimmingCharacters(in: ["[", "]"])]
      }
    }
    let error = #expect(throws: PeatError.self) { try configuration.faults }
    #expect(error?.message.contains(says) == true, "\(String(describing: error))")
  }

  @Test func `a coordinator of real clients spoils none`() throws {
    var configuration = RunConfiguration()
    try configuration.checkNoFaults()
    configuration.clientDropouts = 0.1
    #expect(throws: PeatError.self) { try configuration.checkNoFaults() }
  }
}
