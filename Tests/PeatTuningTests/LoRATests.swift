import Foundation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("LoRA") struct LoRATests {
  @Test(arguments: ["llama-tiny", "gpt2-tiny"])
  func `a new adapter is PEFT's default start: A uniform, B zero, no effect`(name: String) throws {
    let model = try checkpoint(name).model()
    let last = model.blocks.count - 1
    let adapter = try Adapter(
      new: .lora(try LoRAConfiguration(rank: 32, alpha: 16)), for: model, blocks: [0, last],
      seed: 3, sourceDigest: nil)
    let layers = model.blocks[0].linears + model.blocks[last].linears
    #expect(adapter.state.count == 2 * layers.count)
    for layer in layers {
      let name = "base_model.model.\(layer.name)"
      let down = try #require(adapter.state["\(name).lora_A.weight"])
      let up = try #require(adapter.state["\(name).lora_B.weight"])
      #expect(down.shape == [32, layer.inputs] && up.shape == [layer.outputs, 32])
      #expect(up.scalars.allSatisfy { $0 == 0 })
      let bound = 1 / Float(layer.inputs).squareRoot()
      #expect(down.scalars.allSatisfy { abs($0) <= bound })
      let largest = try #require(down.scalars.map(abs).max())
      #expect(largest > 0.97 * bound)
      // Uniform in ±b has the mean 0 and the deviation b/√3.
      let count = Double(down.count)
      let mean = down.scalars.reduce(0) { $0 + Double($1) } / count
      let deviation = (down.scalars.reduce(0) { $0 + Double($1 * $1) } / count).squareRoot()
      let expected = Double(bound) / 3.0.squareRoot()
      #expect(abs(mean) < 5 * expected / count.squareRoot())
      #expect(abs(deviation / expected - 1) < 0.06)
    }
    let before = model.someLogits
    let injected = try adapter.inject(into: model)
    #expect(model.someLogits == before)
    injected.remove()
    let again = try Adapter(
      new: adapter.method, for: model, blocks: [0, last], seed: 3, sourceDigest: nil)
    #expect(again.state == adapter.state)
    let other = try Adapter(
      new: adapter.method, for: model, blocks: [0, last], seed: 4, sourceDigest: nil)
    #expect(other.state != adapter.state)
  }

  @Test func `only the target modules get one`() throws {
    let llama = try checkpoint().model()
    let adapter = try Adapter.active(for: llama, blocks: [1], targets: ["v_proj", "gate_proj"])
    #expect(
      Set(adapter.state.keys)
        == Set(
          ["self_attn.v_proj", "mlp.gate_proj"].flatMap { path in
            ["A", "B"].map { "base_model.model.model.layers.1.\(path).lora_\($0).weight" }
          }))
    // GPT-2 has two layers of the name c_proj in a block.
    let gpt2 = try checkpoint("gpt2-tiny").model()
    #expect(try Adapter.active(for: gpt2, blocks: [0], targets: ["c_proj"]).state.count == 4)
  }

  @Test func `an unknown target module, with the nearest one`() throws {
    let model = try checkpoint().model()
    expectError(.usage, "Unknown target module 'q_porj'", "Did you mean 'q_proj'?", "down_proj") {
      _ = try Adapter.active(for: model, blocks: [0], targets: ["v_proj", "q_porj"])
    }
    expectError(.usage, "'c_attn'") {
      _ = try Adapter.active(for: model, blocks: [0], targets: ["c_attn"])
    }
  }

  @Test func `a block that the model has not`() throws {
    let model = try checkpoint().model()
    expectError(.badData, "block 5", "0, 1, 2, 3, 4") {
      _ = try Adapter.active(for: model, blocks: [0, 5])
    }
    expectError(.badData, "block 7") {
      _ = try Adapter(new: .endBlocks, for: model, blocks: [7], seed: 0, sourceDigest: nil)
    }
  }

  @Test func `settings that make no sense`() throws {
    for (rank, alpha) in [
      (0, 8.0), (-1, 8), (1 << 20, 8), (4, 0), (4, -1), (4, .nan), (4, .infinity),
    ] {
      expectError(.usage) { _ = try LoRAConfiguration(rank: rank, alpha: alpha) }
    }
    expectError(.usage, "alpha") { _ = try LoRAConfiguration(alphaPattern: ["q_proj": -1]) }
    expectError(.usage, "regular expression", "layers.[04.q_proj") {
      _ = try LoRAConfiguration(alphaPattern: ["layers.[04.q_proj": 3])
    }
  }

  @Test func `single layers may have another alpha`() throws {
    let model = try checkpoint().model()
    let layers = ["model.layers.0.self_attn.q_proj", "model.layers.4.self_attn.q_proj"]
    // The scale of each layer shows in its change of the weight: s · B · A with all of A and B one is s · r.
    var state: NamedTensors = [:]
    for layer in layers {
      state["base_model.model.\(layer).lora_A.weight"] = Tensor(repeating: 1, shape: [4, 32])
      state["base_model.model.\(layer).lora_B.weight"] = Tensor(repeating: 1, shape: [32, 4])
    }
    func changes(_ pattern: [String: Double], rankStabilized: Bool = false) throws -> [Float] {
      let lora = try LoRAConfiguration(
        rank: 4, alpha: 8, usesRankStabilizedScale: rankStabilized, alphaPattern: pattern)
      let adapter = Adapter(method: .lora(lora), state: state, sourceDigest: nil)
      let merged = try PlugIn.mergedTensors(
        adapter, into: model, digest: model.tensors.digest
      ).tensors
      return try layers.map { layer in
        let after = try #require(merged["\(layer).weight"]).scalars[0]
        let before = try #require(model.tensors["\(layer).weight"]).scalars[0]
        return ((after - before) * 1000).rounded() / 1000
      }
    }
    #expect(try changes([:]) == [8, 8])
    #expect(try changes([:], rankStabilized: true) == [16, 16])
    #expect(try changes(["q_proj": 2]) == [2, 2])
    #expect(try changes(["layers.4.self_attn.q_proj": 2]) == [8, 2])
    #expect(try changes(["^model.layers.0.self_attn.q_proj": 2]) == [2, 8])
    #expect(try changes(["^layers.0.self_attn.q_proj": 2]) == [8, 8])
    // Not the end of a name but of a word.
    #expect(try changes(["proj": 2]) == [8, 8])
    // Where two fit, the first in alphabetical order counts.
    #expect(try changes(["layers.4.self_attn.q_proj": 2, "q_proj": 3]) == [3, 2])
    #expect(try changes(["self_attn.q_proj": 2, "q_proj": 3]) == [3, 3])
  }
}
