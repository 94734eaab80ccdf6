import Foundation
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// LoRA folders as PEFT writes them, against the logits that PEFT computes (Tools/golden/adapters.py).
@Suite("Adapters agree with PEFT") struct AdapterParityTests {
  static let readable = [
    "llama-tiny-ends", "llama-tiny-pattern", "llama-tiny-rslora", "gpt2-tiny-ends",
    "gpt2-tiny-pattern", "llama-tiny-dora",
  ]

  static func folder(_ name: String) -> URL {
    ProjectFolders.golden.appendingPathComponent("adapters/\(name)")
  }

  static func base(_ name: String) -> String {
    name.split(separator: "-").prefix(2).joined(separator: "-")
  }

  @Test(arguments: readable)
  func `logits with the adapter, and merged into the weights`(name: String) throws {
    let golden = try GoldenCase("expected", in: "adapters/\(name)")
    let checkpoint = try GoldenModels.checkpoint(Self.base(name))
    let model = try checkpoint.model()
    let rows = try golden.rows()
    let expected = try golden.matrix("logits")
    let without = model.logits(rows)
    #expect(Difference(without, expected).relative > 0.01)

    let (adapter, facts) = try AdapterFolder.read(Self.folder(name), for: model)
    #expect(facts == nil)
    let injected = try adapter.inject(into: model)
    expectClose(model.logits(rows), expected, within: 1e-4, "injected")
    let loss: Double = try golden.fact("loss")
    #expect(abs(model.meanLoss(rows) - loss) <= 1e-5 * loss)
    injected.remove()
    #expect(model.logits(rows) == without)

    let merged = try PlugIn.mergedTensors(adapter, into: model, digest: checkpoint.digest())
    let plain = try TransformerModel(
      configuration: model.configuration, tensors: merged.tensors, source: "merged")
    expectClose(plain.logits(rows), expected, within: 1e-4, "merged")
    #expect(merged.replaced.count == adapter.state.keys.count { $0.hasSuffix("lora_A.weight") })
  }

