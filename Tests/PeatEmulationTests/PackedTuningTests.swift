import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Tuning packed emulators") struct PackedTuningTests {
  @Test func `tuning an emulator of integers resumes to the same bits`() throws {
    let source = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/llama-tiny"))
    let full = try source.model()
    let split = try ModelSplit(bottom: 1, top: 1, of: 5)
    var random = SeededRandom(seed: 5)
    let tokens = (0..<300).map { _ in Int32(random.integer(below: 97)) }
    let data = try TokenDataset(
      [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })], .stream(context: 16))
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      let emulator = try EmulatorRecipe("layers=0:2,share,int4").makeEmulator(
        from: full, split: split)
      try emulator.write(
        to: place, source: source, facts: try emulator.facts(source: source, full: full))
      func trainer() throws -> (Trainer, InjectedAdapter) {
        let model = try Checkpoint(folder: place).model()
        // What is packed by the recipe is not what a run asked for.
        #expect(model.storage == .float32)
        #expect(model.blocks[1].linears[0].weight.storage == .int4)
        let adapter = try Adapter(
          new: .lora(try LoRAConfiguration(rank: 2, alpha: 4)), for: model, blocks: [0, 4], seed: 1,
          sourceDigest: source.digest())
        let injected = try adapter.inject(into: model)
        return (
          try Trainer(
            model, parameters: injected.parameters.map(\.parameter), data: data,
            configuration: TrainingConfiguration(
              steps: 8, batch: 2, context: 16, learningRate: 1e-2, threads: 2)), injected
        )
      }
      let (whole, first) = try trainer()
      while !whole.isFinished { _ = try whole.advance() }
      let (begun, _) = try trainer()
      for _ in 0..<3 { _ = try begun.advance() }
      let (resumed, second) = try trainer()
      try resumed.resume(begun.state)
      while !resumed.isFinished { _ = try resumed.advance() }
      #expect(first.state == second.state)
    }
  }
}
