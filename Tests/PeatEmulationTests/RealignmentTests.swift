import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// Distillation with an adapter in the ends of both models, which is to match what they predict, too.
@Suite("Realignment") struct RealignmentTests {
  private let source: Checkpoint
  private let full: TransformerModel
  private let emulator: Emulator

  init() throws {
    source = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/llama-tiny"))
    // In memory of its own, so that what is learnt from is not kept in 8 bits.
    let read = try source.model()
    full = try TransformerModel(
      configuration: read.configuration, tensors: read.tensors.copied(), source: "a copy")
    emulator = try EmulatorRecipe("layer-drop=1").makeUnpacked(
      from: full, split: try ModelSplit(bottom: 1, top: 1, of: 5))
  }

  private func data() throws -> TokenDataset {
    var random = SeededRandom(seed: 3)
    let tokens = (0..<400).map { _ in Int32(random.integer(below: 97)) }
    return try TokenDataset(
      [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })], .stream(context: 16))
  }

  /// Of the divergence alone.
  private func settings(_ rate: Float = 1e-12) -> DistillationSettings {
    var settings = DistillationSettings()
    (settings.steps, settings.batch, settings.context) = (30, 4, 16)
    (settings.lossWeight, settings.stateWeight, settings.divergenceWeight) = (0, 0, 2)
    settings.learningRate = rate
    settings.checks = 0
    return settings
  }

  private func distillation(_ settings: DistillationSettings) throws -> Distillation {
    try Distillation(emulator, full: full, data: try data(), settings: settings)
  }

  private func firstLoss() throws -> Double {
    let trainer = try distillation(settings()).trainer
    defer { trainer.finish() }
    return try trainer.advance().loss
  }

  /// An adapter whose update is not nothing.
  private func adapter() throws -> Adapter {
    var adapter = try Adapter(probing: full, ends: emulator.split.ends, seed: 1)
    var random = SeededRandom(seed: 8)
    // In the order of names: that of a dictionary differs from process to process.
    for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key }) {
      adapter.state[name] = .uniform(tensor.shape, bound: 0.5, using: &random)
    }
    return adapter
  }

  @Test func `the gradient is that of what the models predict`() throws {
    let trainer = try distillation(settings()).trainer
    let gradient = trainer.gradient()
    trainer.finish()
    try expectRises(along: gradient, in: emulator, loss: firstLoss)
  }

  @Test func `it is the weight times the mean divergence of the full model's predictions`() throws {
    var sum = 0.0
    var sampler = BatchSampler(try data(), .shuffledEpochs, rows: 4, seed: 0)
    let batch = sampler.next()
    for window in 0..<batch.windowCount {
      let places = batch.places(ofWindows: window..<window + 1)
      let tokens = Array(batch.tokens[places])
      let (theirs, own) = (
        full.logits(tokens, length: tokens.count),
        emulator.model.logits(tokens, length: tokens.count)
      )
      for row in tokens.indices {
        func logarithms(_ logits: Tensor) -> [Double] {
          let values = (0..<97).map { Double(logits.pointer[row * 97 + $0]) }
          let total = log(values.reduce(0) { $0 + exp($1) })
          return values.map { $0 - total }
        }
        sum += zip(logarithms(theirs), logarithms(own)).reduce(0) {
          $0 + exp($1.0) * ($1.0 - $1.1)
        }
      }
    }
    let expected = 2 * sum / Double(batch.targetCount)
    #expect(try abs(firstLoss() / expected - 1) < 1e-4, "\(expected)")
  }

  @Test func `the adapter in the ends of both takes part`() throws {
    let without = try firstLoss()
    let adapter = try adapter()
    let inEmulator = try adapter.inject(into: emulator.model)
    defer { inEmulator.remove() }
    // In one model alone they predict different things, whatever the middle does.
    let inOne = try firstLoss()
    let inFull = try adapter.inject(into: full)
    defer { inFull.remove() }
    let inBoth = try firstLoss()
    #expect(inBoth != without && inBoth < inOne, "\(without), \(inOne), \(inBoth)")
    let distillation = try distillation(settings(1e-2))
    let outcome = try distillation.run()
    #expect(outcome.finalLoss < 0.8 * inBoth, "\(inBoth), then \(outcome.finalLoss)")
  }

  @Test func `emulator json says that a level was made anew, and keeps how it was made`() throws {
    try withTemporaryFolder { folder in
      var renewed = emulator
      let facts = RealignmentFacts(
        round: 3, settings: settings(1e-3), finalLoss: 0.5, text: Digest(of: Data("text".utf8)),
        fidelityBefore: 0.4, fidelityAfter: 0.7)
      renewed.realigned = facts
      try renewed.write(
        to: folder.appendingPathComponent("renewed"), source: source,
        facts: try renewed.facts(source: source, full: full))
      let read = try #require(
        try EmulatorFacts.read(in: folder.appendingPathComponent("renewed")))
      #expect(read.realigned == facts && read.margin == nil)
      #expect(try Emulator(folder: folder.appendingPathComponent("renewed")).realigned == facts)
    }
  }
}