  @Test(arguments: readable)
  func `an adapter by PEFT, written by us and read back, is the same`(name: String) throws {
    let golden = try GoldenCase("expected", in: "adapters/\(name)")
    let model = try GoldenModels.model(Self.base(name))
    let (adapter, _) = try AdapterFolder.read(Self.folder(name), for: model)
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter, facts: facts(for: model, method: adapter.method.name),
        configuration: model.configuration, baseModel: "base", to: folder)
      let (again, _) = try AdapterFolder.read(folder, for: model)
      #expect(again.state == adapter.state)
      _ = try again.inject(into: model)
      expectClose(
        model.logits(try golden.rows()), try golden.matrix("logits"), within: 1e-4, "logits")
    }
  }

  /// The numbers of blocks as they are.
  private func facts(
    for model: TransformerModel, method: String = LoRA.name
  ) -> AdapterFolder.Facts {
    AdapterFolder.Facts(
      method: method, sourceDigest: nil, modelDigest: nil, split: nil,
      blockMap: Dictionary(
        uniqueKeysWithValues: model.blocks.enumerated().map { (String($0), $1.numberInFullModel) }))
  }

  @Test func `patterns of one block follow the block into the full model`() throws {
    // The adapter's blocks 0 … 4 are blocks 0, 2, 4, 6 and 8 of a larger model.
    let name = "llama-tiny-pattern"
    let model = try GoldenModels.model("llama-tiny")
    let numbers = [0, 2, 4, 6, 8]
    let apart = try TransformerModel(
      configuration: model.configuration, tensors: model.tensors, blockNumbers: numbers,
      source: "apart")
    let (adapter, _) = try AdapterFolder.read(Self.folder(name), for: apart)
    #expect(adapter.state.keys.contains { $0.contains(".layers.8.") })
    let golden = try GoldenCase("expected", in: "adapters/\(name)")
    let injected = try adapter.inject(into: apart)
    let expected = try golden.matrix("logits")
    expectClose(apart.logits(try golden.rows()), expected, within: 1e-4, "numbered apart")
    injected.remove()
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter, facts: facts(for: apart), configuration: model.configuration, baseModel: "base",
        to: folder)
      let json = try JSONFile.read(
        JSONValue.self, from: folder.appendingPathComponent("adapter_config.json"))
      // `layers.4.mlp.down_proj` has its own alpha in PEFT's file, and so it has in ours.
      #expect(json["alpha_pattern"]?["model.layers.4.mlp.down_proj"]?.number == 5)
      #expect(json["rank_pattern"]?["model.layers.0.self_attn.q_proj"] == .integer(3))
      let (again, _) = try AdapterFolder.read(folder, for: apart)
      _ = try again.inject(into: apart)
      expectClose(apart.logits(try golden.rows()), expected, within: 1e-4, "read back")
    }
  }

  @Test(arguments: [
    ("llama-tiny-modules-to-save", "modules_to_save"), ("gpt2-tiny-bias", "bias"),
  ])
  func `what is more than LoRA is refused by name`(name: String, word: String) throws {
    let model = try GoldenModels.model(Self.base(name))
    let error = #expect(throws: PeatError.self) {
      try AdapterFolder.read(Self.folder(name), for: model)
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
  }

  // MARK: What we write, read by PEFT and transformers

  /// A small emulator of a golden model, and an adapter with effect in its end blocks.
  private func emulated(
    _ name: String
  ) throws -> (checkpoint: Checkpoint, full: TransformerModel, emulator: Emulator, adapter: Adapter)
  {
    let checkpoint = try GoldenModels.checkpoint(name)
    let full = try checkpoint.model()
    let isLlama = name.hasPrefix("llama")
    let isShort = full.blocks.count == 3
    let split = try ModelSplit(bottom: 1, top: isShort ? 0 : 1, of: full.blocks.count)
    let recipe = try EmulatorRecipe(isShort ? "layer-drop=1" : "layer-drop=2")
    let emulator = try recipe.makeEmulator(from: full, split: split)
    let method = Adapter.Method.lora(
      try LoRAConfiguration(
        rank: 3, alpha: 7.5, targetModules: isLlama ? ["q_proj", "o_proj", "down_proj"] : nil))
    var adapter = try Adapter(
      new: method, for: full, blocks: split.ends, seed: 5, sourceDigest: checkpoint.digest())
    var random = SeededRandom(seed: 6)
    for key in adapter.state.keys.sorted() where key.hasSuffix("lora_B.weight") {
      adapter.state[key] = randomTensor(adapter.state[key]?.shape ?? [], &random, scale: 0.2)
    }
    return (checkpoint, full, emulator, adapter)
  }

  @Test(.needsPeers, arguments: ["llama-tiny", "gpt2-tiny"])
  func `PEFT loads our adapter on our emulator and computes what we do`(name: String) async throws {
    let (checkpoint, full, emulator, adapter) = try emulated(name)
    try await withTemporaryFolder { scratch in
      let base = scratch.appendingPathComponent("emulator")
      try emulator.write(
        to: base, source: checkpoint,
        facts: try emulator.facts(source: checkpoint, full: full))
      let folder = scratch.appendingPathComponent("adapter")
      var facts = facts(for: emulator.model)
      facts.sourceDigest = adapter.sourceDigest
      try AdapterFolder.write(
        adapter, facts: facts, configuration: emulator.model.configuration, baseModel: base.path,
        to: folder)
      let rows = try GoldenCase("expected", in: "checkpoints/\(name)").rows()
      let theirs = try await Peers.logits(
        "check_adapter.py", [base, folder], ids: rows, in: scratch)
      let injected = try adapter.inject(into: emulator.model)
      defer { injected.remove() }
      expectClose(emulator.model.logits(rows), theirs, within: 1e-4, "logits")
    }
  }

  @Test(.needsPeers, arguments: ["llama-tiny", "gpt2-tiny", "llama-tiny-bf16"])
  func `transformers loads our emulator and our merged model`(name: String) async throws {
    let (checkpoint, full, emulator, adapter) = try emulated(name)
    try await withTemporaryFolder { scratch in
      let rows = try GoldenCase("expected", in: "checkpoints/\(name)").rows()
      let base = scratch.appendingPathComponent("emulator")
      try emulator.write(
        to: base, source: checkpoint,
        facts: try emulator.facts(source: checkpoint, full: full))
      expectClose(
        emulator.model.logits(rows),
        try await Peers.logits("check_checkpoint.py", [base], ids: rows, in: scratch), within: 1e-4,
        "emulator")
      #expect(try Checkpoint(folder: base).storageType == checkpoint.storageType)
      // A merged weight is rounded to the type it is stored in: f32 shows that nothing else differs.
      let merged = try PlugIn.mergedTensors(adapter, into: full, digest: checkpoint.digest())
      let folder = scratch.appendingPathComponent("merged")
      try CheckpointWriter.write(
        to: folder, tensors: merged.tensors, configuration: checkpoint.configurationJSON)
      let plugged = try PlugIn(adapter, into: full, digest: checkpoint.digest())
      expectClose(
        full.logits(rows),
        try await Peers.logits("check_checkpoint.py", [folder], ids: rows, in: scratch),
        within: 1e-4,
        "merged")
      plugged.remove()
    }
  }

  @Test(.needsPeers, arguments: ["llama-tiny-pattern", "gpt2-tiny-pattern"])
  func `PEFT loads its own patterns as we write them`(name: String) async throws {
    let golden = try GoldenCase("expected", in: "adapters/\(name)")
    let model = try GoldenModels.model(Self.base(name))
    let (adapter, _) = try AdapterFolder.read(Self.folder(name), for: model)
    try await withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter, facts: facts(for: model), configuration: model.configuration, baseModel: "base",
        to: folder)
      let theirs = try await Peers.logits(
        "check_adapter.py", [GoldenModels.folder(Self.base(name)), folder],
        ids: try golden.rows(), in: scratch)
      expectClose(theirs, try golden.matrix("logits"), within: 1e-6, "logits")
    }
  }
}
