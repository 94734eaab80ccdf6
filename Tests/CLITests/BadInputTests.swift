import Foundation
import TestSupport
import Testing

/// Each kind of wrong input ends with its exit code and a message that helps, and leaves nothing half-written.
@Suite("Bad input") struct BadInputTests {
  // MARK: Checkpoints

  @Test func `a truncated or lying safetensors file`() async throws {
    try await withWorkshop { workshop, folder in
      let model = try workshop.copy("model", to: folder)
      let file = model.appendingPathComponent("model.safetensors")
      let whole = try Data(contentsOf: file)
      func spoil(_ data: Data) throws { try data.write(to: file) }
      func header(_ count: UInt64, _ rest: Data) -> Data {
        withUnsafeBytes(of: count.littleEndian) { Data($0) } + rest
      }
      let length = whole.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
      let text = String(decoding: whole[8..<8 + Int(length)], as: UTF8.self)
      let values = Data(whole.dropFirst(8 + Int(length)))
      func lie(_ old: String, _ new: String) -> Data {
        let changed = Data(text.replacingOccurrences(of: old, with: new).utf8)
        return header(UInt64(changed.count), changed + values)
      }
      let spoiled = [
        Data(), whole.prefix(5), whole.prefix(100), whole.dropLast(1000), whole.dropLast(1),
        header(.max, whole.dropFirst(8)), header(length + 1, whole.dropFirst(8)),
        header(0, whole.dropFirst(8)), lie("\"F32\"", "\"F33\""), lie("\"F32\"", "\"F16\""),
        lie("[300,", "[301,"), lie("[300,", "[-300,"), lie("[300,", "[9223372036854775807,"),
        lie("data_offsets", "data_offset"), lie("{", "["), lie("\"shape\"", "\"shape\":[],\"x\""),
      ]
      for data in spoiled where data != whole {
        try spoil(data)
        try await expect(65, saying: ["model.safetensors"], from: ["inspect", "model"], in: folder)
      }
      try spoil(whole.prefix(1000))
      try await expect(
        65, from: ["compress", "model", "--recipe", "layer-drop=1", "--out", "x"], in: folder)
      #expect(!FileManager.default.fileExists(atPath: folder.appendingPathComponent("x").path))
    }
  }

  @Test func `a config that contradicts its tensors, or is not known`() async throws {
    try await withWorkshop { workshop, folder in
      let model = try workshop.copy("model", to: folder)
      let file = model.appendingPathComponent("config.json")
      let config = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      let changes: [(String, Any?, [String])] = [
        ("num_hidden_layers", 5, ["model.layers.4"]),
        ("num_hidden_layers", 3, ["model.layers.3"]),
        ("hidden_size", 64, ["[300, 32]", "[300, 64]"]),
        ("intermediate_size", 10, ["shape"]), ("vocab_size", 301, ["[301, 32]"]),
        ("num_attention_heads", 0, ["num_attention_heads"]),
        ("num_attention_heads", 3, ["q_proj"]),
        ("num_key_value_heads", 4, ["key/value heads"]),
        ("hidden_size", "wide", ["hidden_size"]), ("hidden_size", nil, ["hidden_size"]),
        ("rms_norm_eps", "x", ["rms_norm_eps"]), ("hidden_act", "mish", ["hidden_act"]),
        ("model_type", "mamba", ["mamba", "gpt2, gpt_neox, llama"]),
        ("model_type", nil, ["model_type"]),
        ("max_position_embeddings", -4, ["max_position_embeddings"]),
      ]
      for (key, value, says) in changes {
        var changed = config
        changed[key] = value
        try JSONSerialization.data(withJSONObject: changed).write(to: file)
        try await expect(65, saying: says, from: ["inspect", "model"], in: folder)
      }
      for text in ["", "{", "[]", "null", "\u{0}"] {
        try Data(text.utf8).write(to: file)
        try await expect(65, saying: ["config.json"], from: ["inspect", "model"], in: folder)
      }
      try FileManager.default.removeItem(at: file)
      try await expect(
        74, saying: ["config.json"], from: ["evaluate", "model", "--text", workshop.text],
        in: folder)
    }
  }

