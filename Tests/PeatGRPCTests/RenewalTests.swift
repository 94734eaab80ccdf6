import Foundation
import PeatFederation
import PeatTensor
import Testing

/// Emulators that are made anew during a run.
@Suite("Renewed emulators", .timeLimit(.minutes(10))) struct RenewalTests {
  @Test(arguments: TransportKind.allCases)
  func `clients fetch a new copy when they next train on its level, and only then`(
    kind: TransportKind
  ) async throws {
    try await withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("renewed")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
      try Data(repeating: 9, count: 500).write(
        to: place.appendingPathComponent("model.safetensors"))
      let told = Log<Set<Int>>()
      let federation = try await Federation(
        kind, in: folder, rules: RoundRules(rounds: 4, minimumClients: 3),
        renewal: { round, inUse, store in
          await told.add(inUse)
          guard round == 2 else { return [:] }
          // The other level too, which nobody trains on.
          let package = try await Package(folder: place, store: store)
          return [
            0: RenewedLevel(package: package, contents: [:]),
            1: RenewedLevel(package: package, contents: [:]),
          ]
        })
      let (run, clients) = try await federation.run(TransportTests.trainers())
      #expect(run.ending == .completed)
      #expect(run.rounds.map(\.renewedLevels) == [[], [0, 1], [], []])
      // Asked before each round but the first; everyone trains on the first level.
      #expect(await told.values == [[0], [0], [0]])
      // It is told of after the round has ended.
      let said = await federation.progress.values.compactMap { event in
        switch event {
        case .roundEnded(let record): "end \(record.round)"
        case .levelRenewed(let level, let round, _): "level \(level) from \(round)"
        default: nil
        }
      }
      if kind == .inMemory { #expect(said.contains("level 0 from 3")) }
      let adapter = SafeTensors.encode(ToyTrainer.adapter).count
      for (id, client) in clients {
        #expect(client.updates == 4)
        #expect(client.bytesDown == 4 * adapter + 1000 + 12 + 500, "\(id)")
      }
      // The second copy came in the third round.
      #expect(
        run.rounds.map { $0.outcomes[0].bytesDown }
          == [adapter + 1012, adapter, adapter + 500, adapter])
    }
  }

  @Test func `a renewed level that is damaged ends the run with the reason`() async throws {
    try await withTemporaryFolder { folder in
      let federation = try await Federation(
        .inMemory, in: folder, rules: RoundRules(rounds: 3, minimumClients: 3),
        renewal: { _, _, _ in [7: RenewedLevel(package: Package(files: []), contents: [:])] })
      let error = await #expect(throws: PeatError.self) {
        _ = try await federation.run(TransportTests.trainers())
      }
      #expect(error?.message.contains("level 7") == true, "\(error?.message ?? "")")
    }
  }
}
