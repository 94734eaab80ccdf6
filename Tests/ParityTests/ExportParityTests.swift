import Foundation
import PeatEmulation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("Emulators in transformers", .needsPeers) struct ExportParityTests {
  /// Makes an emulator of a checkpoint, one block at each end, or one at the bottom of a model of three, writes it, and compares what
  /// transformers computes from a folder with what the emulator does.
  private func check(
    _ source: Checkpoint, _ recipe: String, rows: [[Int32]], exports: Bool = true,
    padded: Bool = false
  ) async throws {
    let full = try source.model()
    let split = try ModelSplit(
      bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
    let emulator = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    try await withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("emulator")
      try emulator.write(
        to: folder, source: source,
        facts: try emulator.facts(source: source, full: full, padded: padded))
      let own = try Emulator(folder: folder)
      var shown = folder
      if exports {
        shown = scratch.appendingPathComponent("plain")
        _ = try own.export(to: shown, source: Checkpoint(folder: folder))
      }
      let theirs = try await Peers.logits("check_checkpoint.py", [shown], ids: rows, in: scratch)
      expectClose(own.model.logits(rows), theirs, within: 1e-4, recipe)
    }
  }

  @Test(
    .needsAssets("models/stories260K"),
    arguments: [
      "layer-drop=2", "layer-drop=2,prune-heads=0.5", "layer-drop=2,prune-channels=0.5",
      "layer-drop=2,low-rank=0.5", "layer-drop=2,int8", "layer-drop=2,int4", "layer-drop=2,share",
    ])
  func `transformers computes what an emulator of stories260K does`(recipe: String) async throws {
    let source = try Checkpoint(folder: try #require(ProjectFolders.asset("models/stories260K")))
    var random = SeededRandom(seed: 4)
    let rows = (0..<2).map { _ in
      [1] + (0..<63).map { _ in Int32(3 + random.integer(below: 509)) }
    }
    // Whole blocks need no export.
    try await check(source, recipe, rows: rows, exports: recipe != "layer-drop=2")
  }

  @Test(
    .needsAssets("models/stories260K"),
    arguments: [
      "layer-drop=2,prune-heads=0.5", "layer-drop=2,prune-channels=0.4", "prune-heads=0.1",
      "prune-heads=0.5,prune-channels=0.3",
    ])
  func `transformers loads a padded emulator's own folder`(recipe: String) async throws {
    let source = try Checkpoint(folder: try #require(ProjectFolders.asset("models/stories260K")))
    var random = SeededRandom(seed: 5)
    let rows = (0..<2).map { _ in
      [1] + (0..<63).map { _ in Int32(3 + random.integer(below: 509)) }
    }
    try await check(source, recipe, rows: rows, exports: false, padded: true)
  }

  @Test(
    arguments: ["gpt2-tiny", "llama-tiny"],
    [
      "prune-heads=0.5", "prune-heads=0.2", "prune-channels=0.4",
      "prune-heads=0.5,prune-channels=0.4,f16",
    ])
  func `transformers loads a padded emulator of a tiny model`(name: String, recipe: String)
    async throws
  {
    try await check(
      GoldenModels.checkpoint(name), recipe,
      rows: GoldenCase("expected", in: "checkpoints/\(name)").rows(), exports: false, padded: true)
  }

  @Test(
    arguments: ["gpt2-tiny", "llama-tiny-bf16"],
    ["layers=0,share,int8", "prune-heads=0.5,prune-channels=0.4,low-rank=0.6,int4"])
  func `transformers computes what an emulator of a tiny model does`(name: String, recipe: String)
    async throws
  {
    try await check(
      GoldenModels.checkpoint(name), recipe,
      rows: GoldenCase("expected", in: "checkpoints/\(name)").rows())
  }

  @Test(arguments: [
    "layers=0", "layers=0,share,int8", "prune-heads=0.5,prune-channels=0.4,low-rank=0.6",
  ])
  func `transformers computes what an emulator of an OPT with a narrow embedding does`(
    recipe: String
  ) async throws {
    var random = SeededRandom(seed: 6)
    let rows = (0..<2).map { _ in (0..<15).map { _ in Int32(3 + random.integer(below: 50)) } }
    try await check(
      Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/opt-narrow")),
      recipe, rows: rows)
  }
}
