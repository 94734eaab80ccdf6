import Foundation
import TestSupport
import Testing

/// Data that lies in folders, in plays and in tables, for every verb that reads it.
@Suite("Where data lies") struct DataPlacesTests {
  /// A folder of four texts.
  private func writeTexts(to folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for number in 0..<4 {
      try Data(
        TinyWorkshop.sentences(40, seed: UInt64(number + 1)).joined(separator: "\n").utf8
      ).write(to: folder.appendingPathComponent("user-\(number).txt"))
    }
  }

  @Test func `a folder of texts is tuned on, measured, and divided among clients`() async throws {
    try await withWorkshop { workshop, folder in
      try writeTexts(to: folder.appendingPathComponent("texts"))
      try await FedpeatCommand.succeed(
        [
          "tune", workshop.emulator, "--data", "texts", "--steps", "2", "--batch", "2",
          "--memory-limit", "2GB", "--out", "adapter",
        ], in: folder)
      let whole = try await FedpeatCommand.succeed(
        ["evaluate", workshop.model, "--text", "texts", "--per-client", "user", "--json"],
        in: folder
      ).object()
      let clients = try #require(whole["perClient"] as? [String: Any])
      #expect((clients["values"] as? [String: Any])?.count == 4)
      let run = [
        "simulate", "--model", workshop.model, "--emulator", "layer-drop=1", "--rounds", "1",
        "--local-steps", "1", "--batch", "2", "--clients", "2", "--data", "texts",
        "--evaluation-data", "texts",
      ]
      for division in [[], ["--clients-by", "user"], ["--partition", "dirichlet=1:user"]] {
        try await FedpeatCommand.succeed(run + division + ["--quiet"], in: folder)
      }
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("empty"), withIntermediateDirectories: true)
      try await expect(
        65, saying: ["holds no texts", "Expected files of text"],
        from: ["tune", workshop.emulator, "--data", "empty", "--out", "x"], in: folder)
    }
  }

  @Test func `a flag that divides takes the place of the run file's other one`() async throws {
    try await withWorkshop { workshop, folder in
      let text = try String(contentsOf: workshop.url("run.yaml"), encoding: .utf8)
      let file = folder.appendingPathComponent("run.yaml")
      let lines = text.split(separator: "\n").filter { !$0.hasPrefix("rounds") }
      func run(_ key: String, _ flags: [String]) async throws -> CommandResult {
        try Data(
          (lines.joined(separator: "\n") + "\nrounds: 1\nfullFineTuning: false\n\(key)\n").utf8
        ).write(to: file)
        return try await FedpeatCommand.run(
          ["simulate", "run.yaml", "--out", "result"] + flags, in: folder)
      }
      func kept() throws -> String {
        try String(
          contentsOf: folder.appendingPathComponent("result/run.yaml"), encoding: .utf8)
      }
      let other = try await run("clientsBy: user", ["--partition", "iid"])
      #expect(other.status == 0, "\(other)")
      #expect(try kept().contains("clientsBy: null") && kept().contains("partition: iid"))
      let back = try await run("partition: iid", ["--clients-by", "user"])
      #expect(back.status == 0, "\(back)")
      #expect(try kept().contains("clientsBy: user") && kept().contains("partition: null"))
      let both = try await run("", ["--clients-by", "user", "--partition", "iid"])
      #expect(both.status == 64 && both.errors.contains("name one of them"), "\(both)")
    }
  }

  @Test func `a play is divided by its speakers in every way`() async throws {
    try await withWorkshop { workshop, folder in
      let sentences = TinyWorkshop.sentences(80, seed: 5)
      let play = sentences.enumerated().map { number, text in
        "\(["ANN", "BOB", "CY"][number % 3]):\n\(text)\n"
      }.joined(separator: "\n")
      try Data(play.utf8).write(to: folder.appendingPathComponent("play.txt"))
      for way in ["field=speaker", "dirichlet=0.5:speaker"] {
        let result = try await FedpeatCommand.succeed(
          [
            "simulate", "--model", workshop.model, "--emulator", "layer-drop=1", "--rounds", "1",
            "--local-steps", "1", "--batch", "2", "--clients", "2", "--data", "play.txt",
            "--partition", way,
          ], in: folder)
        #expect(result.errors.contains("distance"), "\(result)")
      }
    }
  }

  @Test func `a question is asked under the headings of tuning where there is no template`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      // A question takes more tokens than the workshop's models read.
      try await FedpeatCommand.succeed(
        [
          "pretrain", "--text", workshop.text, "--out", "model", "--vocabulary", "300", "--blocks",
          "2", "--hidden-size", "16", "--heads", "2", "--key-value-heads", "1", "--context", "128",
          "--batch", "2", "--steps", "3",
        ], in: folder)
      let generate = ["generate", "model", "--max-tokens", "12", "--json", "--prompt"]
      let asked = try await FedpeatCommand.succeed(
        generate + ["the cat", "--chat", "--system", "on a mat"], in: folder
      ).object()
      let same = try await FedpeatCommand.succeed(
        generate + [
          "### System:\non a mat\n\n### User:\nthe cat\n\n### Assistant:\n"
        ], in: folder
      ).object()
      let answer = try #require(asked["text"] as? String)
      #expect(try #require(same["text"] as? String).hasPrefix(answer))
      #expect(!answer.isEmpty)
    }
  }

  @Test func `a text that is longer than the model reads is told of`() async throws {
    try await withWorkshop { workshop, folder in
      let result = try await FedpeatCommand.succeed(
        ["embed", workshop.model, "--text", workshop.text, "--json"], in: folder)
      #expect(try result.object()["shortened"] as? Int == 1)
      #expect(result.errors.contains("cut          1 of 1 texts"), "\(result)")
      let lines = try await FedpeatCommand.succeed(
        ["embed", workshop.model, "--text", workshop.documents, "--json", "--context", "32"],
        in: folder)
      let shortened = try #require(try lines.object()["shortened"] as? Int)
      #expect(lines.errors.contains("cut  ") == (shortened > 0))
    }
  }
}
