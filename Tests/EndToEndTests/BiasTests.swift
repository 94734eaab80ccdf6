import FedPEAT
import Foundation
import TestSupport
import Testing

/// BitFit from the command line, on a model that has biases: GPT-2's kind, which no verb makes.
@Suite("Tuning of biases") struct BiasTests {
  /// A random GPT-2 with the workshop's tokenizer.
  private func writeModel(_ workshop: TinyWorkshop, to folder: URL) throws {
    let vocabulary = try Checkpoint(folder: workshop.url("model")).configuration.vocabularySize
    let json = JSONValue.object([
      "model_type": .string("gpt2"), "vocab_size": .integer(vocabulary), "n_embd": .integer(32),
      "n_layer": .integer(4), "n_head": .integer(2), "n_positions": .integer(32),
    ])
    let weights = RandomWeights(
      try Architectures.configuration(from: ConfigurationFile(name: "config.json", json: json)),
      seed: 5)
    let tensors = weights.names.reduce(into: NamedTensors()) { $0[$1] = weights.tensor(named: $1) }
    try CheckpointWriter.write(to: folder, tensors: tensors, configuration: json)
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      let file = workshop.url("model/\(name)")
      guard FileManager.default.fileExists(atPath: file.path) else { continue }
      try FileManager.default.copyItem(at: file, to: folder.appendingPathComponent(name))
    }
  }

  @Test func `biases are tuned, averaged, sent and plugged in`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let model = folder.appendingPathComponent("gpt2")
      try writeModel(workshop, to: model)
      let result = try await FedpeatCommand.succeed(
        [
          "simulate", workshop.runFile, "--model", "gpt2", "--method", "bitfit", "--json",
          "--learning-rate", "0.05", "--out", "run",
        ], in: folder
      ).object()
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      let before = try #require(numbers["fullZeroShot"] as? Double)
      let after = try #require(numbers["plugIn"] as? Double)
      #expect(after < before)

      // All that is in the adapter is a bias; with it, and merged with it, the model says the same.
      let adapter = try AdapterFolder.readFiles(folder.appendingPathComponent("run"))
      #expect(!adapter.tensors.isEmpty && adapter.tensors.keys.allSatisfy { $0.hasSuffix("bias") })
      try await FedpeatCommand.succeed(
        ["plug-in", "gpt2", "run", "--merge", "--out", "merged"], in: folder)
      func perplexity(_ arguments: [String]) async throws -> Double {
        let object = try await FedpeatCommand.succeed(
          ["evaluate"] + arguments + ["--text", workshop.text, "--context", "16", "--json"],
          in: folder
        ).object()
        return try #require(object["perplexity"] as? Double)
      }
      let plugged = try await perplexity(["gpt2", "--adapter", "run"])
      let merged = try await perplexity(["merged"])
      #expect(abs(plugged - merged) <= 1e-5 * merged)
      #expect(try await perplexity(["gpt2"]) > plugged)
    }
  }

  @Test func `a model without biases is told what else there is`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let outcome = try await FedpeatCommand.run(
        ["simulate", workshop.runFile, "--method", "bitfit"], in: folder)
      #expect(outcome.status == 64 && outcome.errors.contains("bias"))
    }
  }
}
