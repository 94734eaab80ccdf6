import Foundation
import PeatTensor
import TestSupport
import Testing

/// Labels and choices: lengths, what has no head, and what lies beside the data.
@Suite("evaluate") struct EvaluateTests {
  private func withClassifier(_ body: (URL) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      try TinyEncoder.write("bert-classes", to: folder.appendingPathComponent("model"))
      try await body(folder)
    }
  }

  private func write(_ texts: [String], to name: String, in folder: URL) throws {
    let rows = texts.enumerated().map { "\($1),LABEL_\($0 % 2)" }
    try Data((["text,label"] + rows).joined(separator: "\n").utf8)
      .write(to: folder.appendingPathComponent(name))
  }

  /// How many tokens the tiny encoder reads.
  private func longest(_ folder: URL) throws -> Int {
    let json = try JSONFile.read(
      JSONValue.self, from: folder.appendingPathComponent("model/config.json"))
    return try #require(json["max_position_embeddings"]?.integer)
  }

  @Test func `a context beyond the model's is refused, whatever is measured`() async throws {
    try await withClassifier { folder in
      let longest = try longest(folder)
      try write(
        ["the cat sat", String(repeating: "the cat ", count: longest)], to: "long.csv", in: folder)
      try write(["the cat sat", "a dog ran"], to: "short.csv", in: folder)
      for data in ["long.csv", "short.csv"] {
        for context in [0, longest + 1, 100_000] {
          try await expect(
            64, saying: ["between 1 and \(longest), the longest the model reads"],
            from: ["evaluate", "model", "--labels", data, "--context", "\(context)"], in: folder)
        }
      }
    }
    try await withWorkshop { workshop, folder in
      for data in [
        ["--choices", workshop.path("choices.jsonl")], ["--labels", workshop.path("labels.jsonl")],
      ] {
        try await expect(
          64, saying: ["between 1 and 32, the longest the model reads"],
          from: ["evaluate", workshop.model, "--context", "33"] + data, in: folder)
        try await expect(
          64, saying: ["--stride and --documents are about --text"],
          from: ["evaluate", workshop.model, "--documents"] + data, in: folder)
      }
    }
  }

  @Test func `texts that are cut are counted`() async throws {
    try await withClassifier { folder in
      try write(
        ["the cat sat", "a dog ran over the hill", "rain"], to: "data.csv", in: folder)
      let result = try await FedpeatCommand.succeed(
        ["evaluate", "model", "--labels", "data.csv", "--context", "5", "--json"], in: folder)
      #expect(result.errors.contains("cut          1 of 3 texts to their first 5 tokens"))
      let report = try result.object()
      #expect(report["context"] as? Int == 5 && report["shortened"] as? Int == 1)
      let whole = try await FedpeatCommand.succeed(
        ["evaluate", "model", "--labels", "data.csv", "--json"], in: folder)
      #expect(try whole.object()["shortened"] as? Int == 0)
      #expect(!whole.errors.contains("cut "))
      let tuned = try await FedpeatCommand.succeed(
        [
          "tune", "model", "--data", "data.csv", "--context", "5", "--steps", "1", "--batch", "2",
          "--out", "adapter",
        ], in: folder)
      #expect(tuned.errors.contains("cut          1 of 3 texts to their first 5 tokens"))
    }
    try await withWorkshop { workshop, folder in
      try Data(
        #"{"question": "the cat sat on a mat", "choices": ["a", "b"], "answer": 0}"#.utf8
      ).write(to: folder.appendingPathComponent("letters.jsonl"))
      let result = try await FedpeatCommand.succeed(
        ["evaluate", workshop.model, "--choices", "letters.jsonl", "--context", "2", "--json"],
        in: folder)
      #expect(result.errors.contains("questions to their last 2 tokens"), "\(result)")
      #expect((try result.object()["shortened"] as? Int ?? 0) > 0)
    }
  }

  @Test func `a context that cuts names of classes or answers is refused`() async throws {
    try await withWorkshop { workshop, folder in
      let texts = [
        ("a bird", "sat under a dog, then flew"), ("rain", "ran over a cat in the rain"),
      ]
      try TinyWorkshop.jsonLines(texts.map { ["text": $0.0, "label": $0.1] })
        .write(to: folder.appendingPathComponent("labels.jsonl"))
      try TinyWorkshop.jsonLines(
        texts.map { ["question": $0.0, "choices": [$0.1, "a"], "answer": 0] }
      ).write(to: folder.appendingPathComponent("choices.jsonl"))
      for (option, file) in [("--labels", "labels.jsonl"), ("--choices", "choices.jsonl")] {
        for context in ["1", "2"] {
          try await expect(
            64,
            saying: [
              "needs a context of at least", "is cut by one of \(context)", "Give a --context",
            ], from: ["evaluate", workshop.model, option, file, "--context", context], in: folder)
        }
        _ = try await FedpeatCommand.succeed(
          ["evaluate", workshop.model, option, file], in: folder)
      }
    }
  }

  @Test func `labels on an encoder without a head lead to tuning one`() async throws {
    try await withTemporaryFolder { folder in
      try write(["the cat sat", "a dog ran"], to: "data.csv", in: folder)
      for family in ["bert", "bert-masked"] {
        try TinyEncoder.write(family, to: folder.appendingPathComponent(family))
        try await expect(
          64,
          saying: ["has no head of classes", "tune \(family) --task classification", "--adapter"],
          from: ["evaluate", family, "--labels", "data.csv"], in: folder)
      }
    }
  }

  @Test func `an adapter is named as it is on the Hub, by each verb that takes one`() async throws {
    try await withWorkshop { workshop, folder in
      let commit = String(repeating: "a", count: 40)
      let place = folder.appendingPathComponent("hub/models--someone--lora")
      let snapshots = place.appendingPathComponent("snapshots")
      for url in [snapshots, place.appendingPathComponent("refs")] {
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
      }
      try FileManager.default.copyItem(
        at: workshop.url("adapter"), to: snapshots.appendingPathComponent(commit))
      try Data(commit.utf8).write(to: place.appendingPathComponent("refs/main"))
      let environment = ["HF_HOME": folder.path]
      func check(_ name: String, _ words: [String]) async throws -> CommandResult {
        try await FedpeatCommand.run(
          words.map { $0 == "ADAPTER" ? name : $0 }, in: folder, environment: environment)
      }
      let text = ["--text", workshop.text]
      let commands = [
        ["evaluate", workshop.emulator, "--adapter", "ADAPTER", "--limit", "2"] + text,
        ["embed", workshop.emulator, "--adapter", "ADAPTER", "--json"] + text,
        [
          "generate", workshop.emulator, "--adapter", "ADAPTER", "--prompt", "the",
          "--max-tokens", "2",
        ],
        ["plug-in", workshop.model, "ADAPTER", "--out", "plugged"],
        [
          "tune", workshop.emulator, "--from", "ADAPTER", "--data", workshop.text, "--steps", "1",
          "--batch", "1", "--out", "tuned",
        ],
        ["aggregate", workshop.adapter, "--from", "ADAPTER", "--out", "all"],
        ["verify", "ADAPTER"],
      ]
      for command in commands {
        let absent = try await check("someone/absent", command)
        #expect(absent.status == 74, "\(command) \(absent)")
        #expect(absent.errors.contains("fedpeat pull someone/absent"), "\(command) \(absent)")
        let found = try await check("someone/lora", command)
        // No run released it, and the update began elsewhere; but it was found.
        let isFound = found.status == 0 || ["verify", "aggregate"].contains(command[0])
        #expect(isFound, "\(command) \(found)")
        #expect(!found.errors.contains("There is no adapter"), "\(command) \(found)")
      }
    }
  }

  @Test func `inspect says which classes an adapter tells apart`() async throws {
    try await withClassifier { folder in
      try write(["the cat sat", "a dog ran", "rain", "sun"], to: "data.csv", in: folder)
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--data", "data.csv", "--new-head", "--steps", "1", "--batch", "2",
          "--out", "adapter",
        ], in: folder)
      let report = try await FedpeatCommand.succeed(["inspect", "adapter", "--json"], in: folder)
      #expect(try report.object()["classes"] as? [String] == ["LABEL_0", "LABEL_1"])
      let text = try await FedpeatCommand.succeed(["inspect", "adapter"], in: folder)
      #expect(text.output.contains("LABEL_0, LABEL_1"))
    }
  }

  @Test func `what lies beside the data is told, and no class vanishes`() async throws {
    try await withTemporaryFolder { folder in
      try FileManager.default.copyItem(
        at: ProjectFolders.golden.appendingPathComponent("families/vit"),
        to: folder.appendingPathComponent("vit"))
      try TinyEncoder.write("bert", to: folder.appendingPathComponent("bert"))
      func put(_ name: String, _ content: Data) throws {
        let place = folder.appendingPathComponent(name)
        try FileManager.default.createDirectory(
          at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
        try content.write(to: place)
      }
      let picture = try Data(
        contentsOf: ProjectFolders.golden.appendingPathComponent("images/grey.png"))
      for name in ["cat/a.png", "cat/b.png", "dog/a.png"] { try put("i/\(name)", picture) }
      try put("i/cat/c.gif", Data())
      func tune(_ model: String, _ data: String) -> [String] {
        [
          "tune", model, "--task", "classification", "--data", data, "--steps", "1", "--batch", "1",
          "--out", "\(model)-adapter",
        ]
      }
      let tuned = try await FedpeatCommand.succeed(tune("vit", "i"), in: folder)
      #expect(tuned.errors.contains("1 file in 'i' is left out: 'cat/c.gif'"), "\(tuned)")
      try put("i/fox/a.webp", Data())
      let evaluate = ["evaluate", "vit", "--adapter", "vit-adapter", "--labels", "i"]
      for command in [tune("vit", "i"), evaluate] {
        try await expect(
          65, saying: ["the class 'fox' would have no picture"], from: command, in: folder)
      }
      for (name, text) in [("neg/1.txt", "the cat"), ("pos/1.txt", "a dog")] {
        try put("t/\(name)", Data(text.utf8))
      }
      try put("t/README", Data("Reviews\n\nby many, and, of, old\nfilms, all\n".utf8))
      let read = try await FedpeatCommand.succeed(tune("bert", "t"), in: folder)
      #expect(read.errors.contains("1 file in 't' is left out: 'README'"), "\(read)")
    }
  }

  @Test func `what only another program reads says how to convert it`() async throws {
    try await withClassifier { folder in
      let model = folder.appendingPathComponent("model")
      try FileManager.default.removeItem(at: model.appendingPathComponent("model.safetensors"))
      for (file, word) in [
        ("pytorch_model.bin", "runs code of whoever made it"), ("model.gguf", "llama.cpp"),
      ] {
        let place = model.appendingPathComponent(file)
        try Data([1]).write(to: place)
        try await expect(
          65, saying: [file, word, "import BertForSequenceClassification, AutoTokenizer"],
          from: ["inspect", "model"], in: folder)
        try FileManager.default.removeItem(at: place)
      }
      try await expect(74, saying: ["no other weights"], from: ["inspect", "model"], in: folder)
    }
  }

  @Test func `parity says what makes the reference that is missing`() async throws {
    try await withWorkshop { workshop, folder in
      try await expect(
        74, saying: ["no reference.safetensors", "Tools/golden/reference.py \(workshop.model)"],
        from: ["parity", workshop.model], in: folder)
    }
  }
}
