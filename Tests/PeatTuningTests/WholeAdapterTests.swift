import Foundation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// An adapter folder must hold what its files say, neither less nor more; what PEFT writes is read whatever way it is said.
@Suite("Whole adapters") struct WholeAdapterTests {
  private let prefix = "base_model.model.model."

  /// A folder of an adapter in the end blocks of `llama-tiny`, blocks 0 and 4 of five; changed and read again.
  private func withFolder(
    _ method: Adapter.Method,
    split: AdapterFolder.SplitNumbers? = .init(bottom: 1, emulator: 3, top: 1),
    blocks: [Int] = [0, 4], _ body: (Folder) throws -> Void
  ) throws {
    let model = try checkpoint().model()
    let adapter = try Adapter(
      new: method, for: model, blocks: blocks, seed: 1, sourceDigest: nil)
    try withTemporaryFolder { scratch in
      let url = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter,
        facts: .init(
          method: method.name, sourceDigest: nil, modelDigest: nil, split: split,
          blockMap: Dictionary(uniqueKeysWithValues: (0..<5).map { (String($0), $0) })),
        configuration: model.configuration, baseModel: "base", to: url)
      let folder = Folder(url: url, model: model, state: adapter.state)
      #expect(try folder.read().state == adapter.state)
      try body(folder)
    }
  }

  private struct Folder {
    var url: URL
    var model: TransformerModel
    var state: NamedTensors

    func read() throws -> Adapter { try AdapterFolder.read(url, for: model).0 }

    func write(_ tensors: NamedTensors) throws {
      try SafeTensors.write(
        tensors, to: url.appendingPathComponent("adapter_model.safetensors"))
    }

    func change(_ key: String, to value: JSONValue?, in file: String = "adapter_config.json") throws
    {
      let file = url.appendingPathComponent(file)
      var table = try JSONFile.read([String: JSONValue].self, from: file)
      table[key] = value
      try JSONFile.write(table, to: file)
    }

    /// Without some tensors, or with others.
    func refuse(_ words: String..., edit: (inout NamedTensors) -> Void) throws {
      var changed = state
      edit(&changed)
      try write(changed)
      do {
        _ = try read()
        Issue.record("was read: \(words)")
      } catch let error as PeatError {
        #expect(error.code == .badData)
        for word in words { #expect(error.message.contains(word), "\(error)") }
      }
      try write(state)
    }

    func refuse(_ key: String, _ value: JSONValue?, _ words: String...) throws {
      let file = url.appendingPathComponent("adapter_config.json")
      let before = try Data(contentsOf: file)
      try change(key, to: value)
      do {
        _ = try read()
        Issue.record("was read: \(key) \(words)")
      } catch let error as PeatError {
        #expect(error.code == .badData)
        for word in words { #expect(error.message.contains(word), "\(error)") }
      }
      try before.write(to: file)
    }
  }

  private func names(_ list: String...) -> JSONValue { .array(list.map { .string($0) }) }

  @Test func `LoRA without a layer, without half of one, or with one more`() throws {
    try withFolder(.lora(try LoRAConfiguration(rank: 4))) { folder in
      let q = prefix + "layers.0.self_attn.q_proj"
      let (down, up) = (q + ".lora_A.weight", q + ".lora_B.weight")
      try folder.refuse("layers.0.self_attn.q_proj", "target_modules") {
        ($0[down], $0[up]) = (nil, nil)
      }
      try folder.refuse("'\(down)' but no", "lora_B") { $0[up] = nil }
      try folder.refuse("'\(up)' but no", "lora_A") { $0[down] = nil }
      try folder.refuse("does not fit together", "[3,") {
        $0[down] = Tensor(zeros: [3, folder.model.configuration.hiddenSize])
      }
      // A remainder is for runs; folders have none.
      try folder.refuse("remainder_A") {
        $0[q + ".remainder_A.weight"] = $0[down]
        $0[q + ".remainder_B.weight"] = $0[up]
      }
      try folder.refuse("is empty") { $0 = [:] }
      // What the file does not mean.
      try folder.refuse("target_modules", names("k_proj"), "layers.0.mlp", "target_modules")
      try folder.refuse(
        "layers_to_transform", .array([.integer(0)]), "layers.4", "layers_to_transform")
      try folder.refuse("layers_to_transform", .integer(0), "layers.4")
      try folder.refuse("exclude_modules", names("q_proj"), "q_proj", "exclude_modules")
      try folder.refuse("layers_to_transform", .null, "layers.1", "no tensors")
    }
  }

  @Test func `ranks are those of r and rank_pattern`() throws {
    try withFolder(.lora(try LoRAConfiguration(rank: 4, rankPattern: ["q_proj": 2]))) { folder in
      try folder.refuse("rank_pattern", .object([:]), "q_proj", "rank 2", "says 4")
      try folder.refuse("rank_pattern", .object(["v_proj": .integer(2)]), "rank")
      try folder.refuse("r", .integer(2), "rank")
      try folder.refuse("rank_pattern", .array([.integer(2)]), "rank_pattern")
      try folder.refuse("rank_pattern", .string("q_proj"), "rank_pattern")
      try folder.refuse("rank_pattern", .object(["q_proj": .string("2")]), "rank_pattern.q_proj")
      // As PEFT says it.
      try folder.change("rank_pattern", to: .object([".*q_pro.": .integer(2)]))
      #expect(try folder.read().state == folder.state)
    }
  }

  @Test func `patterns, exclusions and whole names are read as PEFT reads them`() throws {
    let method = Adapter.Method.lora(
      try LoRAConfiguration(rank: 4, targetModules: ["q_proj", "v_proj"]))
    try withFolder(method, split: nil, blocks: Array(0..<5)) { folder in
      let q = prefix + "layers.3.self_attn.q_proj"
      for (key, value) in [
        ("target_modules", .string(".*\\.(q|v)_proj")),
        ("target_modules", names("q_proj", "v_proj")),
        ("layers_to_transform", .null), ("layers_to_transform", .array([])),
        ("alpha_pattern", .object(["layers\\.3\\..*": .number(80)])),
      ] as [(String, JSONValue)] {
        try folder.change(key, to: value)
        #expect(try folder.read().state == folder.state, "\(key): \(value)")
      }
      let adapter = try folder.read()
      let pair = try #require(folder.model.blocks[3].linears.first { $0.name.hasSuffix("q_proj") })
      let injected = try adapter.inject(into: folder.model)
      #expect(pair.lowRank?.scale == 20)
      injected.remove()
      try folder.change("target_modules", to: .string("all-linear"))
      try folder.change("exclude_modules", to: .string(".*(k|o|gate|up|down)_proj"))
      #expect(try folder.read().state == folder.state)
      // The tensors of a layer that is excluded are no part of it.
      try folder.change("exclude_modules", to: names("k_proj", "o_proj", "gate_proj", "up_proj"))
      #expect(throws: PeatError.self) { _ = try folder.read() }
      #expect(folder.state[q + ".lora_A.weight"] != nil)
    }
  }

  @Test func `keys of the wrong kind are refused by name`() throws {
    try withFolder(.lora(try LoRAConfiguration(rank: 4))) { folder in
      for (key, value) in [
        ("modules_to_save", .string("lm_head")), ("bias", .bool(true)), ("bias", .string("all")),
        ("lora_bias", .string("true")), ("lora_bias", .integer(1)), ("target_modules", .integer(5)),
        ("exclude_modules", .array([.integer(1)])), ("layers_to_transform", .string("0")),
        ("alpha_pattern", .object(["q_proj": .number(1e300)])), ("lora_dropout", .integer(5)),
        ("r", .number(8.5)), ("r", .number(1e30)), ("r", .string("8")),
      ] as [(String, JSONValue)] {
        try folder.refuse(
          key, value, key == "alpha_pattern" ? "alpha" : key == "lora_dropout" ? "dropout" : key)
      }
    }
    try withFolder(.ia3(try IA3Configuration())) { folder in
      try folder.refuse("feedforward_modules", .integer(5), "feedforward_modules")
    }
    let dora = try LoRAConfiguration(rank: 2, usesMagnitudes: true)
    try withFolder(.lora(dora)) { folder in
      try folder.refuse("lora_dropout", .integer(5), "dropout of 5")
    }
  }

  @Test func `every method misses what it lacks`() throws {
    let layer = prefix + "layers.0.self_attn.k_proj"
    let dora = try LoRAConfiguration(rank: 2, usesMagnitudes: true)
    for (method, missing) in [
      (.ia3(try IA3Configuration()), layer + ".ia3_l"),
      (.normTuning, prefix + "layers.4.input_layernorm.ln_tuning_layers.weight"),
      (.endBlocks, "model.layers.4.mlp.up_proj.weight"),
      (.lora(dora), layer + ".lora_magnitude_vector"),
      (
        .bottleneck(try BottleneckConfiguration(size: 2)),
        "model.layers.0.feed_forward_adapter.up.bias"
      ),
      (
        .prefixTuning(try VirtualTokenConfiguration(virtualTokens: 2)),
        "model.layers.4.attention_prefix.values"
      ),
    ] as [(Adapter.Method, String)] {
      try withFolder(method) { folder in
        #expect(folder.state[missing] != nil, "\(missing)")
        if method == .normTuning || method.name == "ia3" {
          // Names follow from the tensors; PEFT's file names ends.
          try folder.change(
            "target_modules",
            to: method == .normTuning
              ? names("input_layernorm", "post_attention_layernorm")
              : names("k_proj", "v_proj", "down_proj"))
          try folder.change("feedforward_modules", to: names("down_proj"))
          var numbers = folder.state
          numbers = numbers.filter {
            !$0.key.contains("layers.0.") && !$0.key.contains("layers.4.")
          }
          #expect(numbers.isEmpty)
        }
        guard method.name != "ia3", method != .normTuning else {
          // All blocks are meant now, so that 1 is the first that is missing.
          try folder.refuse("layers.1.") { _ in }
          return
        }
        try folder.refuse(missing) { $0[missing] = nil }
        // A whole block.
        let block = missing.contains("layers.0.") ? "layers.0." : "layers.4."
        try folder.refuse(block) { $0 = $0.filter { !$0.key.contains(block) } }
        try folder.refuse("stranger") { $0["model.layers.0.stranger.weight"] = [1] }
      }
    }
    // With blocks all there, one is missed by its name.
    for (method, missing) in [
      (.ia3(try IA3Configuration()), layer + ".ia3_l"),
      (.normTuning, prefix + "layers.4.input_layernorm.ln_tuning_layers.weight"),
    ] as [(Adapter.Method, String)] {
      try withFolder(method, split: nil, blocks: Array(0..<5)) { folder in
        try folder.change(
          "target_modules",
          to: method == .normTuning
            ? names("input_layernorm", "post_attention_layernorm")
            : names("k_proj", "v_proj", "down_proj"))
        try folder.change("feedforward_modules", to: names("down_proj"))
        #expect(try folder.read().state == folder.state)
        let start = missing.range(of: "layers")?.lowerBound ?? missing.startIndex
        let end = missing.range(of: "_proj.")?.lowerBound ?? missing.range(of: ".ln_")?.lowerBound
        try folder.refuse(String(missing[start..<(end ?? missing.endIndex)])) { $0[missing] = nil }
      }
    }
  }

  @Test func `a split of impossible numbers is refused`() throws {
    try withFolder(.lora(try LoRAConfiguration(rank: 4))) { folder in
      for (bottom, top) in [(1, Int.min), (-5, -5), (1 << 62, 1 << 62)] {
        try folder.change(
          "split",
          to: .object(["bottom": .integer(bottom), "emulator": .integer(1), "top": .integer(top)]),
          in: "fedpeat.json")
        expectError(.badData, "split", "\(top)") { _ = try folder.read() }
      }
    }
  }

  @Test func `the norm behind the blocks, as PEFT's usual LN_TUNING has it`() throws {
    try withFolder(.normTuning, split: nil, blocks: Array(0..<5)) { folder in
      let name = prefix + "norm.ln_tuning_layers.weight"
      let width = folder.model.configuration.hiddenSize
      try folder.change(
        "target_modules", to: names("input_layernorm", "post_attention_layernorm", "norm"))
      try folder.refuse("model.norm", "no tensors") { _ in }
      var state = folder.state
      state[name] = Tensor(repeating: 2, shape: [width])
      try folder.write(state)
      let adapter = try folder.read()
      #expect(adapter.state == state)
      let before = folder.model.someLogits
      let injected = try adapter.inject(into: folder.model)
      // All else is as the model has it, and its last norm has weights near 1.
      let after = folder.model.someLogits
      #expect(after != before)
      injected.remove()
      #expect(folder.model.someLogits == before)
      let merged = try PlugIn.mergedTensors(
        adapter, into: folder.model, digest: folder.model.tensors.digest)
      #expect(merged.tensors["model.norm.weight"] == state[name])
      // What it keeps, and what PEFT would make.
      let again = folder.url.deletingLastPathComponent().appendingPathComponent("again")
      try AdapterFolder.write(
        adapter,
        facts: .init(
          method: adapter.method.name, sourceDigest: nil, modelDigest: nil, split: nil,
          blockMap: Dictionary(uniqueKeysWithValues: (0..<5).map { (String($0), $0) })),
        configuration: folder.model.configuration, baseModel: "base", to: again)
      #expect(try AdapterFolder.read(again, for: folder.model).0.state == state)
    }
  }

  @Test func `IA3 with a feed-forward module in one block alone`() throws {
    try withFolder(
      .ia3(try IA3Configuration(targetModules: ["k_proj", "down_proj"])), split: nil,
      blocks: Array(0..<5)
    ) { folder in
      let configuration = folder.model.configuration
      var state = folder.state
      // In the other blocks what comes out of down_proj is scaled.
      for block in 1..<5 {
        state[prefix + "layers.\(block).mlp.down_proj.ia3_l"] = Tensor(
          repeating: 1.5, shape: [configuration.hiddenSize, 1])
      }
      try folder.write(state)
      try folder.change(
        "target_modules", to: names("k_proj", "down_proj", "model.layers.0.mlp.down_proj"))
      try folder.change("feedforward_modules", to: names("model.layers.0.mlp.down_proj"))
      let adapter = try folder.read()
      #expect(adapter.state == state)
      let injected = try adapter.inject(into: folder.model)
      let down = folder.model.blocks.map { $0.linears.last }
      #expect(down.map { $0?.inputScale != nil } == [true, false, false, false, false])
      #expect(down.map { $0?.outputScale != nil } == [false, true, true, true, true])
      injected.remove()
    }
  }

  @Test func `feed-forward modules are among IA3's targets, and options belong to their method`()
    throws
  {
    expectError(.usage, "'q_proj'", "targets") {
      _ = try IA3Configuration(targetModules: ["k_proj"], feedForwardModules: ["q_proj"])
    }
    let model = try checkpoint().model()
    expectError(.usage, "'q_proj'", "mlp.down_proj") {
      _ = try Adapter(
        new: .ia3(try IA3Configuration(feedForwardModules: ["q_proj"])), for: model, blocks: [0],
        seed: 1, sourceDigest: nil)
    }
    expectError(.usage, "--rank is no option of the method 'ia3'", "--target-modules") {
      try MethodOptions.check([.rank], of: "ia3") { $0.flag }
    }
    expectError(.usage, "--feed-forward-modules") {
      try MethodOptions.check([.feedForwardModules], of: "lora") { $0.flag }
    }
    expectError(.usage, "all-linear", "stands alone") {
      _ = try Adapter(
        new: .lora(try LoRAConfiguration(targetModules: ["all-linear", "q_proj"])), for: model,
        blocks: [0], seed: 1, sourceDigest: nil)
    }
    expectError(.usage, "rank of 4096", "more than any") {
      _ = try Adapter(
        new: .lora(try LoRAConfiguration(rank: 4096)), for: model, blocks: [0], seed: 1,
        sourceDigest: nil)
    }
  }
}
