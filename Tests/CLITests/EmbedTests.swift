import Foundation
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
}
