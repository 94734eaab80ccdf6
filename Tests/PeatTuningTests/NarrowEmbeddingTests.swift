import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// OPT with an embedding narrower than its states (12 of 16): golden logits and gradients are ParityTests' matter.
@Suite("Narrow embedding") struct NarrowEmbeddingTests {
  private func checkpoint() throws -> Checkpoint {
    try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/opt-narrow"))
  }

  private func data() throws -> TokenDataset {
    var random = SeededRandom(seed: 8)
    return try TokenDataset(
      (0..<12).map { _ in
        TokenSequence((0..<11).map { _ in Int32(3 + random.integer(below: 6)) })
      }, .documents(context: 12))
  }

  private func method(_ name: String) throws -> Adapter.Method {
    var options = MethodOptions()
    (options.rank, options.virtualTokens, options.bottleneckSize) = (2, 3, 4)
    return try options.method(named: name)
  }

  @Test(arguments: Adapter.Method.names, [(1, 1, false), (2, 2, true)])
  func `every method makes the loss smaller`(name: String, way: (Int, Int, Bool)) throws {
    let model = try checkpoint().model()
    let adapter = try Adapter(
      new: method(name), for: model, blocks: [0, 2], seed: 2, sourceDigest: nil)
    if name == PromptTuning.name {
      #expect(adapter.state[PromptTuning.tensorName]?.shape == [3, 12])
    }
    let injected = try adapter.inject(into: model)
    defer { injected.remove() }
    let trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter), data: data(),
      configuration: TrainingConfiguration(
        steps: 60, batch: 4, context: 12, learningRate: 2e-2, accumulation: way.1,
        checkpointing: way.2, threads: way.0))
    var losses: [Double] = []
    _ = try trainer.run(onStep: { losses.append($0.report.loss) })
    trainer.finish()
    let first = losses.prefix(5).reduce(0, +)
    let last = losses.suffix(5).reduce(0, +)
    #expect(last < 0.97 * first, "\(losses)")
  }

  @Test func `all weights train, and packed ones compute about the same`() throws {
    let model = try checkpoint().model()
    #expect(model.parameters.contains { $0.name == "model.decoder.project_in.weight" })
    let trainer = try Trainer(
      model, parameters: model.parameters, data: data(),
      configuration: TrainingConfiguration(
        steps: 10, batch: 4, context: 12, learningRate: 1e-2, threads: 2))
    var losses: [Double] = []
    _ = try trainer.run(onStep: { losses.append($0.report.loss) })
    trainer.finish()
    #expect(losses[9] < 0.9 * losses[0], "\(losses)")
    let tokens: [Int32] = [3, 9, 27, 31, 40]
    let exact = try checkpoint().model().logits(tokens, length: 5)
    let packed = try checkpoint().model(storage: .all(.int8)).logits(tokens, length: 5)
    // By all logits, not by the one that is the farthest off, which is chance.
    let (off, size) = zip(exact.scalars, packed.scalars).reduce(into: (Float(0), Float(0))) {
      $0.0 += ($1.0 - $1.1) * ($1.0 - $1.1)
      $0.1 += $1.0 * $1.0
    }
    #expect((off / size).squareRoot() < 0.03)
  }

  @Test func `a head of classes is as wide as the embedding`() throws {
    let model = try checkpoint().classifying(["a", "b"], seed: 1).model()
    #expect(model.head?.table.shape == [2, 12])
  }
}
