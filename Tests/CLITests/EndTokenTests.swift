import Foundation
import TestSupport
import Testing

/// Where a text that a model writes ends, beside transformers' `generate` (Tools/golden/ends.py).
@Suite("generate ends") struct EndTokenTests {
  private struct Expected: Decodable {
    struct Case: Decodable {
      let text: String
      let tokens: Int
    }
    let prompt: String
    let cases: [String: Case]
  }

  private func withModel(_ body: (URL, Expected) async throws -> Void) async throws {
    let golden = ProjectFolders.golden.appendingPathComponent("ends")
    let expected = try JSONDecoder().decode(
      Expected.self, from: Data(contentsOf: golden.appendingPathComponent("expected.json")))
    try await withTemporaryFolder { folder in
      try FileManager.default.copyItem(at: golden, to: folder.appendingPathComponent("model"))
      try await body(folder, expected)
    }
  }

  @Test func `at the tokens of generation_config.json, else of config.json`() async throws {
    try await withModel { folder, expected in
      let words = [
        "generate", "model", "--prompt", expected.prompt, "--max-tokens", "40", "--json",
      ]
      func check(_ name: String) async throws {
        let report = try await FedpeatCommand.succeed(words, in: folder).object()
        let wanted = try #require(expected.cases[name])
        #expect(report["tokens"] as? Int == wanted.tokens, "\(name)")
        #expect(report["text"] as? String == wanted.text, "\(name)")
      }
      try await check("generation_config")
      let file = folder.appendingPathComponent("model/generation_config.json")
      try Data("{}".utf8).write(to: file)
      try await check("nothing")
      try FileManager.default.removeItem(at: file)
      try await check("config")
    }
  }

  /// Small models are often saved with the numbers of large ones; transformers warns of them.
  @Test(arguments: ["50256", "[257, -1]"])
  func `a number that is none of the model's tokens ends nothing`(ends: String) async throws {
    try await withModel { folder, expected in
      try Data("{\"eos_token_id\": \(ends)}".utf8).write(
        to: folder.appendingPathComponent("model/generation_config.json"))
      let report = try await FedpeatCommand.succeed(
        ["generate", "model", "--prompt", expected.prompt, "--max-tokens", "40", "--json"],
        in: folder
      ).object()
      #expect(report["tokens"] as? Int == expected.cases["nothing"]?.tokens)
    }
  }

  @Test(arguments: ["\"</s>\"", "[1.5]"])
  func `an end that is no number is an error`(ends: String) async throws {
    try await withModel { folder, _ in
      try Data("{\"eos_token_id\": \(ends)}".utf8).write(
        to: folder.appendingPathComponent("model/generation_config.json"))
      try await expect(
        65, saying: ["generation_config.json", "eos_token_id", "from 0 to 256"],
        from: ["generate", "model", "--prompt", "a"], in: folder)
    }
  }
}