  @Test func `weights that are not numbers`() async throws {
    try await withWorkshop { workshop, folder in
      let model = try workshop.copy("model", to: folder)
      let file = model.appendingPathComponent("model.safetensors")
      var data = try Data(contentsOf: file)
      for place in stride(from: data.count - 4000, to: data.count, by: 4) {
        data.replaceSubrange(place..<place + 4, with: [0, 0, 0xC0, 0x7F])
      }
      try data.write(to: file)
      for arguments in [
        ["evaluate", "model", "--text", workshop.text],
        ["evaluate", "model", "--choices", workshop.path("choices.jsonl")],
        ["tune", "model", "--data", workshop.text, "--steps", "2", "--out", "x"],
        ["simulate", workshop.runFile, "--model", "model"],
      ] {
        try await expect(65, saying: ["nan"], from: arguments + ["--json", "--quiet"], in: folder)
      }
    }
  }

  @Test func `a tokenizer with unknown parts, or none`() async throws {
    try await withWorkshop { workshop, folder in
      let model = try workshop.copy("model", to: folder)
      let file = model.appendingPathComponent("tokenizer.json")
      let tokenizer = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      for part in ["model", "normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        var changed = tokenizer
        changed[part] = ["type": "Klingon"]
        try JSONSerialization.data(withJSONObject: changed).write(to: file)
        try await expect(
          65, saying: ["Klingon"], from: ["generate", "model", "--prompt", "a"], in: folder)
      }
      try FileManager.default.removeItem(at: file)
      try await expect(
        74, saying: ["tokenizer.json"], from: ["generate", "model", "--prompt", "a"], in: folder)
    }
  }

