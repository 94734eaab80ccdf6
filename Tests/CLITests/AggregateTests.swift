import Foundation
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
        65, saying: ["'update-1'", "another method, rank or alpha"],
        from: ["aggregate"] + updates + ["--strategy", "ffa", "--out", "x"], in: folder)
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
}
