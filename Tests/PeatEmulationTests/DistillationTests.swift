import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Distillation") struct DistillationTests {
  private func emulator(_ recipe: String) throws -> (TransformerModel, Emulator) {
    let full = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/llama-tiny")
    ).model()
    let split = try ModelSplit(bottom: 1, top: 1, of: 5)
    return (full, try EmulatorRecipe(recipe).makeUnpacked(from: full, split: split))
  }

  private func data() throws -> TokenDataset {
    var random = SeededRandom(seed: 3)
    let tokens = (0..<400).map { _ in Int32(random.integer(below: 97)) }
    return try TokenDataset(
      [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })], .stream(context: 16))
  }

  private func settings(_ change: (inout DistillationSettings) -> Void = { _ in })
    -> DistillationSettings
  {
    var settings = DistillationSettings()
    (settings.steps, settings.batch, settings.context) = (30, 4, 16)
    settings.learningRate = 3e-3
    change(&settings)
    return settings
  }

  @Test(arguments: [(0.0, 30.0, 0.0), (1, 30, 0), (0, 10, 10), (1, 0, 0)])
  func `gradients are those of the objective`(
    lossWeight: Double, stateWeight: Double, blockWeight: Double
  ) throws {
    let (full, emulator) = try self.emulator("layers=0:2,share")
    let own = settings {
      ($0.lossWeight, $0.stateWeight, $0.blockWeight, $0.noise) =
        (lossWeight, stateWeight, blockWeight, 0.2)
      $0.learningRate = 1e-12
    }
    let trainer = try Distillation(emulator, full: full, data: try data(), settings: own).trainer
    let gradient = trainer.gradient()
    trainer.finish()
    try expectRises(along: gradient, in: emulator) {
      let trainer = try Distillation(emulator, full: full, data: try data(), settings: own).trainer
      defer { trainer.finish() }
      return try trainer.advance().loss
    }
  }

  @Test func `the middle comes nearer to the full model's`() throws {
    let (full, emulator) = try self.emulator("layer-drop=1,share")
    let untouched = full.blocks[2].parameters.map { $0.tensor.copied() }
    let distillation = try Distillation(
      emulator, full: full, data: try data(),
      settings: settings { ($0.lossWeight, $0.steps) = (0, 80) })
    var losses: [Double] = []
    while !distillation.trainer.isFinished {
      losses.append(try distillation.trainer.advance().loss)
    }
    distillation.trainer.finish()
    let (first, last) = (losses.prefix(5).reduce(0, +), losses.suffix(5).reduce(0, +))
    #expect(last < 0.7 * first, "\(losses)")
    #expect(full.blocks[2].parameters.map(\.tensor) == untouched)
    // What was tuned shows less of the original.
    #expect(emulator.exposure(of: full) < 1.0 / 3)
  }

  @Test(arguments: [1, 3]) func `a distillation that was interrupted resumes to the same bits`(
    threads: Int
  ) throws {
    func end(after: Int?) throws -> [Tensor] {
      let (full, emulator) = try self.emulator("layers=0:2,share")
      let own = settings { ($0.noise, $0.threads) = (0.3, threads) }
      let first = try Distillation(emulator, full: full, data: try data(), settings: own).trainer
      for _ in 0..<(after ?? own.steps) { _ = try first.advance() }
      guard after != nil else {
        first.finish()
        return emulator.middleParameters.map(\.tensor)
      }
      let state = first.state
      let (full2, emulator2) = try self.emulator("layers=0:2,share")
      let second = try Distillation(emulator2, full: full2, data: try data(), settings: own).trainer
      try second.resume(state)
      while !second.isFinished { _ = try second.advance() }
      second.finish()
      return emulator2.middleParameters.map(\.tensor)
    }
    #expect(try end(after: 11) == end(after: nil))
    let (full, emulator) = try self.emulator("layers=0:2,share")
    let first = try Distillation(emulator, full: full, data: try data(), settings: settings())
      .trainer
    _ = try first.advance()
    let state = first.state
    first.finish()
    let other = try Distillation(
      emulator, full: full, data: try data(), settings: settings { $0.stateWeight = 10 }
    ).trainer
    expectError(.badData, "another objective") { try other.resume(state) }
    other.finish()
  }

  @Test func `a distillation goes on with no other way to choose its moment`() throws {
    let digest = Digest(of: Data("model".utf8))
    func distillation(checks: Int, probeSeed: UInt64 = 1) throws -> Distillation {
      let (full, emulator) = try self.emulator("layer-drop=2")
      let data = try data()
      return try Distillation(
        emulator, full: full, data: data, settings: settings { $0.checks = checks },
        probe: try PlugInProbe(data, seed: probeSeed, threads: 1), sourceDigest: digest)
    }
    let first = try distillation(checks: 4)
    _ = try first.trainer.advance()
    let state = first.trainer.state
    first.trainer.finish()
    for other in [
      try distillation(checks: 5), try distillation(checks: 0),
      try distillation(checks: 4, probeSeed: 2),
    ] {
      expectError(.badData, "another objective") { try other.trainer.resume(state) }
      other.trainer.finish()
    }
    let same = try distillation(checks: 4)
    try same.trainer.resume(state)
    same.trainer.finish()
  }

  @Test func `the best moment is kept, and an interrupted run finds the same one`() throws {
    let digest = Digest(of: Data("model".utf8))
    // A rate with which the middle is spoiled more and more: the best moment is not the last.
    let own = settings { ($0.steps, $0.checks, $0.learningRate) = (12, 4, 0.3) }
    func distillation(_ emulator: Emulator, _ full: TransformerModel) throws -> Distillation {
      let data = try data()
      return try Distillation(
        emulator, full: full, data: data, settings: own,
        probe: try PlugInProbe(data, seed: 1, threads: 1), sourceDigest: digest)
    }
    var checks: [DistillationCheck] = []
    let (full, emulator) = try self.emulator("layer-drop=2")
    let whole = try distillation(emulator, full)
    _ = try whole.run(onCheck: { checks.append($0) })
    #expect(checks.map(\.step) == [3, 6, 9, 12])
    let best = try #require(
      checks.last { check in
        checks.allSatisfy { $0.plugInLoss >= check.plugInLoss }
      })
    #expect(whole.chosen == best)
    // What is kept is what the probe saw, in the model that is learnt from.
    let again = try PlugInProbe(try data(), seed: 1, threads: 1).run(
      emulator, full: try full.asTeacher(of: emulator.split), sourceDigest: digest)
    #expect(again.plugInLoss == best.plugInLoss)
    try withTemporaryFolder { folder in
      let (full2, emulator2) = try self.emulator("layer-drop=2")
      let first = try distillation(emulator2, full2)
      var steps = 0
      _ = try first.run(
        shouldStop: { steps == 8 }, onStep: { steps = $0.report.step })
      let place = folder.appendingPathComponent("out")
      try first.save(in: place)
      first.trainer.finish()
      let (full3, emulator3) = try self.emulator("layer-drop=2")
      let second = try distillation(emulator3, full3)
      try second.resume(try Trainer.State(readFrom: place), from: place)
      #expect(second.chosen?.step ?? 99 <= 6)
      _ = try second.run()
      #expect(second.chosen == whole.chosen)
      #expect(
        emulator3.middleParameters.map(\.tensor) == emulator.middleParameters.map(\.tensor))
      // A moment of other weights.
      try SafeTensors.write(
        ["w": Tensor(zeros: [3])], to: place.appendingPathComponent(Distillation.bestName))
      let (full4, emulator4) = try self.emulator("layer-drop=2")
      let third = try distillation(emulator4, full4)
      expectError(.badData, "no moment of this distillation") {
        try third.resume(try Trainer.State(readFrom: place), from: place)
      }
      third.trainer.finish()
    }
  }

  @Test func `an interruption within a probe is made good when it is resumed, also at the end`()
    throws
  {
    let digest = Digest(of: Data("model".utf8))
    let own = settings { ($0.steps, $0.checks) = (12, 3) }
    func distillation(_ emulator: Emulator, _ full: TransformerModel) throws -> Distillation {
      let data = try data()
      return try Distillation(
        emulator, full: full, data: data, settings: own,
        probe: try PlugInProbe(data, seed: 1, threads: 1), sourceDigest: digest)
    }
    let (full, emulator) = try self.emulator("layer-drop=2")
    let whole = try distillation(emulator, full)
    let outcome = try whole.run()
    for step in [4, 12] {
      let (full2, emulator2) = try self.emulator("layer-drop=2")
      let first = try distillation(emulator2, full2)
      var asked = 0
      // A probe asks once for each of its steps.
      expectError(.interrupted) {
        _ = try first.run(shouldStop: {
          if first.trainer.step == step { asked += 1 }
          return asked > 5
        })
      }
      #expect(first.trainer.step == step && asked == 6)
      try withTemporaryFolder { folder in
        let place = folder.appendingPathComponent("out")
        try first.save(in: place)
        first.trainer.finish()
        let (full3, emulator3) = try self.emulator("layer-drop=2")
        let second = try distillation(emulator3, full3)
        try second.resume(try Trainer.State(readFrom: place), from: place)
        var checks: [Int] = []
        let resumed = try second.run(onCheck: { checks.append($0.step) })
        #expect(checks == [4, 8, 12].filter { $0 >= step })
        #expect(second.chosen == whole.chosen)
        #expect(resumed.finalLoss == outcome.finalLoss && resumed.isComplete)
        #expect(
          emulator3.middleParameters.map(\.tensor) == emulator.middleParameters.map(\.tensor))
      }
    }
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"])
  func `the teacher computes the full model's middle, a little off`(name: String) throws {
    let source = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
    let full = try source.model()
    let split = try ModelSplit(
      bottom: 1, top: full.blocks.count > 2 ? 1 : 0, of: full.blocks.count)
    let teacher = try full.asTeacher(of: split)
    for block in full.blocks.indices {
      let expected: WeightStorage = split.middle.contains(block) ? .int8 : .float32
      #expect(teacher.blocks[block].linears.allSatisfy { $0.weight.storage == expected })
    }
    let tokens = (0..<24).map { Int32($0 * 7 % 90) }
    let (own, others) = (full.logits(tokens, length: 12), teacher.logits(tokens, length: 12))
    let square = own.scalars.reduce(0) { $0 + $1 * $1 }
    let distance = zip(own.scalars, others.scalars).reduce(0) {
      $0 + ($1.0 - $1.1) * ($1.0 - $1.1)
    }
    #expect(distance > 0 && distance < 1e-3 * square, "\(distance) of \(square)")
    // The full model is as it was, and weights that lie in no file stay as they are.
    #expect(full.tensors == (try source.model().tensors))
    let copy = try TransformerModel(
      configuration: full.configuration, tensors: full.tensors.copied(), source: "a copy")
    #expect(try copy.asTeacher(of: split).tensors == full.tensors)
    // Once they lie in one, they are treated alike.
    copy.keepMiddleOnDisk(of: split)
    #expect(copy.tensors == full.tensors)
    #expect(try copy.asTeacher(of: split).tensors == teacher.tensors)
  }

  @Test func `steps hold few activations`() {
    #expect(DistillationSettings.parts(batch: 8, context: 256, threads: 2) == 4)
    #expect(DistillationSettings.parts(batch: 8, context: 128, threads: 2) == 2)
    #expect(DistillationSettings.parts(batch: 8, context: 16, threads: 2) == 1)
    #expect(DistillationSettings.parts(batch: 8, context: 1024, threads: 16) == 8)
    #expect(DistillationSettings.parts(batch: 8, context: 128, threads: 16) == 1)
    #expect(DistillationSettings.parts(batch: 8, context: 128, threads: 1) == 2)
    #expect(DistillationSettings.parts(batch: 1, context: 1024, threads: 1) == 1)
  }

  @Test func `settings that make no sense are refused`() throws {
    for (change, says): ((inout DistillationSettings) -> Void, String) in [
      ({ $0.lossWeight = -1 }, "lossWeight is -1"), ({ $0.stateWeight = .nan }, "stateWeight"),
      ({ ($0.lossWeight, $0.stateWeight) = (0, 0) }, "nothing to make small"),
      ({ $0.noise = 11 }, "noise is 11"), ({ $0.checks = -1 }, "checks is -1"),
      ({ $0.steps = 0 }, "steps is 0"), ({ $0.batch = 0 }, "batch is 0"),
      ({ $0.context = 0 }, "context is 0"), ({ $0.context = 33 }, "between 1 and 32"),
      ({ $0.learningRate = 0 }, "learningRate is 0"),
      ({ $0.learningRate = .nan }, "learningRate is nan"), ({ $0.threads = 0 }, "threads is 0"),
    ] {
      expectError(.usage, "distillation", says) {
        try settings(change).validate(contextLength: 32)
      }
    }
    try settings().validate(contextLength: 32)
    // What was written before there were checks.
    var json = try #require(
      JSONSerialization.jsonObject(with: JSONEncoder().encode(settings())) as? [String: Any])
    json["checks"] = nil
    let old = try JSONDecoder().decode(
      DistillationSettings.self, from: JSONSerialization.data(withJSONObject: json))
    #expect(old.checks == 0 && old.steps == 30)
  }
}
