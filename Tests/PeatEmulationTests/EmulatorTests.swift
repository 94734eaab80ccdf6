import Foundation
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Emulator") struct EmulatorTests {
  static let models = [
    "llama-tiny", "llama-tiny-untied", "llama-tiny-bf16", "gpt2-tiny", "gpt2-tiny-f16",
  ]

  /// A golden checkpoint, its model, and an emulator of it: of five blocks with one at each end, of three with one at
  /// the bottom; one of the middle's blocks is dropped.
  private struct Sample {
    let checkpoint: Checkpoint
    let full: TransformerModel
    let split: ModelSplit
    let emulator: Emulator

    init(_ name: String, recipe: String? = nil) throws {
      checkpoint = try Checkpoint(
        folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
      full = try checkpoint.model()
      split = try ModelSplit(bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
      emulator = try EmulatorRecipe(recipe ?? "layer-drop=\(split.middle.count - 1)").makeEmulator(
        from: full, split: split)
    }

    func write(to folder: URL) throws -> EmulatorFacts {
      let facts = try emulator.facts(source: checkpoint, full: full)
      try emulator.write(to: folder, source: checkpoint, facts: facts)
      return facts
    }
  }

  @Test(arguments: models)
  func `written and loaded again it computes what the selected blocks compute`(name: String) throws
  {
    let sample = try Sample(name)
    #expect(sample.emulator.keptBlocks == (sample.full.blocks.count == 5 ? [0, 1, 3, 4] : [0, 1]))
    let selected = try sample.full.selecting(blocks: sample.emulator.keptBlocks)
    let tokens: [Int32] = [1, 5, 90, 33, 0, 96, 7, 7, 12]
    let expected = selected.logits(tokens, length: tokens.count)
    #expect(sample.emulator.model.logits(tokens, length: tokens.count) == expected)
    #expect(sample.full.logits(tokens, length: tokens.count) != expected)
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      _ = try sample.write(to: place)
      let loaded = try Checkpoint(folder: place)
      let model = try loaded.model()
      #expect(model.logits(tokens, length: tokens.count) == expected)
      #expect(model.blocks.map(\.numberInFullModel) == sample.emulator.keptBlocks)
      #expect(loaded.configuration.blockCount == sample.full.blocks.count - 1)
      // Each tensor is stored as in the source.
      #expect(loaded.storageType == sample.checkpoint.storageType)
      #expect(Set(loaded.storageTypes.values) == Set(sample.checkpoint.storageTypes.values))
      #expect(loaded.byteCount < sample.checkpoint.byteCount)
    }
  }

  @Test(arguments: models)
  func `emulator json says what DESIGN asks for`(name: String) throws {
    let sample = try Sample(name)
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      let facts = try sample.write(to: place)
      #expect(try EmulatorFacts.read(in: place) == facts)
      let json = try #require(
        JSONSerialization.jsonObject(
          with: Data(contentsOf: place.appendingPathComponent("emulator.json"))) as? [String: Any])
      #expect(json["formatVersion"] as? Int == 1)
      #expect(json["sourceDigest"] as? String == sample.checkpoint.digest().hex)
      #expect(json["sourceBlocks"] as? Int == sample.full.blocks.count)
      let split = sample.split
      #expect(
        json["split"] as? [String: Int]
          == ["bottom": 1, "emulator": split.middle.count - 1, "top": split.top])
      #expect(json["keptBlocks"] as? [Int] == sample.emulator.keptBlocks)
      #expect(
        json["recipe"] as? [[String: String]] == [
          ["name": "layer-drop", "value": "\(split.middle.count - 1)"]
        ])
      let storage = try #require(json["storage"] as? [String: [String: Any]])
      #expect(Set(storage.keys) == Set(sample.emulator.model.tensors.keys))
      let stored = try Checkpoint(folder: place).storageTypes
      for (tensor, entry) in storage {
        #expect(entry["type"] as? String == stored[tensor]?.rawValue, "\(tensor)")
      }
      #expect(json["exposure"] as? Double == facts.exposure)
      #expect(facts.endBlocks == split.ends)
    }
  }

  @Test func `exposure is the kept share of the middle's weights`() throws {
    let sample = try Sample("llama-tiny")
    // Five equal blocks, three of them in the middle, two kept.
    #expect(sample.emulator.exposure(of: sample.full) == 2.0 / 3)
    for (recipe, low, high) in [
      ("layers=1", 1.0 / 3, 1.0 / 3), ("layers=0:1:2", 1, 1),
      ("layers=0:2,share", 2.0 / 3, 2.0 / 3),
      ("int8", 0.9999, 0.999_999), ("int4", 0.97, 0.999), ("low-rank=0.5", 0.3, 0.99),
      ("low-rank=1", 0.999_999, 1),
    ] {
      let exposure = try Sample("llama-tiny", recipe: recipe).emulator.exposure(of: sample.full)
      #expect((low - 1e-9...high + 1e-9).contains(exposure), "\(recipe): \(exposure)")
    }
  }

  @Test func `a recipe applies from left to right`() throws {
    let sample = try Sample("llama-tiny", recipe: "layer-drop=3,layer-drop=1")
    #expect(sample.emulator.keptBlocks == [0, 2, 4])
    #expect(sample.emulator.splitNumbers == .init(bottom: 1, emulator: 1, top: 1))
    #expect(throws: PeatError.self) { try Sample("llama-tiny", recipe: "layer-drop=4") }
    #expect(throws: PeatError.self) {
      try Sample("llama-tiny", recipe: "layer-drop=1,layer-drop=2")
    }
  }

  @Test func `the licence that a model card states goes with it`() throws {
    let sample = try Sample("llama-tiny")
    try withTemporaryFolder { folder in
      let source = folder.appendingPathComponent("source")
      try FileManager.default.copyItem(at: sample.checkpoint.folder, to: source)
      for (card, expected) in [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\nlanguage: en\n---\nlicense: mit\n", nil), ("# license: mit\n", nil), ("", nil),
      ] as [(String, String?)] {
        try Data(card.utf8).write(to: source.appendingPathComponent("README.md"))
        let facts = try sample.emulator.facts(
          source: Checkpoint(folder: source), full: sample.full)
        #expect(facts.licence == expected)
      }
    }
  }

  @Test func `facts that contradict each other are refused`() throws {
    let sample = try Sample("llama-tiny")
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      _ = try sample.write(to: place)
      let file = place.appendingPathComponent("emulator.json")
      let json = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      for (key, value) in [
        ("formatVersion", 2), ("keptBlocks", [0, 1, 3]), ("keptBlocks", [0, 1, 3, 5]),
        ("keptBlocks", [0, 1, -3, 4]), ("sourceBlocks", 0), ("sourceDigest", "abc"),
        ("split", ["bottom": 2, "emulator": 2, "top": 1]),
        ("split", ["bottom": -1, "emulator": 4, "top": 1]),
        (
          "split",
          ["bottom": 4_611_686_018_427_387_904, "emulator": 4_611_686_018_427_387_904, "top": 1]
        ),
        ("recipe", [["name": "magic", "value": "1"]]), ("recipe", [[String: String]]()),
      ] as [(String, Any)] {
        var changed = json
        changed[key] = value
        try JSONSerialization.data(withJSONObject: changed).write(to: file)
        do {
          _ = try EmulatorFacts.read(in: place)
          Issue.record("\(key): \(value) was taken")
        } catch { #expect((error as? PeatError)?.message.contains("emulator.json") == true) }
      }
      try FileManager.default.removeItem(at: file)
      #expect(try EmulatorFacts.read(in: place) == nil)
    }
  }
}
