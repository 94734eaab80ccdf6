import Foundation
import TestSupport
import Testing

/// Files that are read piece by piece, texts by client, and conversations.
@Suite("Streams, clients and chats") struct StreamingTests {
  private func perplexity(_ words: [String], in folder: URL) async throws -> Double {
    let report = try await FedpeatCommand.succeed(
      ["evaluate"] + words + ["--context", "16", "--json"], in: folder
    ).object()
    return try #require(report["perplexity"] as? Double)
  }

  @Test func `a text that is read piece by piece is tuned on and measured as in memory`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let whole = try await perplexity([workshop.model, "--text", workshop.text], in: folder)
      let streamed = try await perplexity(
        [workshop.model, "--text", workshop.text, "--stream"], in: folder)
      #expect(abs(whole - streamed) < 1e-6 * whole)
      let lines = try await perplexity(
        [workshop.model, "--text", workshop.documents, "--stream"], in: folder)
      let read = try await perplexity([workshop.model, "--text", workshop.documents], in: folder)
      #expect(abs(lines - read) < 1e-6 * read, "\(lines), \(read)")
      // Each of these is a word, before which a tokenizer puts a space where it stands alone.
      try TinyWorkshop.jsonLines(
        TinyWorkshop.sentences(40, seed: 5).flatMap { $0.split(separator: " ") }.map {
          ["text": String($0)]
        }
      ).write(to: folder.appendingPathComponent("words.jsonl"))
      let words = try await perplexity([workshop.model, "--text", "words.jsonl"], in: folder)
      let wordsRead = try await perplexity(
        [workshop.model, "--text", "words.jsonl", "--stream"], in: folder)
      #expect(abs(words - wordsRead) < 1e-6 * words, "\(words), \(wordsRead)")
      func tune(_ flag: String) async throws -> Data {
        try await FedpeatCommand.succeed(
          [
            "tune", workshop.model, "--data", workshop.text, "--steps", "3", "--batch", "4",
            "--context", "16", "--threads", "1", flag, "--out", "adapter\(flag)",
          ], in: folder)
        return try Data(
          contentsOf: folder.appendingPathComponent("adapter\(flag)/adapter_model.safetensors"))
      }
      let (one, other) = (try await tune("--stream"), try await tune("--no-stream"))
      #expect(one == other)
      try await FedpeatCommand.succeed(
        [
          "pretrain", "--text", workshop.text, "--stream", "--vocabulary", "300", "--blocks", "2",
          "--hidden-size", "16", "--heads", "2", "--key-value-heads", "1", "--context", "16",
          "--batch", "4", "--steps", "4", "--out", "small",
        ], in: folder)
      try await expect(
        64, saying: ["--stream", "--documents"],
        from: ["evaluate", workshop.model, "--text", workshop.text, "--stream", "--documents"],
        in: folder)
      try await expect(
        64, saying: ["piece by piece", "JSON lines"],
        from: [
          "evaluate", workshop.model, "--text", workshop.path("run.yaml"), "--stream",
        ], in: folder)
    }
  }

  @Test func `each client's texts are measured for themselves`() async throws {
    try await withWorkshop { workshop, folder in
      let report = try await FedpeatCommand.succeed(
        [
          "evaluate", workshop.model, "--text", workshop.documents, "--per-client", "user",
          "--context", "16", "--json",
        ], in: folder
      ).object()
      let clients = try #require(report["perClient"] as? [String: Any])
      let values = try #require(clients["values"] as? [String: Double])
      #expect(Set(values.keys) == ["user-0", "user-1", "user-2", "user-3"])
      #expect(clients["worstDecile"] as? Double == values.values.max())
      // A client's number is that of a file with its texts alone.
      let lines = try String(contentsOfFile: workshop.documents, encoding: .utf8)
        .split(separator: "\n").filter { $0.contains("user-2") }.joined(separator: "\n")
      try Data(lines.utf8).write(to: folder.appendingPathComponent("own.jsonl"))
      let own = try await perplexity([workshop.model, "--text", "own.jsonl"], in: folder)
      #expect(own == values["user-2"])
      try await expect(
        65, saying: ["no field 'speaker'", "user"],
        from: [
          "evaluate", workshop.model, "--text", workshop.documents, "--per-client", "speaker",
        ], in: folder)
    }
  }

  @Test func `a model with a chat template answers, and learns conversations as it writes them`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      let model = try workshop.copy("model", to: folder)
      let template =
        "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}a {% endif %}"
      try Data(template.utf8).write(to: model.appendingPathComponent("chat_template.jinja"))
      func text(_ words: String...) async throws -> String {
        try #require(
          try await FedpeatCommand.succeed(
            ["generate", "model", "--max-tokens", "6", "--json"] + words, in: folder
          ).object()["text"] as? String)
      }
      let answer = try await text("--chat", "--prompt", "the cat", "--system", "in rain")
      let plain = try await text(
        "--prompt", "s in rain\nu the cat\na ")
      #expect(answer == plain)
      let chat = """
        {"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on a mat"}]}
        """
      try Data(chat.utf8).write(to: folder.appendingPathComponent("chat.jsonl"))
      // What the template writes before the answer is a prompt.
      try TinyWorkshop.jsonLines([["prompt": "u the cat\na ", "completion": "sat on a mat\n"]])
        .write(to: folder.appendingPathComponent("asked.jsonl"))
      let written = try await perplexity(["model", "--text", "chat.jsonl", "--no-bos"], in: folder)
      #expect(
        try await perplexity(["model", "--text", "asked.jsonl", "--no-bos"], in: folder) == written
      )
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--data", "chat.jsonl", "--steps", "2", "--batch", "1", "--context",
          "32", "--out", "adapter",
        ], in: folder)
      try await expect(
        64, saying: ["--system goes with --chat"],
        from: ["generate", "model", "--prompt", "a", "--system", "b"], in: folder)
    }
  }

  @Test func `clients change nothing about the number of all`() async throws {
    try await withWorkshop { workshop, folder in
      // Clients in turn, so that one client's texts behind the other's are another text.
      for extra in [[], ["--documents"]] as [[String]] {
        let alone = try await FedpeatCommand.succeed(
          ["evaluate", workshop.model, "--text", workshop.documents, "--json"] + extra, in: folder
        ).object()
        let beside = try await FedpeatCommand.succeed(
          [
            "evaluate", workshop.model, "--text", workshop.documents, "--per-client", "user",
            "--json",
          ] + extra, in: folder
        ).object()
        for key in ["perplexity", "loss", "bitsPerByte"] {
          #expect(alone[key] as? Double == beside[key] as? Double, "\(key)")
        }
        #expect(alone["tokens"] as? Int == beside["tokens"] as? Int)
      }
    }
  }

  @Test(arguments: [[], ["--documents"], ["--stream"]] as [[String]])
  func `of prompts and answers only the answers count`(options: [String]) async throws {
    try await withWorkshop { workshop, folder in
      let sentences = TinyWorkshop.sentences(8, seed: 3)
      func file(_ name: String, _ record: (String) -> [String: Any]) throws -> String {
        let url = folder.appendingPathComponent(name)
        try TinyWorkshop.jsonLines(sentences.map(record)).write(to: url)
        return url.path
      }
      let answers = try file("answers.jsonl") {
        ["prompt": "the cat sat", "completion": " " + $0]
      }
      let longer = try file("longer.jsonl") {
        ["prompt": "the cat sat on a mat in rain", "completion": " " + $0]
      }
      let plain = try file("plain.jsonl") { ["text": $0] }
      var counts: [Int] = []
      for name in [answers, longer, plain] {
        let report = try await FedpeatCommand.succeed(
          ["evaluate", workshop.model, "--text", name, "--json", "--context", "32"] + options,
          in: folder
        ).object()
        #expect(report["answersOnly"] as? Bool == (name != plain))
        counts.append(try #require(report["tokens"] as? Int))
      }
      // A longer prompt is not counted (--documents cuts what does not fit).
      #expect(options == ["--documents"] || counts[0] <= counts[2] + 8, "\(counts)")
      let said = try await FedpeatCommand.run(
        ["evaluate", workshop.model, "--text", answers] + options, in: folder)
      #expect(said.output.contains("tokens of answers"), "\(said)")
    }
  }
}