  @Test func `a plain checkpoint in an emulator's place`() async throws {
    try await withWorkshop { workshop, folder in
      try await expect(
        65, saying: ["is a plain checkpoint already", "compress"],
        from: ["export", workshop.model, "--out", "x"], in: folder)
      try await expect(
        74, saying: ["There is no model folder"], from: ["export", "nowhere", "--out", "x"],
        in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }
  }

  // MARK: Adapters

  @Test func `an adapter for another model`() async throws {
    try await withWorkshop { workshop, folder in
      let other = workshop.path("other")
      for arguments in [
        ["plug-in", other, workshop.adapter, "--out", "x"],
        ["plug-in", other, workshop.adapter, "--out", "x", "--merge"],
        ["evaluate", other, "--text", workshop.text, "--adapter", workshop.adapter],
      ] {
        try await expect(65, saying: ["digest"], from: arguments, in: folder)
      }
      try await expect(
        65, saying: ["emulator"],
        from: ["plug-in", workshop.emulator, workshop.adapter, "--out", "x"],
        in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }
  }

  @Test func `an adapter that lacks a tensor, or whose files are spoiled`() async throws {
    try await withWorkshop { workshop, folder in
      let plug = ["plug-in", workshop.model, "adapter", "--out", "x"]
      for (name, old, new) in [
        ("adapter_config.json", "\"r\"", "\"rr\""), ("adapter_config.json", "{", "{{"),
        ("adapter_model.safetensors", "lora_A", "lora_Q"),
        ("adapter_model.safetensors", "layers.0", "layers.7"),
        ("fedpeat.json", "\"formatVersion\" : 1", "\"formatVersion\" : 99"),
      ] {
        let adapter = try workshop.copy("adapter", to: folder)
        let file = adapter.appendingPathComponent(name)
        // Latin 1 keeps every byte, and the new words are as long as the old ones where that matters.
        let text = try #require(String(data: Data(contentsOf: file), encoding: .isoLatin1))
        #expect(text.contains(old))
        try #require(text.replacingOccurrences(of: old, with: new).data(using: .isoLatin1))
          .write(to: file)
        try await expect(65, saying: ["adapter"], from: plug, in: folder)
        try FileManager.default.removeItem(at: adapter)
      }
    }
  }

  @Test func `an adapter in a model's place, and one whose model is gone`() async throws {
    try await withWorkshop { workshop, folder in
      try await expect(
        74, saying: ["is an adapter, not a model", "--adapter"],
        from: ["evaluate", workshop.adapter, "--text", workshop.text], in: folder)
      let model = try workshop.copy("model", to: folder)
      try await FedpeatCommand.succeed(
        ["plug-in", "model/", workshop.adapter, "--out", "tuned/"], in: folder)
      try FileManager.default.removeItem(at: model)
      try await expect(
        74, saying: ["tuned", "adapter on the model", "which is not there"],
        from: ["evaluate", "tuned/", "--text", workshop.text], in: folder)
    }
  }

  @Test func `an alpha beyond all numbers is refused`() async throws {
    try await withWorkshop { workshop, folder in
      let adapter = try workshop.copy("adapter", to: folder)
      let file = adapter.appendingPathComponent("adapter_config.json")
      var config = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      for alpha in [1e300, 1e20, -1, 0] {
        config["lora_alpha"] = alpha
        try JSONSerialization.data(withJSONObject: config).write(to: file)
        try await expect(
          65, saying: ["adapter_config.json", "alpha"],
          from: ["plug-in", workshop.model, "adapter", "--out", "x"], in: folder)
      }
    }
  }

  // MARK: Data

  @Test func `empty, binary, missing data, and folders without texts`() async throws {
    try await withWorkshop { workshop, folder in
      let file = folder.appendingPathComponent("data")
      func check(_ status: Int32, _ says: String) async throws {
        try await expect(
          status, saying: ["data", says], from: ["evaluate", workshop.model, "--text", "data"],
          in: folder)
        try await expect(
          status, saying: ["data"],
          from: ["tune", workshop.emulator, "--data", "data", "--steps", "1", "--out", "x"],
          in: folder)
        try await expect(
          status, saying: ["data"], from: ["pretrain", "--text", "data", "--out", "x"], in: folder)
        try await expect(
          status, saying: ["data"], from: ["simulate", workshop.runFile, "--data", "data"],
          in: folder)
        try await expect(
          status, saying: ["data"],
          from: ["join", "--coordinator", "127.0.0.1:1", "--data", "data"], in: folder)
      }
      try await check(74, "does not exist")
      try Data().write(to: file)
      try await check(65, "empty")
      try Data([0x50, 0x4B, 0x03, 0x04, 0x00, 0xFF]).write(to: file)
      try await check(65, "NUL")
      try Data([0x41, 0xFF, 0x41]).write(to: file)
      try await check(65, "UTF-8")
      try FileManager.default.removeItem(at: file)
      try FileManager.default.createDirectory(at: file, withIntermediateDirectories: false)
      try await check(65, "holds no texts")
    }
  }

  @Test func `questions and labels that are none`() async throws {
    try await withWorkshop { workshop, folder in
      for text in [
        "{\"question\": \"a\"}", "{\"question\": \"a\", \"choices\": [], \"answer\": 0}",
        "{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}", "no JSON", "{",
      ] {
        try Data(text.utf8).write(to: folder.appendingPathComponent("q.jsonl"))
        try await expect(
          65, saying: ["q.jsonl"], from: ["evaluate", workshop.model, "--choices", "q.jsonl"],
          in: folder)
      }
      try await expect(
        74, from: ["evaluate", workshop.model, "--labels", "missing.csv"], in: folder)
    }
  }

  // MARK: Run files

  @Test func `an unknown key or a wrong value in a run file`() async throws {
    try await withWorkshop { workshop, folder in
      let run = folder.appendingPathComponent("run.yaml")
      for (text, says) in [
        ("rouns: 3", ["'rouns'", "Did you mean 'rounds'?"]), ("rounds: many", ["rounds"]),
        ("rounds: 3\nrounds: 4", ["rounds"]), ("- rounds", ["keys with values"]),
        ("rounds: [1", ["YAML"]), ("model: &m x\ndata: *m", ["anchor"]), ("bos: 1", ["bos"]),
      ] {
        try Data(text.utf8).write(to: run)
        for verb in ["simulate", "serve"] {
          try await expect(65, saying: ["run.yaml"] + says, from: [verb, "run.yaml"], in: folder)
        }
      }
      try Data("coordinato: 127.0.0.1:1".utf8).write(to: run)
      try await expect(
        65, saying: ["Did you mean 'coordinator'?"], from: ["join", "run.yaml"], in: folder)
      try await expect(74, saying: ["missing.yaml"], from: ["serve", "missing.yaml"], in: folder)
      try await expect(74, saying: ["folder"], from: ["serve", "."], in: folder)
    }
  }

  // MARK: Updates

  @Test func `updates that do not fit together`() async throws {
    try await withWorkshop { workshop, folder in
      let update = try workshop.copy("adapter", to: folder, as: "update")
      let header = update.appendingPathComponent("update.json")
      let json = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: header)) as? [String: Any])
      for (key, value) in [
        ("exampleCount", 0), ("exampleCount", -3), ("rank", 9), ("alpha", 1),
        ("method", "end-blocks"),
        ("formatVersion", 7), ("client", "../x"), ("baseDigest", String(repeating: "a", count: 64)),
        ("metrics", "none"),
      ] as [(String, Any)] {
        var changed = json
        changed[key] = value
        try JSONSerialization.data(withJSONObject: changed).write(to: header)
        try await expect(
          65, saying: ["update"], from: ["aggregate", workshop.adapter, "update", "--out", "x"],
          in: folder)
      }
      try await expect(
        74, saying: ["nowhere"], from: ["aggregate", "nowhere", "--out", "x"], in: folder)
      try await expect(
        74, saying: ["no file", "update.json", "An update is a folder with"],
        from: ["aggregate", workshop.model, "--out", "x"], in: folder)
      // The aggregate still knows its model.
      try await FedpeatCommand.succeed(["aggregate", workshop.adapter, "--out", "sum"], in: folder)
      let facts = try Data(contentsOf: folder.appendingPathComponent("sum/fedpeat.json"))
      let table = try #require(JSONSerialization.jsonObject(with: facts) as? [String: Any])
      let source = try JSONSerialization.jsonObject(
        with: Data(contentsOf: workshop.url("adapter").appendingPathComponent("fedpeat.json")))
      let expected = (source as? [String: Any])?["sourceDigest"] as? String
      #expect(table["sourceDigest"] as? String == expected && expected != nil)
    }
  }

  // MARK: Where results go

  @Test
  func `a place that can't be written is refused before the work, and strangers' files are safe`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let mine = folder.appendingPathComponent("mine")
      try FileManager.default.createDirectory(at: mine, withIntermediateDirectories: false)
      let photo = mine.appendingPathComponent("photo.jpg")
      try Data("precious".utf8).write(to: photo)
      let text = workshop.text
      for command in [
        ["compress", workshop.model, "--recipe", "layer-drop=1"],
        ["tune", workshop.emulator, "--data", text, "--steps", "1"],
        ["plug-in", workshop.model, workshop.adapter], ["export", workshop.emulator],
        ["aggregate", workshop.adapter], ["pretrain", "--text", text],
        ["simulate", workshop.runFile], ["serve", workshop.runFile],
      ] {
        try await expect(74, saying: ["photo.jpg"], from: command + ["--out", "mine"], in: folder)
        try await expect(
          74, saying: ["is a file"], from: command + ["--out", "mine/photo.jpg"], in: folder)
        try await expect(
          74, saying: ["Can't write"], from: command + ["--out", "mine/photo.jpg/x"], in: folder)
      }
      try FileManager.default.createSymbolicLink(
        atPath: mine.appendingPathComponent("link").path, withDestinationPath: "nowhere")
      for place in ["mine/link", "mine/link/x"] {
        try await expect(
          74, saying: ["mine/link", "symbolic link to 'nowhere'"],
          from: ["tune", workshop.emulator, "--data", text, "--steps", "1", "--out", place],
          in: folder)
      }
      try FileManager.default.removeItem(at: mine.appendingPathComponent("link"))
      #expect(try Data(contentsOf: photo) == Data("precious".utf8))
      #expect(try FileManager.default.contentsOfDirectory(atPath: mine.path) == ["photo.jpg"])
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["mine"])
    }
  }

  @Test func `a full disk leaves nothing`() async throws {
    try await withWorkshop { workshop, folder in
      // A limit on the size of files stands for a full disk: the write fails in the middle.
      let command = """
        ulimit -f 64; trap '' XFSZ
        exec "\(FedpeatCommand.binary.path)" compress "\(workshop.model)" --recipe layer-drop=2 --out x
        """
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/bash")
      process.arguments = ["-c", command]
      process.currentDirectoryURL = folder
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
      #expect(process.terminationReason == .exit)
      #expect(process.terminationStatus == 74)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }
  }

  // MARK: The network

  @Test func `a coordinator that is gone is tried again, later each time, and then given up`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let start = ContinuousClock.now
      try await expect(
        69,
        saying: [
          "Nobody answers at 127.0.0.1:1", "Trying again in", "(2 of 2)", "after 2 tries",
        ],
        from: [
          "join", "--coordinator", "127.0.0.1:1", "--data", workshop.text, "--retries", "2",
        ], in: folder)
      #expect(ContinuousClock.now - start > .milliseconds(350))
    }
  }

  @Test func `a port in use`() async throws {
    try await withWorkshop { workshop, folder in
      let serve = [
        "serve", "--model", workshop.model, "--emulator", "layer-drop=1", "--context", "16",
      ]
      let first = try RunningCommand(serve + ["--address-file", "address"], in: folder)
      let file = folder.appendingPathComponent("address")
      try await first.waits(for: "the address") {
        (try? String(contentsOf: file, encoding: .utf8))?.hasSuffix("\n") ?? false
      }
      let address = try String(contentsOf: file, encoding: .utf8)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      try await expect(
        69, saying: [address, "in use"], from: serve + ["--listen", address, "--quiet"], in: folder)
      first.send(SIGTERM)
      #expect(try await first.finish().status == 130)
    }
  }
}
