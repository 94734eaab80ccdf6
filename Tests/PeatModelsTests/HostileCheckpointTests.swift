import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("Checkpoints that are wrong") struct HostileCheckpointTests {
  private func expectBadData(
    _ error: PeatError?, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(error?.code == .badData, "\(String(describing: error))", sourceLocation: sourceLocation)
    for word in words {
      #expect(
        error?.message.contains(word) == true, "'\(word)' in: \(error?.message ?? "no error")",
        sourceLocation: sourceLocation)
    }
  }

  @Test func `nothing changed, nothing refused`() throws {
    #expect(try TinyModel.error() == nil)
    #expect(try TinyModel.error("gpt2-tiny") == nil)
  }

  @Test func `a configuration that contradicts the tensors`() throws {
    expectBadData(
      try TinyModel.error(configuration: ["hidden_size": 64]), "has shape", "config.json expects")
    expectBadData(
      try TinyModel.error(configuration: ["intermediate_size": 41]), "[40, 32]", "[41, 32]")
    expectBadData(
      try TinyModel.error(configuration: ["num_key_value_heads": 4]), "k_proj.weight", "[32, 32]")
    expectBadData(
      try TinyModel.error(configuration: ["num_hidden_layers": 6]), "no tensor 'model.layers.5.")
    expectBadData(
      try TinyModel.error(configuration: ["num_hidden_layers": 4]), "does not account for",
      "model.layers.4.")
    expectBadData(
      try TinyModel.error(configuration: ["tie_word_embeddings": false]), "lm_head.weight")
    // A tied head may be in the file as well, but then it is the embedding.
    #expect(
      try TinyModel.error { $0["lm_head.weight"] = $0["model.embed_tokens.weight"]?.copied() }
        == nil)
    expectBadData(
      try TinyModel.error {
        $0["lm_head.weight"] = $0["model.embed_tokens.weight"]?.copied()
        $0["lm_head.weight"]?.pointer[5] += 1
      }, "tie_word_embeddings", "lm_head.weight")
    expectBadData(
      try TinyModel.error(configuration: ["attention_bias": true]), "q_proj.bias")
    expectBadData(
      try TinyModel.error("gpt2-tiny", configuration: ["n_positions": 1_073_741_824]), "wpe.weight",
      "[64, 32]")
    expectBadData(try TinyModel.error("gpt2-tiny", configuration: ["n_inner": nil]), "[32, 128]")
  }

  @Test func `sizes whose products no Int could hold`() throws {
    let large: JSONValue = 2_147_483_647
    expectBadData(
      try TinyModel.error(configuration: ["intermediate_size": large, "hidden_size": large]),
      "17 trillion weights")
    expectBadData(
      try TinyModel.error("gpt2-tiny", configuration: ["vocab_size": large, "n_embd": 131_072]),
      "17 trillion weights")
    // Rotary positions are no weights.
    #expect(try TinyModel.error(configuration: ["max_position_embeddings": large]) == nil)
  }

  @Test func `tensors that are missing, extra or of another shape`() throws {
    expectBadData(
      try TinyModel.error { $0["model.layers.2.mlp.up_proj.weight"] = nil },
      "no tensor 'model.layers.2.mlp.up_proj.weight'")
    expectBadData(
      try TinyModel.error { $0["model.layers.2.mlp.side_proj.weight"] = [1] }, "1 tensor(s)",
      "side_proj")
    expectBadData(
      try TinyModel.error { $0["model.norm.weight"] = Tensor(zeros: [32, 1]) }, "model.norm.weight",
      "[32, 1]", "[32]")
    expectBadData(
      try TinyModel.error { $0["model.norm.weight"] = Tensor(zeros: [0]) }, "[0]")
    // Buffers that old checkpoints hold, and a head that is tied anyway, do no harm.
    #expect(
      try TinyModel.error { $0["model.layers.0.self_attn.rotary_emb.inv_freq"] = [1] } == nil)
    #expect(try TinyModel.error { $0["lm_head.weight"] = $0["model.embed_tokens.weight"] } == nil)
  }

  @Test func `an unknown architecture, with the ones that are supported`() throws {
    expectBadData(
      try TinyModel.error(configuration: ["model_type": "mamba"]), "'mamba'",
      "Supported: \(Architectures.supported)", "clip", "llama", "mlp-mixer")
    expectBadData(try TinyModel.error(configuration: ["model_type": nil]), "model_type")
    expectBadData(try TinyModel.error(configuration: ["model_type": 3]), "model_type", "a text")
  }

  @Test(arguments: [
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "intermediate_size", "max_position_embeddings", "head_dim",
  ])
  func `sizes that are none`(key: String) throws {
    let wrong: [JSONValue] = [
      0, -1, .integer(.min), .integer(.max), 2.5, 1e300, "32", true, [1], [:],
    ]
    for value in wrong {
      expectBadData(
        try TinyModel.error(configuration: [key: value]), key, "a positive whole number")
    }
  }

  @Test func `sizes that are absurd are refused before anything is allocated`() throws {
    let most = JSONValue.integer(1 << 31 - 1)
    for key in [
      "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
      "vocab_size", "intermediate_size", "head_dim",
    ] {
      expectBadData(try TinyModel.error(configuration: [key: most]))
    }
    expectBadData(
      try TinyModel.error(configuration: [
        "hidden_size": most, "num_attention_heads": most, "vocab_size": most, "head_dim": nil,
        "num_key_value_heads": nil, "intermediate_size": most,
      ]))
    for key in ["n_embd", "n_head", "n_layer", "n_inner", "vocab_size"] {
      expectBadData(try TinyModel.error("gpt2-tiny", configuration: [key: most]))
    }
  }

  /// A list with an entry for each would be of gigabytes.
  @Test func `blocks and classes are counted before lists of them are made`() throws {
    func refuse(_ family: String, _ key: String, _ word: String) throws {
      let checkpoint = try Checkpoint(
        folder: ProjectFolders.golden.appendingPathComponent("families/\(family)"))
      guard case .object(var json) = checkpoint.configurationJSON else { return }
      (json["layer_types"], json["id2label"]) = (nil, nil)
      json[key] = .integer(1 << 31 - 1)
      expectBadData(
        #expect(throws: PeatError.self) {
          try Architectures.configuration(from: ConfigurationFile(name: "x", json: .object(json)))
        }, word, "too many")
    }
    try refuse("gemma2", "num_hidden_layers", "blocks")
    try refuse("qwen2", "num_hidden_layers", "blocks")
    try refuse("bert-classes", "num_labels", "classes")
  }

  @Test func `a huge context costs nothing until it is used`() throws {
    let checkpoint = try TinyModel.checkpoint("llama-tiny")
    let json = try TinyModel.configuration(
      "llama-tiny", ["max_position_embeddings": .integer(1 << 31 - 1)])
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(name: "config.json", json: json))
    #expect(configuration.contextLength == 1 << 31 - 1)
    let model = try TransformerModel(
      configuration: configuration, tensors: checkpoint.tensors(), source: "huge context")
    let before = ProcessMeasurement.peakMemoryBytes
    #expect(
      model.logits(someTokens, length: someTokens.count)
        == (try checkpoint.model().logits(
          someTokens, length: someTokens.count)))
    #expect(ProcessMeasurement.peakMemoryBytes - before < 200 << 20)
  }

  @Test func `heads that do not divide`() throws {
    expectBadData(
      try TinyModel.error(configuration: ["head_dim": 7]), "pairs of values", "7")
    expectBadData(
      try TinyModel.error(configuration: ["num_key_value_heads": 3]), "4 attention heads",
      "3 key/value heads")
    expectBadData(
      try TinyModel.error(configuration: ["num_attention_heads": 5, "head_dim": nil]),
      "not a multiple")
    expectBadData(try TinyModel.error("gpt2-tiny", configuration: ["n_head": 5]), "not a multiple")
  }

  @Test func `what this program does not compute`() throws {
    func rope(_ settings: JSONValue, _ words: String...) throws {
      // The golden file has rope_parameters, which are looked at first.
      for key in ["rope_parameters", "rope_scaling"] {
        var changes: [String: JSONValue?] = [:]
        changes.updateValue(nil, forKey: "rope_parameters")
        changes[key] = .some(settings)
        let error = try TinyModel.error(configuration: changes)
        #expect(error?.code == .badData)
        for word in words + [key] { #expect(error?.message.contains(word) == true, "\(word)") }
      }
    }
    try rope(["rope_type": "longrope", "factor": 8], "rope_type", "longrope")
    try rope(["rope_type": "linear"], "no 'factor'")
    try rope(["type": "linear", "factor": 0], "factor", "above 0")
    try rope(["rope_type": "llama3", "factor": 8], "no 'low_freq_factor'")
    try rope(
      [
        "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
        "original_max_position_embeddings": 8,
      ], "high_freq_factor")
    try rope(["rope_type": "yarn", "factor": -2], "factor")
    try rope(5, "a table")
    expectBadData(try TinyModel.error(configuration: ["hidden_act": "mish"]), "hidden_act")
    expectBadData(
      try TinyModel.error("gpt2-tiny", configuration: ["activation_function": "sigmoid"]),
      "activation_function", "sigmoid")
    expectBadData(
      try TinyModel.error("gpt2-tiny", configuration: ["scale_attn_by_inverse_layer_idx": true]),
      "scale_attn_by_inverse_layer_idx")
    expectBadData(
      try TinyModel.error(configuration: ["rope_parameters": ["rope_theta": 0.5]]), "rope_theta")
    expectBadData(try TinyModel.error(configuration: ["rms_norm_eps": -1]), "epsilon")
    expectBadData(try TinyModel.error(configuration: ["rms_norm_eps": "small"]), "rms_norm_eps")
  }

  @Test func `what would be another model than the one that is computed`() throws {
    expectBadData(
      try TinyModel.error(
        configuration: ["quantization_config": ["quant_method": "gptq", "bits": 4]]),
      "quantization_config (gptq)", "--storage")
    #expect(try TinyModel.error(configuration: ["quantization_config": JSONValue.null]) == nil)
    expectBadData(
      try TinyModel.error(configuration: ["quantization": ["group_size": 64, "bits": 4]]),
      "quantization")
    for key in ["is_encoder_decoder", "add_cross_attention", "use_bidirectional_attention"] {
      expectBadData(try TinyModel.error(configuration: [key: true]), key)
      #expect(try TinyModel.error(configuration: [key: false]) == nil)
    }
    expectBadData(
      try TinyModel.error(configuration: ["pruned_heads": ["0": [1]]]), "pruned_heads")
  }

  @Test(arguments: [
    ("llama-tiny", "LlamaForTokenClassification"), ("llama-tiny", "LlamaForQuestionAnswering"),
    ("gpt2-tiny", "GPT2DoubleHeadsModel"), ("gpt2-tiny", "GPT2ForTokenClassification"),
  ])
  func `heads that are not computed`(name: String, kind: String) throws {
    let family = String(kind.prefix { $0 != "F" && $0 != "D" })
    expectBadData(
      try TinyModel.error(name, configuration: ["architectures": [.string(kind)]]), kind,
      "\"\(family)Model\"", "ForSequenceClassification")
  }

  @Test(arguments: [
    ("bert-masked", "BertForTokenClassification"), ("bert-masked", "BertForQuestionAnswering"),
    ("bert-masked", "BertForNextSentencePrediction"), ("bert-masked", "BertLMHeadModel"),
    ("distilbert-masked", "DistilBertForMultipleChoice"),
    ("roberta-masked", "RobertaForMultipleChoice"),
    ("vit", "ViTForMaskedImageModeling"), ("deit", "DeiTForImageClassificationWithTeacher"),
  ])
  func `an encoder's heads that are not computed`(name: String, kind: String) throws {
    let source = ProjectFolders.golden.appendingPathComponent("families/\(name)/config.json")
    guard case .object(var table) = try JSONFile.read(JSONValue.self, from: source) else { return }
    let file = ConfigurationFile(name: "config.json", json: .object(table))
    _ = try Architectures.configuration(from: file)
    table["architectures"] = [.string(kind)]
    let changed = ConfigurationFile(name: "config.json", json: .object(table))
    let error = #expect(throws: PeatError.self) {
      try Architectures.configuration(from: changed)
    }
    expectBadData(error, kind)
    // Only BERT has it.
    #expect(error?.message.contains("ForPreTraining") == name.hasPrefix("bert"))
  }

  @Test func `positions that are said in two ways`() throws {
    let plain: JSONValue = ["rope_type": "linear", "factor": 2.0, "rope_theta": 500]
    // The same by the older names and without what the file says itself.
    let older: JSONValue = ["type": "linear", "factor": 2]
    func error(_ newer: JSONValue, _ older: JSONValue) throws -> PeatError? {
      try TinyModel.error(configuration: [
        "rope_parameters": newer, "rope_scaling": older, "rope_theta": 500,
      ])
    }
    #expect(try error(plain, older) == nil)
    #expect(try error(plain, [:]) == nil)
    expectBadData(
      try error(plain, ["type": "linear", "factor": 3]), "rope_parameters and rope_scaling",
      "differ in factor")
    expectBadData(try error(["rope_theta": 500], older), "rope_type")
    expectBadData(
      try error(["sliding_attention": ["rope_theta": 500]], [:]), "sliding_attention")
    expectBadData(
      try TinyModel.error(configuration: ["partial_rotary_factor": 0.5]), "partial_rotary_factor")
    #expect(try TinyModel.error(configuration: ["partial_rotary_factor": 1]) == nil)
  }

  @Test func `the context of before, beside the table of positions or in it`() throws {
    func rotary(_ changes: [String: JSONValue]) throws -> TransformerConfiguration.Positions {
      guard case .object(var table) = try TinyModel.configuration("llama-tiny") else {
        throw PeatError.badData("no table")
      }
      table["rope_parameters"] = nil
      table.merge(changes) { $1 }
      return try Architectures.configuration(
        from: ConfigurationFile(name: "config.json", json: .object(table))
      ).positions
    }
    let yarn: JSONValue = ["rope_type": "yarn", "factor": 4, "rope_theta": 300]
    let within: JSONValue = [
      "rope_type": "yarn", "factor": 4, "rope_theta": 300, "original_max_position_embeddings": 9,
    ]
    let other: JSONValue = [
      "rope_type": "yarn", "factor": 4, "rope_theta": 300, "original_max_position_embeddings": 2000,
    ]
    // transformers takes the one beside it.
    let beside = try rotary(["rope_parameters": yarn, "original_max_position_embeddings": 9])
    #expect(try beside == rotary(["rope_parameters": within]))
    #expect(
      try beside == rotary(["rope_parameters": other, "original_max_position_embeddings": 9]))
    #expect(try beside != rotary(["rope_parameters": other]))
    // What is 0 is as if it were not there.
    let zero: JSONValue = [
      "rope_type": "yarn", "factor": 4, "rope_theta": 300, "original_max_position_embeddings": 9,
      "mscale": 0, "mscale_all_dim": 1, "beta_fast": 0,
    ]
    #expect(try beside == rotary(["rope_parameters": zero]))
  }

  @Test(arguments: ["", "[", "[]", "3", "{\"model_type\"", "{\"model_type\": \"llama\"}", "\u{0}"])
  func `a config.json that is something else`(text: String) throws {
    try withTemporaryFolder { folder in
      try TinyModel.write(
        folder, configuration: .null, tensors: try TinyModel.checkpoint("llama-tiny").tensors())
      try Data(text.utf8).write(to: folder.appendingPathComponent("config.json"))
      expectBadData(
        #expect(throws: PeatError.self) { try Checkpoint(folder: folder) }, "config.json")
    }
  }

  @Test func `safetensors cut off anywhere are refused`() throws {
    let whole = try Data(
      contentsOf: TinyModel.folder("llama-tiny").appendingPathComponent("model.safetensors"))
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("model.safetensors")
      try JSONFile.write(
        TinyModel.configuration("llama-tiny"), to: folder.appendingPathComponent("config.json"))
      for length in [0, 1, 7, 8, 9, 100, 2000, whole.count / 2, whole.count - 1] {
        try whole.prefix(length).write(to: file)
        let error = #expect(throws: PeatError.self) { try Checkpoint(folder: folder).model() }
        expectBadData(error, "model.safetensors")
      }
      try whole.write(to: file)
      _ = try Checkpoint(folder: folder).model()
      try (whole + Data([0])).write(to: file)
      expectBadData(#expect(throws: PeatError.self) { try Checkpoint(folder: folder).model() })
    }
  }

  @Test func `an index that names other places, or lies`() throws {
    let source = TinyModel.folder("llama-tiny-bf16")
    try withTemporaryFolder { outer in
      let folder = outer.appendingPathComponent("model")
      try FileManager.default.copyItem(at: source, to: folder)
      _ = try Checkpoint(folder: folder).model()
      let shard = "model-00001-of-00003.safetensors"
      try FileManager.default.copyItem(
        at: folder.appendingPathComponent(shard), to: outer.appendingPathComponent("x.safetensors"))
      let url = folder.appendingPathComponent("model.safetensors.index.json")
      let original = try JSONFile.read(JSONValue.self, from: url)
      let map = try #require(original["weight_map"]?.object)
      let (tensor, _) = try #require(map.first { $0.value.string == shard })

      func error(_ change: (inout [String: JSONValue]) -> Void) throws -> PeatError? {
        var changed = map
        change(&changed)
        try JSONFile.write(JSONValue.object(["weight_map": .object(changed)]), to: url)
        return #expect(throws: PeatError.self) { try Checkpoint(folder: folder).model() }
      }
      for place in ["../x.safetensors", outer.appendingPathComponent("x.safetensors").path] {
        expectBadData(try error { $0[tensor] = .string(place) }, "not beside it", place)
      }
      expectBadData(try error { $0[tensor] = "config.json" }, "config.json")
      expectBadData(
        try error { $0[tensor] = "model-00003-of-00003.safetensors" }, tensor, "no such tensor")
      expectBadData(try error { $0[tensor] = nil }, tensor)
      expectBadData(try error { $0["another"] = .string(shard) }, "another")
      let missing = try error { $0[tensor] = "model-00009-of-00003.safetensors" }
      #expect(missing?.code == .inputOutput)
      try Data("{}".utf8).write(to: url)
      expectBadData(
        #expect(throws: PeatError.self) { try Checkpoint(folder: folder).model() }, "weight_map")
    }
  }

  @Test func `folders that are none, or lack files`() throws {
    try withTemporaryFolder { folder in
      func code(_ url: URL) -> PeatError.Code? {
        #expect(throws: PeatError.self) { try Checkpoint(folder: url) }?.code
      }
      #expect(code(folder.appendingPathComponent("nowhere")) == .inputOutput)
      #expect(code(folder) == .inputOutput)
      let config = folder.appendingPathComponent("config.json")
      try JSONFile.write(TinyModel.configuration("llama-tiny"), to: config)
      #expect(code(config) == .inputOutput)
      #expect(code(folder) == .inputOutput)
    }
  }

  @Test(arguments: [
    "[0, 1, 3]", "[0, 1, 3, 3, 4]", "[4, 3, 2, 1, 0]", "[-1, 1, 2, 3, 4]", "5", "null",
    "[0, 1, 2, 3, \"4\"]",
  ])
  func `an emulator.json whose blocks are wrong`(kept: String) throws {
    try withTemporaryFolder { folder in
      try TinyModel.write(
        folder, configuration: TinyModel.configuration("llama-tiny"),
        tensors: try TinyModel.checkpoint("llama-tiny").tensors())
      try Data("{\"keptBlocks\": \(kept)}".utf8)
        .write(to: folder.appendingPathComponent("emulator.json"))
      expectBadData(
        #expect(throws: PeatError.self) { try Checkpoint(folder: folder).model() }, "keptBlocks")
    }
  }
}
