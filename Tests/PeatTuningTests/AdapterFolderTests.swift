import Foundation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("AdapterFolder") struct AdapterFolderTests {
  private func facts(_ map: [String: Int], method: String = LoRA.name) -> AdapterFolder.Facts {
    .init(method: method, sourceDigest: nil, modelDigest: nil, split: nil, blockMap: map)
  }

  /// A folder that reads well, to be changed.
  private func withFolder(
    _ name: String = "llama-tiny", rank: Int = 4, targets: [String]? = nil,
    _ body: (URL, TransformerModel, Adapter) throws -> Void
  ) throws {
    let model = try checkpoint(name).model()
    let adapter = try Adapter.active(for: model, blocks: [0, 2], rank: rank, targets: targets)
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter, facts: facts(["0": 0, "1": 1, "2": 2]), configuration: model.configuration,
        baseModel: "base", to: folder)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
      #expect(names == ["adapter_config.json", "adapter_model.safetensors", "fedpeat.json"])
      #expect(try AdapterFolder.read(folder, for: model).0.state == adapter.state)
      try body(folder, model, adapter)
    }
  }

  private func change(_ url: URL, _ key: String, to value: JSONValue?) throws {
    var table = try JSONFile.read([String: JSONValue].self, from: url)
    table[key] = value
    try JSONFile.write(table, to: url)
  }

  @Test func `target modules are named shortly, or by path where a short name says too much`()
    throws
  {
    func targets(_ name: String, _ adapter: Adapter, _ model: TransformerModel) throws -> JSONValue?
    {
      try withTemporaryFolder { scratch in
        let folder = scratch.appendingPathComponent("adapter")
        try AdapterFolder.write(
          adapter, facts: facts(["0": 0, "1": 1, "2": 2]), configuration: model.configuration,
          baseModel: "base", to: folder)
        return try JSONFile.read(
          JSONValue.self, from: folder.appendingPathComponent("adapter_config.json"))[name]
      }
    }
    func names(_ list: String...) -> JSONValue { .array(list.map { .string($0) }) }
    let gpt2 = try checkpoint("gpt2-tiny").model()
    var adapter = try Adapter.active(for: gpt2, blocks: [0, 2])
    #expect(try targets("target_modules", adapter, gpt2) == names("c_attn", "c_proj", "c_fc"))
    for key in adapter.state.keys where key.contains("attn.c_proj") { adapter.state[key] = nil }
    #expect(try targets("target_modules", adapter, gpt2) == names("c_attn", "c_fc", "mlp.c_proj"))
    #expect(
      try targets("layers_to_transform", adapter, gpt2) == .array([.integer(0), .integer(2)]))
    #expect(try targets("fan_in_fan_out", adapter, gpt2) == .bool(true))
    // Blocks with different layers can't be said that way: every layer by its name.
    for key in adapter.state.keys where !key.contains("h.0.attn.") && !key.contains("h.2.mlp.c_fc")
    {
      adapter.state[key] = nil
    }
    #expect(
      try targets("target_modules", adapter, gpt2)
        == names("transformer.h.0.attn.c_attn", "transformer.h.2.mlp.c_fc"))
    #expect(try targets("layers_to_transform", adapter, gpt2) == .null)
  }

  @Test func `a wrong fedpeat.json`() throws {
    try withFolder { folder, model, _ in
      let url = folder.appendingPathComponent("fedpeat.json")
      let original = try Data(contentsOf: url)
      func refuse(_ key: String, _ value: JSONValue?, _ word: String) throws {
        try change(url, key, to: value)
        expectError(.badData, word) { _ = try AdapterFolder.read(folder, for: model) }
        try original.write(to: url)
      }
      func map(_ entries: [String: Int]) -> JSONValue {
        .object(entries.mapValues { .integer($0) })
      }
      try refuse("formatVersion", .integer(2), "formatVersion 2")
      try refuse("formatVersion", nil, "formatVersion")
      try refuse("blockMap", nil, "blockMap")
      try refuse("blockMap", map(["0": 0]), "block map")
      try refuse("blockMap", map(["0": 0, "2": -1]), "numbered from 0")
      try refuse(
        "blockMap", map(["0": 0, "-2": 2]), "\"-2\": 2; its keys are the numbers of blocks")
      try refuse("blockMap", map(["0": 0, "two": 2]), "its keys are the numbers of blocks")
      // Two blocks can't both be one block of the full model: one of them would be lost.
      try refuse("blockMap", map(["0": 0, "2": 0]), "only once")
      try refuse("blockMap", map(["0": 0, "2": 2, "02": 1]), "\"02\": 1; its keys")
      try refuse("sourceDigest", .string("abc"), "digest")
      // The middle is the emulator's: no adapter may sit there.
      func split(_ bottom: Int, _ middle: Int, _ top: Int) -> JSONValue {
        .object([
          "bottom": .integer(bottom), "emulator": .integer(middle), "top": .integer(top),
        ])
      }
      try refuse("split", split(1, 2, 0), "block 2 of the full model")
      try refuse("split", split(0, 2, 1), "block 0 of the full model")
      try refuse("split", split(10, 2, 1), "one of 13 blocks; its blockMap has 3")
      try refuse("split", split(1, 1, 3), "one of 5 blocks")
      try change(url, "split", to: split(1, 1, 3))
      try change(url, "blockMap", to: map(["0": 0, "1": 1, "2": 2, "3": 3, "4": 4]))
      _ = try AdapterFolder.read(folder, for: model)
      try original.write(to: url)
      // A Llama has no encoder apart.
      try refuse(
        "encoderBlocks", .object(["inFolder": .integer(2), "inFullModel": .integer(1 << 62)]),
        "no encoder")
      try original.write(to: url)
      try Data("{".utf8).write(to: url)
      expectError(.badData, "fedpeat.json") { _ = try AdapterFolder.read(folder, for: model) }
      // Blocks that the model has not are found when it is injected.
      try original.write(to: url)
      try change(url, "blockMap", to: map(["0": 0, "2": 77]))
      let (adapter, _) = try AdapterFolder.read(folder, for: model)
      expectError(.badData, "layers.77.") { _ = try adapter.inject(into: model) }
    }
  }

  @Test func `a wrong adapter_config.json`() throws {
    try withFolder { folder, model, _ in
      let url = folder.appendingPathComponent("adapter_config.json")
      let original = try Data(contentsOf: url)
      let wrong: [(String, JSONValue?, String)] = [
        ("peft_type", .string("ADALORA"), "ADALORA"),
        ("peft_type", .string("IA3"), "describes 'ia3'"), ("peft_type", nil, "Supported: LORA"),
        ("r", .integer(0), "rank"), ("r", .integer(8), "has rank 4"),
        ("r", nil, "'r'"), ("r", .string("4"), "a whole number at r"),
        ("lora_alpha", .integer(-1), "alpha"), ("lora_alpha", nil, "lora_alpha"),
        ("use_dora", .bool(true), "describes 'dora'"), ("bias", .string("all"), "bias"),
        ("lora_bias", .bool(true), "lora_bias"),
        ("modules_to_save", .array([.string("lm_head")]), "modules_to_save"),
        ("trainable_token_indices", .array([.integer(1)]), "trainable_token_indices"),
        ("layer_replication", .array([]), "layer_replication"),
        ("alora_invocation_tokens", .array([.integer(1)]), "alora_invocation_tokens"),
        ("use_qalora", .bool(true), "use_qalora"),
        ("init_lora_weights", .string("pissa_niter_4"), "pissa"),
        ("init_lora_weights", .string("olora"), "olora"),
        ("alpha_pattern", .object(["(q_proj": .integer(2)]), "regular expression"),
        ("alpha_pattern", .object(["q_proj": .integer(0)]), "alpha"),
        ("target_modules", .string("((("), "can't be read: a '(' is not closed"),
        ("target_modules", .string("(.)\\1+q_proj"), "back references"),
        ("target_modules", .string("(([a-z._]+)+)+X"), "has no adapter"),
        ("exclude_modules", .string("*"), "exclude_modules is '*'"),
        ("layers_pattern", .string("((("), "layers_pattern is '((('"),
        ("layers_pattern", .array([.string("["), .string("h")]), "layers_pattern is '['"),
        ("layers_pattern", .integer(1), "layers_pattern"),
        ("rank_pattern", .object(["(([a-z._]+)+)+X(": .integer(2)]), "a '(' is not closed"),
      ]
      for (key, value, word) in wrong {
        try change(url, key, to: value)
        expectError(.badData, word) { _ = try AdapterFolder.read(folder, for: model) }
        try original.write(to: url)
      }
      _ = try AdapterFolder.read(folder, for: model)
    }
  }

  @Test func `tensors that are no numbers, not there or not of a block`() throws {
    try withFolder { folder, model, adapter in
      let url = folder.appendingPathComponent("adapter_model.safetensors")
      func refuse(_ word: String, _ change: (inout NamedTensors) -> Void) throws {
        var state = adapter.state.copied()
        change(&state)
        try SafeTensors.write(state, to: url)
        expectError(.badData, word) { _ = try AdapterFolder.read(folder, for: model) }
      }
      let name = try #require(adapter.state.keys.min())
      for value in [Float.nan, .infinity, -.infinity] {
        try refuse(name) { $0[name]?.pointer[3] = value }
      }
      try refuse("base_model.model.lm_head") {
        $0["base_model.model.lm_head.lora_A.weight"] = Tensor(zeros: [4, 1])
      }
      try refuse("layers.9.") {
        $0["base_model.model.model.layers.9.mlp.up_proj.lora_A.weight"] = Tensor(zeros: [4, 1])
      }
      try refuse("layers.02.") {
        $0["base_model.model.model.layers.02.mlp.up_proj.lora_A.weight"] = Tensor(zeros: [4, 1])
      }
      let whole = SafeTensors.encode(adapter.state)
      try whole.prefix(whole.count - 3).write(to: url)
      expectError(.badData, "adapter_model.safetensors") {
        _ = try AdapterFolder.read(folder, for: model)
      }
      try refuse("'lora' on 'model.embed_tokens'") {
        $0["base_model.model.model.embed_tokens.lora_embedding_A"] = Tensor(zeros: [4, 97])
      }
      try FileManager.default.moveItem(
        at: url, to: folder.appendingPathComponent("adapter_model.bin"))
      expectError(.badData, "pickled", "save_pretrained") {
        _ = try AdapterFolder.read(folder, for: model)
      }
      try FileManager.default.removeItem(at: folder.appendingPathComponent("adapter_model.bin"))
      expectError(.inputOutput) { _ = try AdapterFolder.read(folder, for: model) }
    }
  }

  @Test func `a function that no bottleneck has is refused with those that there are`() throws {
    let model = try checkpoint("llama-tiny").model()
    let adapter = try Adapter(
      new: .bottleneck(BottleneckConfiguration(size: 3)), for: model, blocks: [0], seed: 0,
      sourceDigest: nil)
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter, facts: facts(["0": 0], method: Bottleneck.name),
        configuration: model.configuration, baseModel: "base", to: folder)
      _ = try AdapterFolder.read(folder, for: model)
      try change(
        folder.appendingPathComponent("fedpeat.json"), "bottleneck",
        to: .object(["size": .integer(3), "activation": .string("tanh")]))
      expectError(
        .badData, "fedpeat.json",
        "expected one of relu, gelu, found 'tanh' at bottleneck.activation"
      ) { _ = try AdapterFolder.read(folder, for: model) }
    }
  }

  /// A pipe that nobody writes to would be waited for.
  @Test(arguments: ["adapter_config.json", "fedpeat.json", "adapter_model.safetensors"])
  func `a pipe in the place of a file is refused at once`(name: String) throws {
    try withFolder { folder, model, _ in
      let url = folder.appendingPathComponent(name)
      try FileManager.default.removeItem(at: url)
      try #require(mkfifo(url.path, 0o600) == 0)
      expectError(.inputOutput, name, "a pipe") { _ = try AdapterFolder.read(folder, for: model) }
    }
  }

  @Test func `what changes the model's own weights is refused with what to do`() throws {
    try withFolder { folder, model, _ in
      let url = folder.appendingPathComponent("adapter_config.json")
      try change(url, "init_lora_weights", to: .string("pissa"))
      expectError(
        .badData,
        "asks for init_lora_weights = pissa, which this program does not compute. Convert it"
      ) { _ = try AdapterFolder.read(folder, for: model) }
    }
  }

  /// The first in alphabetical order, as PEFT sorts the keys of its files.
  @Test func `of two patterns that mean a layer the first counts`() throws {
    let lora = try LoRAConfiguration(
      rank: 8, rankPattern: ["mlp.down_proj": 3, "down_proj": 2, "q_proj": 5])
    let model = try checkpoint("llama-tiny").model()
    let adapter = try Adapter(
      new: .lora(lora), for: model, blocks: [0], seed: 0, sourceDigest: nil)
    func rank(_ layer: String) -> Int? {
      adapter.state["base_model.model.model.layers.0.\(layer).lora_A.weight"]?.shape[0]
    }
    #expect(rank("mlp.down_proj") == 2)
    #expect(rank("self_attn.q_proj") == 5)
    #expect(rank("mlp.up_proj") == 8)
  }

  @Test func `an adapter in blocks that an emulator has not says where to use it`() throws {
    try withFolder { folder, model, _ in
      let url = folder.appendingPathComponent("fedpeat.json")
      try change(url, "blockMap", to: .object(["0": .integer(0), "1": .integer(1)]))
      expectError(.badData, "only the blocks 0, 1", "--from") {
        _ = try AdapterFolder.read(folder, for: model)
      }
    }
  }

  @Test func `an adapter of another architecture, and folders that are none`() throws {
    try withFolder { folder, _, _ in
      let gpt2 = try checkpoint("gpt2-tiny").model()
      expectError(.badData, "model.layers") { _ = try AdapterFolder.read(folder, for: gpt2) }
      expectError(.inputOutput, "no adapter folder") {
        _ = try AdapterFolder.read(folder.appendingPathComponent("nowhere"), for: gpt2)
      }
      let empty = folder.deletingLastPathComponent()
      expectError(.inputOutput, "adapter_config.json") { _ = try AdapterFolder.readFiles(empty) }
    }
  }

  @Test func `a folder with something else in it is left alone`() throws {
    try withFolder { folder, model, adapter in
      let stranger = folder.appendingPathComponent("notes.txt")
      try Data("mine".utf8).write(to: stranger)
      expectError(.inputOutput, "notes.txt") {
        try AdapterFolder.write(
          adapter, facts: facts(["0": 0, "2": 2]), configuration: model.configuration,
          baseModel: "base", to: folder)
      }
      #expect(try Data(contentsOf: stranger) == Data("mine".utf8))
      #expect(try AdapterFolder.read(folder, for: model).0.state == adapter.state)
    }
  }

  @Test func `blocks that the map leaves out can't be written, and nothing is`() throws {
    try withFolder { folder, model, adapter in
      let other = folder.deletingLastPathComponent().appendingPathComponent("other")
      expectError(.badData, "layers.2.") {
        try AdapterFolder.write(
          adapter, facts: facts(["0": 0]), configuration: model.configuration, baseModel: "base",
          to: other)
      }
      let names = try FileManager.default.contentsOfDirectory(
        atPath: folder.deletingLastPathComponent().path)
      #expect(names == ["adapter"])
    }
  }
}
