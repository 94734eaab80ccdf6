import Foundation
import PeatControl
import PeatTensor
import TestSupport
import Testing

@Suite("Controller training") struct ControllerTrainingTests {
  /// Everyone is sent the smallest emulator in every round.
  private struct Smallest: ControlPolicy {
    func decide(_ environment: TwoDeviceEnvironment, into actions: UnsafeMutablePointer<Int32>) {
      for device in 0..<environment.count * environment.shape.devices {
        let own = actions + device * environment.shape.branches.count
        (own[0], own[1], own[2]) = (1, 1, 2)
      }
    }
  }

  private func configuration() -> ControllerTrainingConfiguration {
    var configuration = ControllerTrainingConfiguration()
    configuration.network = NetworkConfiguration(.shared, width: 8)
    configuration.processes = 4
    configuration.ppo.rounds = 10
    configuration.ppo.minibatch = 20
    configuration.steps = 4 * 10 * 25
    var cloning = CloningSettings()
    cloning.rounds = 30
    cloning.iterations = 3
    cloning.epochs = 2
    cloning.minibatch = 50
    configuration.cloning = cloning
    return configuration
  }

  private func training(
    _ configuration: ControllerTrainingConfiguration, named name: String = "two devices"
  ) throws -> ControllerTraining<TwoDeviceEnvironment> {
    try ControllerTraining(
      configuration, environment: "digest of \(name)", named: name, expert: Smallest()
    ) { try TwoDeviceEnvironment(count: $0, seed: $1) }
  }

  private func weights(_ training: ControllerTraining<TwoDeviceEnvironment>) -> [Float] {
    training.network.parameters.flatMap { $0.tensor.scalars }
  }

  @Test func `a training that is interrupted again and again ends with the same bits`() throws {
    let whole = try training(configuration())
    #expect(try whole.run())
    // Each sitting ends so many events after it began: in the middle of playing, of learning, and between updates of PPO.
    for patience in [13, 40, 61] {
      try withTemporaryFolder { folder in
        let url = folder.appendingPathComponent("c.training")
        var sittings = 0
        var before = -1
        while true {
          let part = try training(configuration())
          if FileManager.default.fileExists(atPath: url.path) {
            try part.resume(ControllerCheckpoint(contentsOf: url))
          }
          var events = 0
          var saved = 0
          let isWhole = try part.run(
            shouldStop: { events >= patience && saved > 0 },
            onCheckpoint: {
              try $0.write(to: url)
              saved += 1
            }, onEvent: { _ in events += 1 })
          sittings += 1
          if isWhole {
            #expect(weights(part) == weights(whole))
            #expect(part.curve == whole.curve)
            break
          }
          let reached = try ControllerCheckpoint(contentsOf: url)
          let place = (reached.clonedIterations ?? 3) + reached.steps
          #expect(place > before)
          before = place
        }
        #expect(sittings > 2, "\(sittings)")
      }
    }
  }

  @Test func `imitating says how far it is, from where it goes on`() throws {
    var seen: [CloningProgress] = []
    try training(configuration()).run(onEvent: {
      if case .imitating(let progress) = $0 { seen.append(progress) }
    })
    // 3 iterations of 4 processes × 30 rounds, learned from twice each in the iterations from their own on.
    let last = try #require(seen.last)
    #expect(last.toPlay == 360 && last.played == 360)
    #expect(last.toLearn == 2 * 120 * (1 + 2 + 3) && last.learned == last.toLearn)
    for (one, next) in zip(seen, seen.dropFirst()) {
      #expect(next.played >= one.played && next.learned >= one.learned)
      #expect(next.played + next.learned > one.played + one.learned)
    }
  }

  @Test func `other settings are refused with what they were and what they are`() throws {
    var saved: ControllerCheckpoint?
    try training(configuration()).run(
      shouldStop: { saved != nil }, onCheckpoint: { saved = $0 })
    let checkpoint = try #require(saved)
    #expect(checkpoint.clonedIterations == 1)
    func refuse(_ words: String..., change: (inout ControllerTrainingConfiguration) -> Void) throws
    {
      var other = configuration()
      change(&other)
      for word in words {
        expectError(.usage, word) { try training(other).resume(checkpoint) }
      }
    }
    try refuse(
      "--learning-rate was 0.0003, here it is 0.001", "--seed was 0, here it is \(UInt64.max)"
    ) {
      $0.ppo.learningRate = 1e-3
      $0.seed = .max
    }
    try refuse("--time-constant was not given, here it is 2.5") { $0.ppo.timeConstant = 2.5 }
    try refuse("--plain was not given, here it is.") { $0.ppo.isGated = false }
    try refuse("--cloning was 3, here it is 0.") { $0.cloning = nil }
    try refuse("--network was shared, here it is flat") { $0.network.kind = .flat }
    expectError(.usage, "'two devices', here it is 'three'") {
      try training(configuration(), named: "three").resume(checkpoint)
    }
  }

  @Test func `a saved training that is damaged is refused`() throws {
    var saved: ControllerCheckpoint?
    try training(configuration()).run(
      shouldStop: { saved?.clonedIterations == 2 }, onCheckpoint: { saved = $0 })
    let checkpoint = try #require(saved)
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("c.training")
      try checkpoint.write(to: url)
      let whole = try Data(contentsOf: url)
      // The decisions come before the moments, by their names: a choice that there is not.
      let file = try SafeTensorsFile(contentsOf: url)
      let entry = try #require(file.entries["cloning.1.played"])
      let key = "fedpeat.controller-training"
      let text = try #require(file.metadata[key])
      // Copied: the file is mapped, and about to be another.
      let values = try file.tensor(named: "values").copied()
      var spoiled = whole
      spoiled[entry.range.lowerBound + 1] = 200
      try spoiled.write(to: url)
      expectError(.badData, "decisions that can't be") {
        let part = try training(configuration())
        try part.resume(ControllerCheckpoint(contentsOf: url))
        try part.run()
      }
      for bad in [whole.dropLast(4), whole.prefix(200), Data()] {
        try Data(bad).write(to: url)
        expectError(.badData, "c.training") { _ = try ControllerCheckpoint(contentsOf: url) }
      }
      // Imitates a search, and says of no search.
      var facts = try #require(
        JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
      var settings = try #require(facts["configuration"] as? [String: Any])
      settings["cloning"] = nil
      facts["configuration"] = settings
      let crafted = String(
        decoding: try JSONSerialization.data(withJSONObject: facts), as: UTF8.self)
      try SafeTensors.write(
        ["values": values, "first_moment": values, "second_moment": values], to: url,
        metadata: [key: crafted])
      expectError(.badData, "counts that contradict") {
        _ = try ControllerCheckpoint(contentsOf: url)
      }
    }
  }
}
