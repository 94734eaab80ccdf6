import Foundation
import PeatEmulation
import PeatFederation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// What exact rules make of several clients' LoRA, in Python on the original base.
@Suite("Aggregated adapters in PEFT", .needsPeers) struct AggregationParityTests {
  /// Adapters of several clients in the end blocks, all with effect.
  private func updates(
    for model: TransformerModel, blocks: [Int], ranks: [Int], stabilized: Bool
  ) throws -> (start: Adapter, updates: [ClientUpdate]) {
    func method(_ rank: Int) throws -> Adapter.Method {
      .lora(
        try LoRAConfiguration(rank: rank, alpha: 6, usesRankStabilizedScale: stabilized))
    }
    var random = SeededRandom(seed: 12, "clients")
    let updates = try ranks.enumerated().map { number, rank in
      var adapter = try Adapter(
        new: method(rank), for: model, blocks: blocks, seed: UInt64(number), sourceDigest: nil)
      for key in adapter.state.keys.sorted() where key.hasSuffix(LowRankNames.up) {
        adapter.state[key] = randomTensor(adapter.state[key]?.shape ?? [], &random, scale: 0.2)
      }
      return ClientUpdate(adapter.state, exampleCount: 1 + number)
    }
    let start = try Adapter(
      new: method(4), for: model, blocks: blocks, seed: 99, sourceDigest: nil)
    return (start, updates)
  }

  @Test(
    arguments: [("llama-tiny", false), ("gpt2-tiny", false), ("llama-tiny", true)],
    ["fedex", "product-exact"])
  func `PEFT computes with the exported adapter what the exact sum does`(
    model: (name: String, stabilized: Bool), rule: String
  ) async throws {
    let full = try GoldenModels.model(model.name)
    let blocks = [0, full.blocks.count - 1]
    let (start, updates) = try updates(
      for: full, blocks: blocks, ranks: [4, 4, 4], stabilized: model.stabilized)
    var adapter = start
    // In the second round the remainder of the first is part of what all begin with.
    for _ in 0..<2 {
      adapter.state = try Strategies.named(rule).aggregate(updates, into: adapter.state).state
    }
    #expect(!adapter.state.remainders.isEmpty)
    let rows = try GoldenCase("expected", in: "checkpoints/\(model.name)").rows()
    let injected = try adapter.inject(into: full)
    let expected = full.logits(rows)
    injected.remove()
    try await withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter,
        facts: .init(
          method: LoRA.name, sourceDigest: nil, modelDigest: nil, split: nil,
          blockMap: Dictionary(uniqueKeysWithValues: blocks.map { (String($0), $0) })),
        configuration: full.configuration, baseModel: "base", to: folder)
      let theirs = try await Peers.logits(
        "check_adapter.py", [GoldenModels.folder(model.name), folder], ids: rows, in: scratch)
      expectClose(expected, theirs, within: 1e-4, "plug-in beside PEFT on the original base")
    }
  }
}
