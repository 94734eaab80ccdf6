import Foundation
import TestSupport
import Testing

/// A tiny T5 through every verb: it learns to say the word that it is asked for.
@Suite("A model with an encoder") struct EncoderDecoderTests {
  private static let words =
    "say the first last word red green blue black white cat dog bird fish horse runs sleeps eats flies swims fast slowly today"
    .split(separator: " ").map(String.init)

  /// One token for each word, with those that T5 has beside them.
  private func writeTokenizer(in folder: URL) throws {
    let special = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>", "<extra_id_2>"]
    let tokens = special + Self.words
    let json: [String: Any] = [
      "version": "1.0", "truncation": NSNull(), "padding": NSNull(),
      "added_tokens": special.enumerated().map {
        [
          "id": $0, "content": $1, "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": true,
        ] as [String: Any]
      },
      "normalizer": NSNull(), "pre_tokenizer": ["type": "WhitespaceSplit"], "decoder": NSNull(),
      "post_processor": [
        "type": "TemplateProcessing",
        "single": [
          ["Sequence": ["id": "A", "type_id": 0]], ["SpecialToken": ["id": "</s>", "type_id": 0]],
        ],
        "pair": [
          ["Sequence": ["id": "A", "type_id": 0]], ["Sequence": ["id": "B", "type_id": 0]],
          ["SpecialToken": ["id": "</s>", "type_id": 0]],
        ],
        "special_tokens": ["</s>": ["id": "</s>", "ids": [1], "tokens": ["</s>"]]],
      ],
      "model": [
        "type": "WordLevel", "unk_token": "<unk>",
        "vocab": Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($1, $0) }),
      ],
    ]
    try JSONSerialization.data(withJSONObject: json).write(
      to: folder.appendingPathComponent("tokenizer.json"))
    try Data(#"{"eos_token": "</s>", "pad_token": "<pad>"}"#.utf8).write(
      to: folder.appendingPathComponent("tokenizer_config.json"))
  }

  private func writeTasks(_ count: Int, seed: Int, _ name: String, in folder: URL) throws {
    var state = UInt64(seed)
    func draw(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let records = (0..<count).map { number -> [String: Any] in
      let said = (0..<3 + draw(3)).map { _ in Self.words[5 + draw(Self.words.count - 5)] }
      let isFirst = draw(2) == 0
      return [
        "prompt": "say the \(isFirst ? "first" : "last") word " + said.joined(separator: " "),
        "completion": (isFirst ? said.first : said.last) ?? "", "user": "user-\(number % 3)",
      ]
    }
    try TinyWorkshop.jsonLines(records).write(to: folder.appendingPathComponent(name))
  }

  private func withTasks(_ body: (URL) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      try writeTasks(200, seed: 1, "train.jsonl", in: folder)
      try writeTasks(40, seed: 2, "test.jsonl", in: folder)
      let model = folder.appendingPathComponent("model")
      try FileManager.default.copyItem(
        at: ProjectFolders.golden.appendingPathComponent("families/t5-gated"), to: model)
      try writeTokenizer(in: model)
      try await body(folder)
    }
  }

  private func perplexity(
    _ words: [String], of text: String = "test.jsonl", in folder: URL
  ) async throws -> Double {
    let outcome = try await FedpeatCommand.succeed(
      ["evaluate"] + words + ["--text", text, "--json"], in: folder)
    return try #require(try outcome.object()["perplexity"] as? Double)
  }

  @Test func `inspect says how its blocks divide`() async throws {
    try await withTasks { folder in
      let facts = try await FedpeatCommand.succeed(["inspect", "model", "--json"], in: folder)
        .object()
      #expect(facts["architecture"] as? String == "t5")
      #expect(facts["blocks"] as? Int == 7 && facts["encoderBlocks"] as? Int == 3)
    }
  }

  @Test func `an adapter that is tuned through an emulator makes the whole model better`()
    async throws
  {
    try await withTasks { folder in
      try await FedpeatCommand.succeed(
        [
          "compress", "model", "--bottom", "1", "--top", "1", "--recipe", "layers=1:3",
          "--calibration", "train.jsonl", "--out", "emulator",
        ], in: folder)
      try await FedpeatCommand.succeed(
        [
          "tune", "emulator", "--data", "train.jsonl", "--context", "32", "--steps", "80",
          "--batch",
          "8", "--learning-rate", "1e-2", "--update", "--out", "adapter",
        ], in: folder)
      let before = try await perplexity(["model"], in: folder)
      let tuned = try await perplexity(["model", "--adapter", "adapter"], in: folder)
      #expect(tuned < 0.5 * before, "\(before) \(tuned)")
      try await FedpeatCommand.succeed(
        ["plug-in", "model", "adapter", "--merge", "--out", "merged"], in: folder)
      let merged = try await perplexity(["merged"], in: folder)
      #expect(abs(merged - tuned) < 1e-4 * tuned)
      // An update has the full model's numbers, whatever the folder has.
      try await FedpeatCommand.succeed(["aggregate", "adapter", "--out", "mean"], in: folder)
      let mean = try await perplexity(["model", "--adapter", "mean"], in: folder)
      #expect(abs(mean - tuned) < 1e-4 * tuned)
    }
  }

  @Test func `a prefix in front of what its decoder says is tuned, also by a federation`()
    async throws
  {
    try await withTasks { folder in
      let before = try await perplexity(["model"], in: folder)
      for (name, ends) in [("all", []), ("ends", ["--bottom", "1", "--top", "2"])] {
        try await FedpeatCommand.succeed(
          [
            "tune", "model", "--method", "prefix-tuning", "--virtual-tokens", "6", "--data",
            "train.jsonl", "--context", "32", "--steps", "60", "--batch", "8", "--out", name,
          ] + ends, in: folder)
        let after = try await perplexity(["model", "--adapter", name], in: folder)
        #expect(after < before, "\(before) \(after)")
        // PEFT reads one in all of the decoder's blocks.
        let peft = folder.appendingPathComponent("\(name)/adapter_config.json")
        #expect(FileManager.default.fileExists(atPath: peft.path) == (name == "all"))
        let answer = try await FedpeatCommand.succeed(
          [
            "generate", "model", "--adapter", name, "--prompt", "say the last word cat runs",
            "--max-tokens", "4", "--json",
          ], in: folder)
        #expect(answer.status == 0)
      }
      // As Python's PEFT leaves it, without a word of blocks: with the model it is one to go from.
      try FileManager.default.copyItem(
        at: folder.appendingPathComponent("all"), to: folder.appendingPathComponent("peft"))
      try FileManager.default.removeItem(at: folder.appendingPathComponent("peft/fedpeat.json"))
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--from", "peft", "--data", "train.jsonl", "--context", "32",
          "--steps", "3", "--update", "--out", "update",
        ], in: folder)
      let without = try await FedpeatCommand.run(
        ["aggregate", "update", "--from", "peft", "--strategy", "fedavgm", "--out", "mean"],
        in: folder)
      #expect(without.status == 65 && without.errors.contains("--model"), "\(without)")
      try await FedpeatCommand.succeed(
        [
          "aggregate", "update", "--from", "peft", "--model", "model", "--strategy", "fedavgm",
          "--out", "mean",
        ], in: folder)
      let run = """
        model: model
        data: train.jsonl
        evaluationData: test.jsonl
        method: prefix-tuning
        virtualTokens: 4
        partition: field=user
        clients: 3
        rounds: 2
        localSteps: 15
        batch: 8
        context: 32
        bottom: 1
        top: 2
        emulators: [layer-drop=2]
        fullFineTuning: false
        out: run
        """
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      try await FedpeatCommand.succeed(["simulate", "run.yaml"], in: folder)
      let after = try await perplexity(["model", "--adapter", "run"], in: folder)
      #expect(after < before, "\(before) \(after)")
    }
  }

  @Test func `a federation tunes it`() async throws {
    try await withTasks { folder in
      let run = """
        model: model
        data: train.jsonl
        evaluationData: test.jsonl
        partition: field=user
        clients: 3
        rounds: 2
        localSteps: 15
        batch: 8
        context: 32
        learningRate: 1e-2
        emulators: [layer-drop=3]
        fullFineTuning: false
        out: run
        """
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      try await FedpeatCommand.succeed(["simulate", "run.yaml"], in: folder)
      let before = try await perplexity(["model"], in: folder)
      let after = try await perplexity(["model", "--adapter", "run"], in: folder)
      #expect(after < before, "\(before) \(after)")
    }
  }

  @Test func `it is tuned whole, also on plain text, and answers`() async throws {
    try await withTasks { folder in
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--method", "full", "--data", "train.jsonl", "--context", "32",
          "--steps",
          "300", "--batch", "16", "--learning-rate", "5e-3", "--out", "whole",
        ], in: folder)
      let (before, after) = (
        try await perplexity(["model"], of: "train.jsonl", in: folder),
        try await perplexity(["whole"], of: "train.jsonl", in: folder)
      )
      #expect(after < 0.1 * before, "\(before) \(after)")
      // It says a word and stops.
      let answer = try await FedpeatCommand.succeed(
        ["generate", "whole", "--prompt", "say the first word cat runs fast", "--json"], in: folder)
      #expect(Self.words.contains(try answer.object()["text"] as? String ?? ""), "\(answer)")
      let sentences = (0..<60).map { (number: Int) -> String in
        let places = (0..<9).map { (place: Int) -> Int in 5 + (number * 5 + place * 7) % 18 }
        return places.map { Self.words[$0] }.joined(separator: " ")
      }
      try Data(sentences.joined(separator: "\n").utf8).write(
        to: folder.appendingPathComponent("plain.txt"))
      let tuned = try await FedpeatCommand.succeed(
        [
          "tune", "model", "--data", "plain.txt", "--context", "24", "--steps", "10", "--batch",
          "4",
          "--out", "spans", "--json",
        ], in: folder)
      #expect(tuned.status == 0)
    }
  }

  @Test(arguments: [
    (
      [
        "tune", "model", "--method", "prefix-tuning", "--bottom", "1", "--top", "0", "--data",
        "train.jsonl",
      ], "decoder"
    ),
    (["tune", "model", "--method", "bitfit", "--data", "train.jsonl"], "no biases"),
    (
      ["compress", "model", "--bottom", "1", "--top", "1", "--recipe", "prune-heads=0.5"],
      "relative positions"
    ),
    (["compress", "model", "--bottom", "0", "--top", "1", "--recipe", "layers=3:4"], "encoder"),
  ])
  func `what it can't do it says`(words: [String], reason: String) async throws {
    try await withTasks { folder in
      let outcome = try await FedpeatCommand.run(words + ["--out", "out"], in: folder)
      #expect(outcome.status == 64 && outcome.errors.contains(reason), "\(outcome)")
    }
  }
}
