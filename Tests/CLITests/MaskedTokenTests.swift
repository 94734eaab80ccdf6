import Foundation
import TestSupport
import Testing

/// A tiny BERT with a head of masked tokens, through the verbs.
@Suite("Masked tokens and pairs") struct MaskedTokenTests {
  private func withModel(
    _ family: String = "bert-masked", _ body: (URL) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      try TinyEncoder.write(family, to: folder.appendingPathComponent("model"))
      let sentences = TinyWorkshop.sentences(400, seed: 7)
      try TinyWorkshop.jsonLines(
        sentences.enumerated().map { ["text": $1, "user": "user-\($0 % 3)"] }
      ).write(to: folder.appendingPathComponent("data.jsonl"))
      try Data(TinyWorkshop.sentences(60, seed: 8).joined(separator: "\n").utf8)
        .write(to: folder.appendingPathComponent("test.txt"))
      try await body(folder)
    }
  }

  private func measured(_ words: [String], in folder: URL) async throws -> Double {
    let report = try await FedpeatCommand.succeed(
      ["evaluate"] + words + ["--text", "test.txt", "--context", "32", "--json"], in: folder
    ).object()
    #expect(report["perplexity"] == nil)
    return try #require(report["maskedPerplexity"] as? Double)
  }

  @Test func `a model with such a head learns by itself, and its numbers repeat`() async throws {
    try await withModel { folder in
      let before = try await measured(["model", "--seed", "3"], in: folder)
      #expect(try await measured(["model", "--seed", "3"], in: folder) == before)
      #expect(try await measured(["model", "--seed", "4"], in: folder) != before)
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--data", "data.jsonl", "--steps", "60", "--batch", "8", "--context",
          "32", "--learning-rate", "0.01", "--rank", "4", "--out", "adapter",
        ], in: folder)
      let after = try await measured(["model", "--adapter", "adapter", "--seed", "3"], in: folder)
      #expect(after < 0.8 * before, "\(before) to \(after)")
      try await FedpeatCommand.succeed(
        ["plug-in", "model", "adapter", "--merge", "--out", "merged"], in: folder)
      let merged = try await measured(["merged", "--seed", "3"], in: folder)
      #expect(abs(merged - after) < 1e-3 * after)
    }
  }

  @Test func `a federation's five numbers are masked perplexities, of the clients too`()
    async throws
  {
    try await withModel { folder in
      let run = """
        model: model
        data: data.jsonl
        clientsBy: user
        clients: 3
        emulators: [layer-drop=1]
        rounds: 3
        localSteps: 10
        batch: 8
        context: 32
        learningRate: 0.01
        perClient: true
        personalSteps: 3
        out: result
        """
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      let result = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--json", "--seed", "2"], in: folder
      ).object()
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      #expect(numbers["metric"] as? String == "masked-perplexity")
      #expect(numbers["higherIsBetter"] as? Bool == false)
      let plugIn = try #require(numbers["plugIn"] as? Double)
      let untouched = try #require(numbers["fullZeroShot"] as? Double)
      #expect(plugIn < untouched, "\(numbers)")
      let clients = try #require(result["perClient"] as? [String: Any])
      for name in ["global", "personalized"] {
        let summary = try #require(clients[name] as? [String: Any])
        let values = try #require(summary["values"] as? [String: Double])
        #expect(Set(values.keys) == ["client-1", "client-2", "client-3"])
        #expect(summary["worst"] as? Double == values.values.max())
      }
      let written = try String(
        contentsOf: folder.appendingPathComponent("result/run.yaml"), encoding: .utf8)
      #expect(written.contains("task: masked-tokens"))
      // The same numbers come out of the files.
      let whole = try await measured(["model", "--seed", "2"], in: folder)
      #expect(whole > 1)
      try await expect(
        64, saying: ["perClient", "simulate"], from: ["serve", "run.yaml"], in: folder)
    }
  }

  @Test func `emulators are made, compared and distilled`() async throws {
    try await withModel { folder in
      let report = try await FedpeatCommand.succeed(
        [
          "compress", "model", "--recipe", "layer-drop=1,int8", "--calibration", "data.jsonl",
          "--distill", "data.jsonl", "--distill-steps", "12", "--distill-batch", "4",
          "--distill-context", "32", "--distill-checks", "1", "--out", "emulator", "--json",
        ], in: folder
      ).object()
      let fidelity = try #require(report["fidelity"] as? [String: Any])
      for key in ["fullLoss", "emulatorLoss", "gradientCosine", "stateError", "divergence"] {
        #expect((fidelity[key] as? Double)?.isFinite == true, "\(key) in \(fidelity)")
      }
      #expect((fidelity["tokens"] as? Int ?? 0) > 100)
      let through = try await measured(["emulator"], in: folder)
      #expect(through > 1)
    }
  }

  @Test func `what such a model can't do, and a task that is not its head's, say so`() async throws
  {
    try await withModel { folder in
      try await expect(
        64, saying: ["masked tokens", "next token"],
        from: ["generate", "model", "--prompt", "the cat"], in: folder)
      try await expect(
        64, saying: ["masked-tokens", "not for next-token"],
        from: ["tune", "model", "--task", "next-token", "--data", "data.jsonl", "--out", "x"],
        in: folder)
      try await expect(
        64, saying: ["--stride"],
        from: ["evaluate", "model", "--text", "test.txt", "--stride", "4"], in: folder)
      let choices = "{\"question\": \"a\", \"choices\": [\"cat\", \"dog\"], \"answer\": 0}\n"
      try Data(choices.utf8).write(to: folder.appendingPathComponent("choices.jsonl"))
      try await expect(
        64, saying: ["predicts masked tokens"],
        from: ["evaluate", "model", "--choices", "choices.jsonl"], in: folder)
    }
    try await withWorkshop { workshop, folder in
      try await expect(
        64, saying: ["next-token", "not for masked-tokens"],
        from: [
          "tune", workshop.model, "--task", "masked-tokens", "--data", workshop.text, "--out", "x",
        ], in: folder)
    }
  }

  @Test func `pairs of texts are told apart by their second text`() async throws {
    try await withModel("bert") { folder in
      let sentences = TinyWorkshop.sentences(200, seed: 9)
      func rows(_ range: Range<Int>) -> String {
        "premise,hypothesis,label,user\n"
          + range.map { number in
            let words = sentences[number].split(separator: " ")
            let isYes = number % 2 == 0
            // The same words in the first text mean nothing.
            return "\(words[0]) \(isYes ? "not" : "") \(words[1]),"
              + "\(words[2]) \(number % 4 < 2 ? "not" : "a") \(words[3]),"
              + "\(number % 4 < 2 ? "yes" : "no"),user-\(number % 5)\n"
          }.joined()
      }
      try Data(rows(0..<160).utf8).write(to: folder.appendingPathComponent("train.csv"))
      try Data(rows(160..<200).utf8).write(to: folder.appendingPathComponent("test.csv"))
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--task", "classification", "--data", "train.csv", "--steps", "200",
          "--batch", "16", "--context", "16", "--learning-rate", "0.005", "--out", "adapter",
        ], in: folder)
      let report = try await FedpeatCommand.succeed(
        [
          "evaluate", "model", "--adapter", "adapter", "--labels", "test.csv", "--context", "16",
          "--per-client", "user", "--json",
        ], in: folder
      ).object()
      let accuracy = try #require(report["accuracy"] as? Double)
      #expect(accuracy > 0.9)
      let clients = try #require(report["perClient"] as? [String: Any])
      #expect((clients["values"] as? [String: Double])?.count == 5)
      #expect(abs(try #require(clients["mean"] as? Double) - accuracy) < 1e-9)
    }
  }
}
