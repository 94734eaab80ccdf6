import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("embed") struct EmbedTests {
  @Test func `vectors take the place of nothing but vectors`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let files = FileManager.default
      func copy(_ name: String, _ place: String) throws {
        try files.copyItem(at: workshop.url(name), to: folder.appendingPathComponent(place))
      }
      try copy("model", "model")
      try copy("documents.jsonl", "texts.jsonl")
      try Data("mine".utf8).write(to: folder.appendingPathComponent("other.txt"))
      let embed = ["embed", "model", "--text", "texts.jsonl", "--out"]
      let weights = folder.appendingPathComponent("model/model.safetensors")
      let before = try Data(contentsOf: weights)
      for (out, code, words) in [
        ("texts.jsonl", 64, "that is read"), ("model/model.safetensors", 64, "read from"),
        ("model/vectors.safetensors", 64, "outside of it"), ("other.txt", 74, "no vectors"),
      ] as [(String, Int32, String)] {
        try await expect(code, saying: [words], from: embed + [out], in: folder)
      }
      #expect(try Data(contentsOf: weights) == before)
      #expect(
        try String(contentsOf: folder.appendingPathComponent("other.txt"), encoding: .utf8)
          == "mine")
      // Its own file is renewed.
      for _ in 0..<2 {
        try await FedpeatCommand.succeed(embed + ["vectors.safetensors"], in: folder)
      }
    }
  }

  @Test func `a text without tokens has a vector of zeros`() async throws {
    try await withWorkshop { workshop, folder in
      let model = try workshop.copy("model", to: folder)
      let file = model.appendingPathComponent("tokenizer.json")
      var json = try JSONFile.read(JSONValue.self, from: file).object ?? [:]
      json["post_processor"] = .null
      try JSONFile.write(JSONValue.object(json), to: file)
      try Data(#"["the cat", "", "a dog"]"#.utf8).write(
        to: folder.appendingPathComponent("texts.json"))
      for words in [[], ["--normalize"]] {
        let report = try await FedpeatCommand.succeed(
          ["embed", "model", "--text", "texts.json", "--json"] + words, in: folder
        ).object()
        let vectors = try #require(report["embeddings"] as? [[Double]])
        #expect(vectors.map { $0.contains { $0 != 0 } } == [true, false, true])
      }
    }
  }

  @Test func `every record and every line has its vector, empty ones too`() async throws {
    try await withWorkshop { workshop, folder in
      _ = try workshop.copy("model", to: folder)
      func rows(_ text: String, _ name: String, _ options: [String] = []) async throws
        -> (vectors: [[Double]], report: [String: Any])
      {
        try Data(text.utf8).write(to: folder.appendingPathComponent(name))
        let report = try await FedpeatCommand.succeed(
          ["embed", "model", "--text", name, "--json"] + options, in: folder
        ).object()
        return (try #require(report["embeddings"] as? [[Double]]), report)
      }
      let whole = try await rows(#"["the cat", "", "a dog"]"#, "texts.json").vectors
      #expect(whole.count == 3)
      let lines = try await rows("the cat\n\na dog\n", "texts.txt", ["--lines"]).vectors
      #expect(lines == whole)
      // What the files beside the model say is done.
      try Data(
        #"[{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}, {"type": "x.Normalize", "path": "2_Normalize"}]"#
          .utf8
      ).write(to: folder.appendingPathComponent("model/modules.json"))
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("model/1_Pooling"), withIntermediateDirectories: true)
      try Data(#"{"pooling_mode": ["cls", "mean"]}"#.utf8).write(
        to: folder.appendingPathComponent("model/1_Pooling/config.json"))
      let (two, report) = try await rows(#"["the cat", "", "a dog"]"#, "texts.json")
      #expect(report["pooling"] as? [String] == ["cls", "mean"])
      #expect(report["normalized"] as? Bool == true)
      #expect(two[0].count == 2 * whole[0].count)
      #expect(abs(two[0].reduce(0) { $0 + $1 * $1 } - 1) < 1e-5)
      // The same model with an adapter in it takes the files along, and is written over as a whole.
      for _ in 0..<2 {
        try await FedpeatCommand.succeed(
          ["plug-in", "model", workshop.adapter, "--merge", "--out", "merged"], in: folder)
      }
      let merged = try await FedpeatCommand.succeed(
        ["embed", "merged", "--text", "texts.json", "--json"], in: folder
      ).object()
      #expect(merged["pooling"] as? [String] == ["cls", "mean"])
    }
  }
}
