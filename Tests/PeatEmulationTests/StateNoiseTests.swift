import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Noise on states while an adapter is tuned") struct StateNoiseTests {
  private func trainer(
    _ noise: Double, seed: UInt64 = 2, checkpointing: Bool = false
  ) throws -> (Trainer, InjectedAdapter) {
    let source = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/llama-tiny"))
    let full = try source.model()
    let model = try EmulatorRecipe("layer-drop=2").makeEmulator(
      from: full, split: try ModelSplit(bottom: 1, top: 1, of: 5)
    ).model
    var random = SeededRandom(seed: 5)
    let tokens = (0..<300).map { _ in Int32(random.integer(below: 97)) }
    let data = try TokenDataset(
      [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })], .stream(context: 16))
    var adapter = try Adapter(
      new: .lora(try LoRAConfiguration(rank: 2, alpha: 4)), for: model, blocks: [0, 4], seed: 1,
      sourceDigest: source.digest())
    // Beside the start, where all of B is 0.
    for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key }) {
      let changed = tensor.copied()
      for index in 0..<changed.count { changed.pointer[index] += 0.1 * random.normal() }
      adapter.state[name] = changed
    }
    let injected = try adapter.inject(into: model)
    return (
      try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: data,
        configuration: TrainingConfiguration(
          steps: 8, batch: 2, context: 16, learningRate: 1e-3, checkpointing: checkpointing,
          stateNoise: noise, seed: seed, threads: 2)), injected
    )
  }

  @Test(arguments: [0.0, 0.5]) func `gradients are those of the noisy loss`(noise: Double) throws {
    let (trainer, injected) = try trainer(noise)
    let gradient = trainer.gradient()
    // In blocks that are computed again the noise is the same.
    #expect(try self.trainer(noise, checkpointing: true).0.gradient() == gradient)
    trainer.finish()
    func loss(_ step: Float) throws -> Double {
      let (trainer, moved) = try self.trainer(noise)
      var offset = 0
      for (_, parameter) in moved.parameters {
        for index in 0..<parameter.count {
          parameter.tensor.pointer[index] += step * gradient[offset + index]
        }
        offset += parameter.count
      }
      return try trainer.advance().loss
    }
    let square = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }
    let step = Float(3e-3 / square.squareRoot())
    let slope = try (loss(step) - loss(-step)) / (2 * Double(step))
    #expect(abs(slope / square - 1) < 0.02, "\(slope), expected \(square)")
    #expect(injected.parameters.count > 0)
  }

  @Test
  func `it changes what is learned, by the seed, and an interrupted run resumes to the same bits`()
    throws
  {
    func end(_ noise: Double, seed: UInt64 = 2, stopAt: Int? = nil) throws -> NamedTensors {
      let (first, injected) = try trainer(noise, seed: seed)
      while first.step < stopAt ?? 8 { _ = try first.advance() }
      guard stopAt != nil else { return injected.state }
      let (second, resumed) = try trainer(noise, seed: seed)
      try second.resume(first.state)
      while !second.isFinished { _ = try second.advance() }
      return resumed.state
    }
    let noisy = try end(0.5)
    #expect(try end(0.5) == noisy)
    #expect(try end(0.5, stopAt: 3) == noisy)
    #expect(try end(0) != noisy)
    #expect(try end(0.5, seed: 3) != noisy)
    #expect(try end(0) == end(0, stopAt: 5))
  }

  @Test func `what makes no sense is refused`() throws {
    expectError(.usage, "stateNoise is -1.0") { _ = try trainer(-1) }
    expectError(.usage, "stateNoise is nan") { _ = try trainer(.nan) }
  }
}
