import Foundation
import PeatEmulation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("Growing an emulator") struct GrowingTests {
  private let tokens: [Int32] = [1, 5, 90, 33, 0, 96, 7, 7, 12]

  private func model(_ name: String) throws -> (TransformerModel, ModelSplit) {
    let full = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)")
    ).model()
    return (full, try ModelSplit(bottom: 1, top: 0, of: full.blocks.count))
  }

  @Test(
    arguments: ["llama-tiny", "gpt2-tiny"],
    [
      "layer-drop=1", "layers=0", "layers=0,share", "layers=0,int8", "layers=0,low-rank=0.4",
      "low-rank=0.4", "layers=0,magnitude=0.3",
      "prune-channels=0.4", "layers=0,prune-heads=0.5,prune-channels=0.4",
    ])
  func `it computes the same, as deep and as wide as the full model, and every weight can learn`(
    name: String, recipe: String
  ) throws {
    let (full, split) = try model(name)
    guard split.middle.count > 1 || !recipe.contains("layer") else { return }
    let emulator = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    let grown = try #require(try emulator.grown())
    #expect(grown.keptBlocks == Array(0..<full.blocks.count))
    #expect(grown.middleCount == split.middle.count)
    #expect(grown.model.parameters.map(\.shape) == full.parameters.map(\.shape))
    #expect(grown.model.parameters.allSatisfy { $0.packed == nil })
    expectClose(
      grown.model.logits(tokens, length: tokens.count),
      emulator.model.logits(tokens, length: tokens.count), within: 1e-4, "logits")
    // No part of it is dead: a zero has weights on one side of it at least.
    let zeros = grown.middleParameters.filter { parameter in
      parameter.shape.count == 2
        && parameter.tensor.withUnsafeBufferPointer { values in values.allSatisfy { $0 == 0 } }
    }
    let missing = split.middle.count - emulator.model.configuration.depth + 1
    #expect(zeros.count == 2 * missing, "\(zeros.map(\.name))")
  }

  @Test func `one that is as large as the model has nothing to grow`() throws {
    let (full, split) = try model("llama-tiny")
    for recipe in ["int8", "bf16", "magnitude=0.3"] {
      let emulator = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
      #expect(try emulator.grown() == nil, "\(recipe)")
    }
  }
}
