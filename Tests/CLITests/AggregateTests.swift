import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("aggregate") struct AggregateTests {
  /// Two updates of different ranks, tuned on different texts.
  private func tune(
    _ workshop: TinyWorkshop, ranks: [Int], in folder: URL, more: [String] = []
  ) async throws -> [String] {
    var updates: [String] = []
    for (number, rank) in ranks.enumerated() {
      let update = "update-\(number)"
      try await FedpeatCommand.succeed(
        [
          "tune", workshop.emulator, "--data", workshop.text, "--steps", "3", "--batch", "4",
          "--rank", "\(rank)", "--alpha", "\(2 * rank)", "--seed", "1", "--learning-rate",
          "\(0.003 * Double(number + 1))", "--update", "--out", update,
        ] + more, in: folder)
      updates.append(update)
    }
    return updates
  }

  private func perplexity(
    _ adapter: String, _ workshop: TinyWorkshop, in folder: URL
  ) async throws -> Double {
    let outcome = try await FedpeatCommand.succeed(
      [
        "evaluate", workshop.model, "--adapter", adapter, "--text", workshop.text, "--context",
        "16", "--limit", "40", "--json",
      ], in: folder)
    return try #require(try outcome.object()["perplexity"] as? Double)
  }

  @Test func `every rule makes an adapter of updates of one rank, and says how exact it is`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let updates = try await tune(workshop, ranks: [4, 4], in: folder)
      var exact: [Double] = []
      for rule in ["fedavg", "fedex", "product", "product-exact"] {
        let outcome = try await FedpeatCommand.succeed(
          ["aggregate"] + updates + ["--strategy", rule, "--out", rule, "--json"], in: folder)
        let result = try outcome.object()
        let error = try #require(result["relativeError"] as? Double)
        #expect(rule.contains("ex") ? error < 1e-6 : error > 1e-6, "\(rule): \(error)")
        if rule.contains("ex") { exact.append(try await perplexity(rule, workshop, in: folder)) }
      }
      #expect(abs(exact[0] / exact[1] - 1) < 1e-5, "two exact rules make the same: \(exact)")
    }
  }

  @Test(arguments: [("bert-masked", "FEATURE_EXTRACTION"), ("bert-classes", "SEQ_CLS")])
  func `an adapter of several is for the task that they were tuned for`(
    family: String, task: String
  ) async throws {
    try await withTemporaryFolder { folder in
      try TinyEncoder.write(family, to: folder.appendingPathComponent("model"))
      try TinyWorkshop.jsonLines(
        TinyWorkshop.sentences(40, seed: 3).enumerated().map {
          ["text": $1, "label": "LABEL_\($0 % 3)"]
        }
      ).write(to: folder.appendingPathComponent("data.jsonl"))
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--data", "data.jsonl", "--steps", "2", "--batch", "2", "--context",
          "16", "--rank", "2", "--update", "--out", "update",
        ], in: folder)
      func stated(_ name: String) throws -> String? {
        try JSONFile.read(
          JSONValue.self, from: folder.appendingPathComponent("\(name)/adapter_config.json"))[
            "task_type"]?.string
      }
      #expect(try stated("update") == task)
      // An update alone, and one beside its adapter.
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("alone"), withIntermediateDirectories: false)
      for name in ["update.json", "update.safetensors"] {
        try FileManager.default.copyItem(
          at: folder.appendingPathComponent("update/\(name)"),
          to: folder.appendingPathComponent("alone/\(name)"))
      }
      try await FedpeatCommand.succeed(
        ["aggregate", "alone", "alone", "--out", "of-updates"], in: folder)
      #expect(try stated("of-updates") == task)
      try await FedpeatCommand.succeed(
        ["aggregate", "update", "update", "--out", "both"], in: folder)
      #expect(try stated("both") == task)
    }
  }

  @Test func `updates of several ranks become one adapter of the largest, or of the rank given`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let updates = try await tune(workshop, ranks: [2, 4], in: folder)
      for (arguments, rank) in [([], 4), (["--rank", "3"], 3)] as [([String], Int)] {
        let out = "rank-\(rank)"
        try await FedpeatCommand.succeed(
          ["aggregate"] + updates + ["--strategy", "product", "--out", out] + arguments, in: folder)
        let file = folder.appendingPathComponent("\(out)/adapter_config.json")
        let json = try JSONSerialization.jsonObject(with: Data(contentsOf: file))
        let configuration = try #require(json as? [String: Any])
        #expect(configuration["r"] as? Int == rank)
        #expect(configuration["lora_alpha"] as? Int == 2 * rank)
        #expect(try await perplexity(out, workshop, in: folder) > 1)
      }
      try await expect(
        64, saying: ["--rank is 9", "between 1 and 4"],
        from: ["aggregate"] + updates + ["--strategy", "product", "--rank", "9", "--out", "x"],
        in: folder)
      try await expect(
        65, saying: ["'update-0'", "other ranks", "take a rule that mixes them"],
        from: ["aggregate"] + updates + ["--strategy", "ffa", "--out", "x"], in: folder)
      for (rule, text) in [
        ("product-exact", "--strategy product --rank 3"), ("fedex", "up to that of all updates"),
        ("ffa", "A stays as it is"),
      ] {
        try await expect(
          64, saying: ["--rank does not go with the strategy '\(rule)'", text],
          from: ["aggregate"] + updates + ["--strategy", rule, "--rank", "3", "--out", "x"],
          in: folder)
      }
      // The exact sum has the rank of all, and says so in its file and here.
      let exact = try await FedpeatCommand.succeed(
        ["aggregate"] + updates + ["--strategy", "product-exact", "--out", "exact", "--json"],
        in: folder)
      let file = folder.appendingPathComponent("exact/adapter_config.json")
      let json = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
      let rank = try #require(json?["r"] as? Int)
      #expect((5...6).contains(rank))
      #expect(try exact.object()["rank"] as? Int == rank)
      #expect((json?["rank_pattern"] as? [String: Int])?.values.allSatisfy { $0 < rank } == true)
    }
  }

  @Test func `nothing beyond a split's ends is tuned or aggregated`() async throws {
    try await withWorkshop { workshop, folder in
      let updates = try await tune(workshop, ranks: [4], in: folder)
      try await expect(
        65, saying: ["'update-0' is an adapter in block", "--bottom and --top"],
        from: [
          "tune", workshop.model, "--data", workshop.documents, "--from", "update-0", "--steps",
          "1",
          "--bottom", "1", "--top", "0", "--out", "x",
        ], in: folder)
      let url = folder.appendingPathComponent("update-0/fedpeat.json")
      var facts = try JSONFile.read([String: JSONValue].self, from: url)
      let count = try #require(facts["blockMap"]?.object).count
      facts["split"] = .object([
        "bottom": .integer(1), "emulator": .integer(count - 1), "top": .integer(0),
      ])
      try JSONFile.write(facts, to: url)
      try await expect(
        65, saying: ["'update-0'", "by its fedpeat.json it sits in the blocks 0"],
        from: ["aggregate"] + updates + ["--out", "x"], in: folder)
    }
  }

  @Test func `a server optimizer goes from the adapter that updates began with, and remembers`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let first = try await tune(workshop, ranks: [4, 4], in: folder)
      try await FedpeatCommand.succeed(["aggregate"] + first + ["--out", "base"], in: folder)
      var updates: [String] = []
      for number in 0..<2 {
        let update = "second-\(number)"
        try await FedpeatCommand.succeed(
          [
            "tune", workshop.emulator, "--from", "base", "--data", workshop.text, "--steps", "3",
            "--batch", "4", "--seed", "\(number)", "--update", "--out", update,
          ], in: folder)
        updates.append(update)
      }
      func digest(_ arguments: String...) async throws -> String {
        let outcome = try await FedpeatCommand.succeed(
          ["aggregate"] + updates + ["--from", "base", "--json"] + arguments, in: folder)
        return try #require(outcome.object()["digest"] as? String)
      }
      let state = ["--strategy", "fedavgm", "--server-state", "state.safetensors"]
      let mean = try await digest("--out", "mean")
      let one = try await digest(state[0], state[1], state[2], state[3], "--out", "one")
      let two = try await digest(state[0], state[1], state[2], state[3], "--out", "two")
      // The first time momentum is what changed; the second time there is some from before.
      #expect(one == mean)
      #expect(two != one)
      try await expect(
        65, saying: ["is of 'momentum'", "'adam'"],
        from: ["aggregate"] + updates + [
          "--from", "base", "--strategy", "fedadam", "--server-state", "state.safetensors",
          "--out", "x",
        ], in: folder)
      try await expect(
        64, saying: ["--from DIR"],
        from: ["aggregate"] + updates + ["--strategy", "fedadam", "--out", "x"], in: folder)
      try await expect(
        64, saying: ["control variates"],
        from: ["aggregate"] + updates + ["--strategy", "scaffold", "--out", "x"], in: folder)
      try await expect(
        65, saying: ["5 or more", "--faulty-clients 0"],
        from: ["aggregate"] + updates + [
          "--strategy", "krum", "--faulty-clients", "1", "--out", "x",
        ], in: folder)
      try await expect(
        64, saying: ["--trimmed-share does nothing"],
        from: ["aggregate"] + updates + ["--trimmed-share", "0.2", "--out", "x"], in: folder)
      try await expect(
        64, saying: ["--server-tau does nothing", "without a --server-optimizer"],
        from: ["aggregate"] + updates + ["--server-tau", "0.2", "--out", "x"], in: folder)
      #expect(
        try await digest(
          "--strategy", "product-exact", "--server-optimizer", "momentum", "--out", "y")
          != mean)
    }
  }

  @Test func `with ffa an A that was tuned is refused`() async throws {
    try await withWorkshop { workshop, folder in
      let updates = try await tune(workshop, ranks: [4, 4], in: folder)
      try await expect(
        65, saying: ["'update-1'", "another A", "--freeze-a"],
        from: ["aggregate"] + updates + ["--strategy", "ffa", "--out", "x"], in: folder)
      let frozen = try await tune(workshop, ranks: [4, 4], in: folder, more: ["--freeze-a"])
      let outcome = try await FedpeatCommand.succeed(
        ["aggregate"] + frozen + ["--strategy", "ffa", "--out", "x", "--json"], in: folder)
      #expect(try #require(outcome.object()["relativeError"] as? Double) < 1e-6)
    }
  }

  // MARK: Scales

  /// The products s · B · A of each layer in float64: of an adapter folder by its adapter_config.json, of an update by what is given.
  private func products(
    _ file: URL, scale: (_ layer: String, _ rank: Int) -> Double
  ) throws -> [String: [Double]] {
    let tensors = try SafeTensorsFile(contentsOf: file).tensors()
    var result: [String: [Double]] = [:]
    for (name, down) in tensors where name.hasSuffix(".lora_A.weight") {
      let layer = String(name.dropLast(".lora_A.weight".count))
      let up = try #require(tensors[layer + ".lora_B.weight"])
      let (rank, inputs, outputs) = (down.shape[0], down.shape[1], up.shape[0])
      let (a, b, s) = (down.scalars, up.scalars, scale(layer, rank))
      result[layer] = (0..<outputs * inputs).map { place in
        (0..<rank).reduce(0) { sum, k in
          sum + s * Double(b[place / inputs * rank + k]) * Double(a[k * inputs + place % inputs])
        }
      }
    }
    return result
  }

  private func configuration(_ folder: URL) throws -> [String: Any] {
    let data = try Data(contentsOf: folder.appendingPathComponent("adapter_config.json"))
    return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  /// Of the products in an adapter folder, read as PEFT reads it.
  private func products(of folder: URL) throws -> [String: [Double]] {
    let configuration = try configuration(folder)
    let patterns = configuration["alpha_pattern"] as? [String: Double] ?? [:]
    let alpha = try #require(configuration["lora_alpha"] as? Double)
    let isStabilized = configuration["use_rslora"] as? Bool ?? false
    return try products(folder.appendingPathComponent("adapter_model.safetensors")) { layer, rank in
      let alpha = patterns.first { layer.hasSuffix(".\($0.key)") }?.value ?? alpha
      return alpha / (isStabilized ? Double(rank).squareRoot() : Double(rank))
    }
  }

  private func distance(_ found: [String: [Double]], _ expected: [String: [Double]]) -> Double {
    #expect(Set(found.keys) == Set(expected.keys))
    var (off, all) = (0.0, 0.0)
    for (layer, values) in expected {
      for (value, other) in zip(values, found[layer] ?? []) {
        off += (value - other) * (value - other)
        all += value * value
      }
    }
    return (off / all).squareRoot()
  }

  /// Tunes on the full model, so that folders and updates number blocks alike.
  private func tuneFull(
    _ workshop: TinyWorkshop, _ more: [[String]], in folder: URL
  ) async throws -> [String] {
    for (number, arguments) in more.enumerated() {
      try await FedpeatCommand.succeed(
        [
          "tune", workshop.model, "--data", workshop.text, "--steps", "3", "--batch", "4",
          "--seed", "1", "--learning-rate", "\(0.01 * Double(number + 1))", "--update", "--out",
          "full-\(number)",
        ] + arguments, in: folder)
    }
    return more.indices.map { "full-\($0)" }
  }

  /// Each case: how two updates are tuned.
  @Test(arguments: [
    [["--rank", "2", "--rank-stabilized"], ["--rank", "4", "--rank-stabilized"]],
    [["--rank", "2"], ["--rank", "4", "--rank-stabilized"]],
    [["--rank", "4", "--rank-pattern", "down_proj=2"], ["--rank", "4"]],
    [
      ["--rank", "4", "--alpha-pattern", "q_proj=40"],
      ["--rank", "4", "--alpha-pattern", "q_proj=40"],
    ],
    [["--rank", "2", "--alpha-pattern", "q_proj=40"], ["--rank", "4"]],
  ])
  func `each layer's product is the mean of the updates', by their own scales`(more: [[String]])
    async throws
  {
    try await withWorkshop { workshop, folder in
      let updates = try await tuneFull(workshop, more, in: folder)
      let all = try updates.map { try products(of: folder.appendingPathComponent($0)) }
      let expected = all[0].merging(all[1]) { zip($0, $1).map { ($0 + $1) / 2 } }
      for rule in ["fedex", "product-exact"] {
        // The headers say it all: without the adapter's files beside them it is the same.
        for name in updates {
          for file in ["adapter_config.json", "adapter_model.safetensors", "fedpeat.json"] {
            try? FileManager.default.removeItem(
              at: folder.appendingPathComponent(name).appendingPathComponent(file))
          }
        }
        try await FedpeatCommand.succeed(
          ["aggregate"] + updates + ["--strategy", rule, "--out", rule], in: folder)
        let found = try products(of: folder.appendingPathComponent(rule))
        #expect(distance(found, expected) < 1e-5, "\(rule): \(distance(found, expected))")
      }
    }
  }

  @Test func `updates of one rank whose scales differ are refused`() async throws {
    try await withWorkshop { workshop, folder in
      let updates = try await tuneFull(
        workshop,
        [
          ["--rank", "4"], ["--rank", "4", "--rank-stabilized"],
          ["--rank", "4", "--alpha-pattern", "q_proj=40"],
        ], in: folder)
      for (other, own) in zip(updates.dropFirst(), ["rank-stabilized", "others for 4 layers"]) {
        try await expect(
          65, saying: ["'\(other)'", "r 4 and α 16", own],
          from: ["aggregate", updates[0], other, "--strategy", "fedex", "--out", "x"], in: folder)
      }
    }
  }

  @Test(arguments: [[], ["--rank-stabilized"]])
  func `a smaller rank leaves the scale of every layer`(more: [String]) async throws {
    try await withWorkshop { workshop, folder in
      let updates = try await tuneFull(
        workshop,
        [["--rank", "4", "--rank-pattern", "down_proj=2,up_proj=1"] + more], in: folder)
      try await FedpeatCommand.succeed(
        ["aggregate"] + updates + ["--strategy", "product", "--rank", "2", "--out", "x"],
        in: folder)
      let before = try products(of: folder.appendingPathComponent(updates[0]))
      let after = try products(of: folder.appendingPathComponent("x"))
      #expect(Set(before.keys) == Set(after.keys))
      // Those that are not cut are what they were.
      let kept = { (name: String) in name.hasSuffix("down_proj") || name.hasSuffix("up_proj") }
      #expect(
        distance(after.filter { kept($0.key) }, before.filter { kept($0.key) }) < 1e-5)
      // The two largest of four components are most of the others.
      #expect(distance(after, before) < 0.9)
      #expect(try configuration(folder.appendingPathComponent("x"))["r"] as? Int == 2)
    }
  }

  // MARK: Headers and tensors that contradict each other

  @Test func `updates that are none are refused with the reason`() async throws {
    try await withWorkshop { workshop, folder in
      let updates = try await tuneFull(workshop, [["--rank", "2", "--freeze-a"]], in: folder)
      let update = folder.appendingPathComponent(updates[0])
      for file in ["adapter_config.json", "adapter_model.safetensors"] {
        try FileManager.default.removeItem(at: update.appendingPathComponent(file))
      }
      let header = update.appendingPathComponent("update.json")
      let weights = update.appendingPathComponent("update.safetensors")
      let (json, bytes) = (try Data(contentsOf: header), try Data(contentsOf: weights))
      let tensors = try SafeTensorsFile(contentsOf: weights).tensors().copied()
      let layer = "base_model.model.model.layers.0.self_attn.q_proj"
      let down = layer + ".lora_A.weight"
      let up = layer + ".lora_B.weight"

      func refuse(
        _ says: String..., strategy: String = "fedavg", more: [String] = [],
        header change: (inout [String: Any]) -> Void = { _ in },
        tensors edit: (inout NamedTensors) -> Void = { _ in }
      ) async throws {
        var table = try #require(JSONSerialization.jsonObject(with: json) as? [String: Any])
        var changed = tensors
        change(&table)
        edit(&changed)
        try JSONSerialization.data(withJSONObject: table).write(to: header)
        try SafeTensors.encode(changed).write(to: weights)
        try await expect(
          65, saying: ["'full-0'"] + says,
          from: ["aggregate", "full-0", "--strategy", strategy, "--out", "x"] + more, in: folder)
        try json.write(to: header)
        try bytes.write(to: weights)
      }

      for rank in [0, -3] {
        try await refuse("rank of \(rank)", more: ["--rank", "1"], header: { $0["rank"] = rank })
      }
      for strategy in ["ffa", "fedavg", "product"] {
        try await refuse(
          "does not fit together", "[3, 32]", strategy: strategy,
          tensors: { $0[down] = Tensor(zeros: [3, 32]) })
        try await refuse(
          "'\(down)' but no", "lora_B", strategy: strategy, tensors: { $0[up] = nil })
        try await refuse(
          "'\(up)' but no", "lora_A", strategy: strategy, tensors: { $0[down] = nil })
        try await refuse(
          "impossible shape [0, 32]", strategy: strategy,
          tensors: {
            $0[down] = Tensor(zeros: [0, 32])
            $0[up] = Tensor(zeros: [32, 0])
          })
        try await refuse("holds no tensors", strategy: strategy, tensors: { $0 = [:] })
      }
      try await refuse("end-blocks", header: { $0["method"] = "end-blocks" })
      try await refuse("lora_magnitude_vector", header: { $0["method"] = "dora" })
      for (key, value) in [("trainedRank", 1), ("uploadBits", 8), ("upload", "int8")]
        as [(String, Any)]
      {
        try await refuse("for the wire", key, header: { $0[key] = value })
      }
      for block in ["77", "-1"] {
        try await refuse(
          block,
          tensors: {
            $0 = Dictionary(
              uniqueKeysWithValues: $0.map {
                ($0.key.replacingOccurrences(of: "layers.3.", with: "layers.\(block)."), $0.value)
              })
          })
      }
      try await refuse("remainder_A", tensors: { $0[layer + ".remainder_A.weight"] = $0[down] })
      try await refuse(
        "states rank 2", "q_proj",
        tensors: {
          $0[down] = Tensor(zeros: [1, 32])
          $0[up] = Tensor(zeros: [32, 1])
        })
    }
  }

  @Test func `with the full model at hand updates are held against it, and the result names it`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let updates = try await tuneFull(workshop, [["--rank", "2"]], in: folder)
      try await FedpeatCommand.succeed(
        ["aggregate", updates[0], "--model", workshop.model, "--out", "x"], in: folder)
      let facts = folder.appendingPathComponent("x/fedpeat.json")
      let written = try String(contentsOf: facts, encoding: .utf8)
      #expect(written.contains("\"digest\""))
      // Such a folder stands for the model and the adapter.
      try await FedpeatCommand.succeed(
        ["evaluate", "x", "--text", workshop.text, "--limit", "4"], in: folder)
      try await expect(
        65, saying: ["'full-0'", "digest"],
        from: ["aggregate", updates[0], "--model", workshop.path("other"), "--out", "y"],
        in: folder)
      try await expect(
        65, saying: ["is an emulator", "full model's numbers"],
        from: ["aggregate", updates[0], "--model", workshop.emulator, "--out", "y"], in: folder)

      // Without fedpeat.json nothing but the model tells how many blocks there are.
      let update = folder.appendingPathComponent(updates[0])
      for file in ["fedpeat.json", "adapter_config.json", "adapter_model.safetensors"] {
        try FileManager.default.removeItem(at: update.appendingPathComponent(file))
      }
      let weights = update.appendingPathComponent("update.safetensors")
      let tensors = try SafeTensorsFile(contentsOf: weights).tensors().copied()
      let moved = tensors.map { ($0.replacing("layers.0.", with: "layers.77."), $1) }
      try SafeTensors.encode(Dictionary(uniqueKeysWithValues: moved)).write(to: weights)
      let header = update.appendingPathComponent("update.json")
      let json = try String(contentsOf: header, encoding: .utf8)
      try Data(json.replacing("layers.0.", with: "layers.77.").utf8).write(to: header)
      try await FedpeatCommand.succeed(["aggregate", updates[0], "--out", "y"], in: folder)
      try await expect(
        65, saying: ["'full-0'", "layers.77."],
        from: ["aggregate", updates[0], "--model", workshop.model, "--out", "z"], in: folder)
      #expect(!FileManager.default.fileExists(atPath: folder.appendingPathComponent("z").path))
    }
  }

  @Test func `the adapter that updates begin with is written without a step`() async throws {
    try await withWorkshop { workshop, folder in
      let tuning = ["tune", workshop.model, "--data", workshop.text, "--seed", "1", "--rank", "2"]
      let outcome = try await FedpeatCommand.succeed(
        tuning + ["--steps", "0", "--out", "start", "--json"], in: folder)
      #expect(try outcome.object()["finalLoss"] is NSNull)
      for number in 0..<2 {
        try await FedpeatCommand.succeed(
          tuning + [
            "--steps", "3", "--batch", "4", "--learning-rate", "0.0\(number + 1)", "--update",
            "--client", "ada", "--out", "u\(number)",
          ], in: folder)
      }
      let aggregate = ["aggregate", "u0", "u1", "--strategy", "fedavgm"]
      try await expect(64, saying: ["--steps 0"], from: aggregate + ["--out", "x"], in: folder)
      let from = aggregate + ["--from", "start"]
      // Both or none.
      for (file, code, words) in [
        ("nowhere/state", 74, "no folder"), ("x/state", 64, "written anew"), (".", 64, "a folder"),
      ] as [(String, Int32, String)] {
        try await expect(
          code, saying: [words], from: from + ["--out", "x", "--server-state", file], in: folder)
        #expect(!FileManager.default.fileExists(atPath: folder.appendingPathComponent("x").path))
      }
      let made = try await FedpeatCommand.succeed(
        from + ["--out", "x", "--server-state", "state"], in: folder)
      #expect(made.errors.contains("'ada' counts 2 times"))
      #expect(
        FileManager.default.fileExists(atPath: folder.appendingPathComponent("state").path))
      try await expect(
        65, saying: ["'u0'", "--example-limit"],
        from: from + ["--out", "y", "--example-limit", "1"], in: folder)
      let plain = try await FedpeatCommand.succeed(
        ["aggregate", "u0", "u1", "--strategy", "krum", "--out", "y"], in: folder)
      #expect(plain.errors.contains("'krum' bears no wrong one"))
      try await expect(
        64, saying: ["--adapter is given 2 times", "'u0'", "'u1'"],
        from: [
          "evaluate", workshop.model, "--text", workshop.text, "--adapter", "u0", "--adapter", "u1",
        ], in: folder)
    }
  }

  @Test func `bottlenecks of different functions are not mixed, and need no adapter beside them`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let updates = try await tuneFull(
        workshop,
        [
          ["--method", "bottleneck", "--bottleneck-size", "4"],
          ["--method", "bottleneck", "--bottleneck-size", "4", "--activation", "gelu"],
          ["--method", "bottleneck", "--bottleneck-size", "4"],
        ], in: folder)
      try await expect(
        65, saying: ["'full-1'", "activation"],
        from: ["aggregate", updates[0], updates[1], "--out", "x"], in: folder)
      for name in ["fedpeat.json", "adapter_model.safetensors"] {
        try FileManager.default.removeItem(
          at: folder.appendingPathComponent(updates[0]).appendingPathComponent(name))
      }
      try await FedpeatCommand.succeed(
        ["aggregate", updates[0], updates[2], "--out", "x"], in: folder)
      #expect(try await perplexity("x", workshop, in: folder) > 1)
    }
  }
}
