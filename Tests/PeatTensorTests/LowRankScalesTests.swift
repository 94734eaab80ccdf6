import PeatTensor
import TestSupport
import Testing

@Suite("LowRankScales") struct LowRankScalesTests {
  private func pairs(_ ranks: [String: Int]) -> NamedTensors {
    ranks.reduce(into: [:]) { state, entry in
      let layer = "base_model.model.layers.\(entry.key)"
      state[layer + ".lora_A.weight"] = Tensor(zeros: [entry.value, 3])
      state[layer + ".lora_B.weight"] = Tensor(zeros: [5, entry.value])
    }
  }

  private let q = "base_model.model.layers.0.q"
  private let v = "base_model.model.layers.0.v"

  @Test func `each layer has the scale of its own rank and alpha`() {
    var scales = LowRankScales(rank: 8, alpha: 16, alphaPattern: ["v": 32])
    let state = pairs(["0.q": 8, "0.v": 4])
    #expect(scales.scales(of: state) == [q: 2, v: 8])
    scales.isRankStabilized = true
    #expect(scales.scales(of: state) == [q: 16 / 8.0.squareRoot(), v: 16])
    // Without A, columns of B are the rank.
    let withoutDown = state.filter { !$0.key.hasSuffix("lora_A.weight") }
    #expect(scales.scales(of: withoutDown) == scales.scales(of: state))
  }

  @Test(arguments: [false, true])
  func `pairs of other ranks keep their scales, by an alpha of their own`(stabilized: Bool) {
    let scales = LowRankScales(
      rank: 8, alpha: 16, isRankStabilized: stabilized, alphaPattern: ["0.v": 3],
      rankPattern: ["0.q": 2])
    let old = pairs(["0.q": 2, "0.v": 8, "0.k": 8])
    // Cut to 4: q is smaller already.
    let new = pairs(["0.q": 2, "0.v": 4, "0.k": 4])
    let fitted = scales.fitted(to: 4, new, from: old)
    #expect(fitted.rank == 4)
    for (layer, scale) in scales.scales(of: old) {
      #expect(abs((fitted.scales(of: new)[layer] ?? 0) / scale - 1) < 1e-12, "\(layer)")
    }
    #expect(fitted.alphaPattern["layers.0.k"] == nil)
    #expect(fitted.rankPattern == ["layers.0.q": 2])
  }

  @Test func `patterns are ends of names, whole names or regular expressions, as PEFT's`() throws {
    let name = "model.layers.11.self_attn.q_proj"
    for pattern in [
      "q_proj", "self_attn.q_proj", "^\(name)", ".*q_proj", "layers\\.1\\d\\..*", "(q|v)_proj",
      "model.layers.11.self_attn.q_proj",
    ] {
      #expect(LayerPattern.matches(pattern, name), "\(pattern)")
    }
    for pattern in ["proj", "layers\\.1\\..*", "q_pro", "^self_attn.q_proj", "(v|k)_proj"] {
      #expect(!LayerPattern.matches(pattern, name), "\(pattern)")
    }
    expectError(.usage, "alpha_pattern", "'(q'") {
      try LowRankScales(rank: 8, alpha: 16, alphaPattern: ["(q": 1]).validate()
    }
  }

  @Test func `numbers that make no sense are refused`() {
    for scales in [
      LowRankScales(rank: 0, alpha: 1), LowRankScales(rank: -3, alpha: 1),
      LowRankScales(rank: 1 << 17, alpha: 1), LowRankScales(rank: 1, alpha: .nan),
      LowRankScales(rank: 1, alpha: 1e300),
      LowRankScales(rank: 1, alpha: 1, alphaPattern: ["q": 1e300]),
      LowRankScales(rank: 1, alpha: 1, rankPattern: ["q": 0]),
    ] {
      expectError(.usage, "makes no sense") { try scales.validate() }
    }
  }

  @Test func `a pair that lacks a matrix, or does not fit together, is refused`() {
    let whole = pairs(["0.q": 2])
    expectError(.badData, "no '\(q).lora_B.weight'") {
      try whole.filter { $0.key.hasSuffix("A.weight") }.checkPairs()
    }
    expectError(.badData, "no '\(q).lora_A.weight'") {
      try whole.filter { $0.key.hasSuffix("B.weight") }.checkPairs()
    }
    for (a, b) in [([2, 3], [5, 3]), ([0, 3], [5, 0]), ([6], [5, 6])] {
      expectError(.badData, "does not fit together", "\(a)", "\(b)") {
        try [q + ".lora_A.weight": Tensor(zeros: a), q + ".lora_B.weight": Tensor(zeros: b)]
          .checkPairs()
      }
    }
  }
}
