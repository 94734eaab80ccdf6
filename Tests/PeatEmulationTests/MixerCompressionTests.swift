import Foundation
import PeatEmulation
import PeatModels
import PeatTensor
import TestSupport
import Testing

/// What a recipe makes of a model that is no transformer.
@Suite("Emulators of a mixer") struct MixerCompressionTests {
  private func checkpoint() throws -> Checkpoint {
    try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("families/mixer-classes"))
  }

  private func logits(_ model: TransformerModel) throws -> Tensor {
    var random = SeededRandom(seed: 3)
    let patches = PatchTable(randomTensor([16, model.configuration.vocabularySize], &random))
    return model.logits((0..<16).map { Int32($0) }, length: 16, patches: patches)
  }

  @Test(arguments: [
    "layer-drop=1", "layers=0,share", "prune-channels=0.5", "low-rank=0.5", "magnitude=0.5", "int8",
    "bf16", "prune-channels=0.5,low-rank=0.7,int4",
  ])
  func `a recipe makes an emulator that comes back from its folder`(recipe: String) throws {
    let source = try checkpoint()
    let full = try source.model()
    let split = try ModelSplit(bottom: 1, top: 1, of: 3)
    let emulator = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    let own = try logits(emulator.model)
    #expect(own.scalars.allSatisfy { $0.isFinite })
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      try emulator.write(
        to: place, source: source, facts: emulator.facts(source: source, full: full))
      let again = try Emulator(folder: place)
      expectClose(try logits(again.model), own, within: 1e-5, recipe)
    }
  }

  @Test func `fewer blocks lie in a checkpoint that says so in timm's words`() throws {
    let source = try checkpoint()
    let full = try source.model()
    let emulator = try EmulatorRecipe("layers=0").makeEmulator(
      from: full, split: try ModelSplit(bottom: 1, top: 0, of: 3))
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      try emulator.write(
        to: place, source: source, facts: emulator.facts(source: source, full: full))
      let json = try Checkpoint(folder: place).configurationJSON
      #expect(json["model_args"]?["num_blocks"]?.integer == 2)
    }
  }

  @Test(arguments: [
    ("prune-heads=0.5", "Take prune-channels"), ("gradient-ranks=0.5", "Take low-rank"),
  ])
  func `what is about attention is refused with the reason`(recipe: String, advice: String) throws {
    let full = try checkpoint().model()
    let split = try ModelSplit(bottom: 1, top: 1, of: 3)
    expectError(.usage, "no", "attention", advice) {
      _ = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    }
  }
}
