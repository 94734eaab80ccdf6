import PeatTensor
import TestSupport
import Testing

/// Every operation, forward and backward, against PyTorch's float64 results (Tools/golden/operations.py).
///
/// Tolerance: max |a − b| / max |b| per tensor.
@Suite("Operations agree with PyTorch") struct OperationsParityTests {
  /// Runs an operation on a golden case and compares the output and every gradient that PyTorch gives.
  private func compare(
    _ golden: GoldenCase, inputs: [String] = [], weights: [String] = [], within tolerance: Double,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: (Tape, [Activation], [Weight]) -> Activation
  ) throws {
    let run = OperationRun(
      inputs: try inputs.map { Operand($0, try golden.tensor($0)) },
      weights: try weights.map { Operand($0, try golden.tensor($0)) },
      upstream: try golden.tensor("grad_output").scalars
    ) { .matrix(body($0, $1, $2)) }
    let output = try golden.tensor("output")
    expectClose(
      Tensor(run.output.map { Float($0) }, shape: output.shape), output, within: tolerance,
      "\(golden.name): output", sourceLocation: sourceLocation)
    for (name, gradient) in zip(inputs + weights, run.inputGradients + run.weightGradients) {
      expectClose(
        gradient, try golden.tensor("grad_\(name)"), within: tolerance,
        "\(golden.name): gradient of \(name)", sourceLocation: sourceLocation)
    }
    // Nothing that PyTorch has a gradient for was left out.
    let expected = golden.tensors.keys.filter { $0.hasPrefix("grad_") && $0 != "grad_output" }
    #expect(
      expected.sorted() == (inputs + weights).map { "grad_\($0)" }.sorted(),
      sourceLocation: sourceLocation)
  }

  private func integers(_ values: [Int]) -> [Int32] { values.map(Int32.init) }

  @Test(arguments: ["embedding", "embedding_positions", "embedding_positions_offset"])
  func embedding(name: String) throws {
    let golden = try GoldenCase(name)
    let ids = integers(try golden.fact("ids", as: [[Int]].self).flatMap { $0 })
    let length: Int = try golden.fact("tokens")
    let hasPositions = name != "embedding"
    let first = hasPositions ? try golden.fact("firstPosition", as: Int.self) : 0
    try compare(
      golden, weights: hasPositions ? ["weight", "positions"] : ["weight"], within: 3e-7
    ) { tape, _, w in
      ids.withUnsafeBufferPointer {
        tape.embedding(
          $0, layout: SequenceLayout(rows: $0.count, length: length, firstPosition: first),
          table: w[0], positions: hasPositions ? w[1] : nil)
      }
    }
  }

  @Test(arguments: ["rms_norm", "rms_norm_small"]) func `RMS norm`(name: String) throws {
    let golden = try GoldenCase(name)
    let epsilon = Float(try golden.fact("epsilon", as: Double.self))
    try compare(golden, inputs: ["x"], weights: ["weight"], within: 1e-6) { tape, x, w in
      tape.rmsNorm(x[0], weight: w[0], epsilon: epsilon)
    }
  }

  @Test func `layer norm`() throws {
    let golden = try GoldenCase("layer_norm")
    let epsilon = Float(try golden.fact("epsilon", as: Double.self))
    try compare(golden, inputs: ["x"], weights: ["weight", "bias"], within: 1e-6) { tape, x, w in
      tape.layerNorm(x[0], weight: w[0], bias: w[1], epsilon: epsilon)
    }
  }

  @Test(arguments: [
    "linear_plain", "linear", "linear_conv1d", "linear_lora_r4", "linear_lora_r8",
    "linear_lora_conv1d_r4", "linear_lora_conv1d_r8",
  ])
  func linear(name: String) throws {
    let golden = try GoldenCase(name)
    let layout: WeightLayout =
      try golden.fact("layout", as: String.self) == "[in, out]"
      ? .inputsByOutputs : .outputsByInputs
    let isPlain = name == "linear_plain"
    let scale = name.contains("lora") ? Float(try golden.fact("scale", as: Double.self)) : nil
    try compare(
      golden, inputs: isPlain ? ["x"] : ["x", "residual"],
      weights: ["weight"] + (isPlain ? [] : ["bias"]) + (scale == nil ? [] : ["a", "b"]),
      within: 2e-6
    ) { tape, x, w in
      tape.linear(
        x[0], weight: w[0], layout: layout, bias: isPlain ? nil : w[1],
        residual: isPlain ? nil : x[1],
        lowRank: scale.map { LowRankWeights(down: w[2], up: w[3], scale: $0) })
    }
  }

  @Test(arguments: ["rotary", "rotary_offset", "rotary_theta"])
  func `rotary embedding`(name: String) throws {
    let golden = try GoldenCase(name)
    let length: Int = try golden.fact("tokens")
    let first: Int = try golden.fact("firstPosition")
    let table = RotaryTable(
      headWidth: try golden.fact("headWidth"), positions: 64, theta: try golden.fact("theta"))
    // The angles are float32 here as in transformers, float64 in the golden file.
    try compare(golden, inputs: ["x"], within: 5e-6) { tape, x, _ in
      tape.rotary(
        x[0], table: table,
        layout: SequenceLayout(rows: x[0].rows, length: length, firstPosition: first))
    }
  }

  @Test(arguments: [
    "attention_t37", "attention_t130", "attention_all_heads", "attention_one_token",
    "attention_cached",
  ])
  func `causal attention`(name: String) throws {
    let golden = try GoldenCase(name)
    let heads: Int = try golden.fact("heads")
    let keyValueHeads: Int = try golden.fact("keyValueHeads")
    let length: Int = try golden.fact("queries")
    let keyLength: Int = try golden.fact("keys")
    try compare(golden, inputs: ["q", "k", "v"], within: 3e-6) { tape, x, _ in
      tape.attention(
        queries: x[0], keys: x[1], values: x[2], heads: heads, keyValueHeads: keyValueHeads,
        layout: SequenceLayout(
          rows: x[0].rows, length: length, firstPosition: keyLength - length))
    }
  }

  @Test(arguments: [("gelu_exact", ActivationFunction.gelu), ("gelu_tanh", .tanhGELU)])
  func gelu(name: String, function: ActivationFunction) throws {
    try compare(try GoldenCase(name), inputs: ["x"], within: 2e-6) { tape, x, _ in
      tape.activated(x[0], by: function)
    }
  }

  @Test func swiGLU() throws {
    try compare(try GoldenCase("swiglu"), inputs: ["gate", "up"], within: 1e-6) { tape, x, _ in
      tape.gated(gate: x[0], up: x[1])
    }
  }

  @Test(arguments: ["linear_cross_entropy", "linear_cross_entropy_all"], [256, 16])
  func `linear with cross-entropy`(name: String, chunkRows: Int) throws {
    let golden = try GoldenCase(name)
    let targets = integers(try golden.fact("targets"))
    let counted: Int = try golden.fact("counted")
    let loss: Double = try golden.fact("loss")
    let run = OperationRun(
      inputs: [Operand("x", try golden.tensor("x"))],
      weights: [Operand("weight", try golden.tensor("weight"))]
    ) { tape, x, w in
      let result = targets.withUnsafeBufferPointer {
        tape.linearCrossEntropy(
          x[0], weight: w[0], targets: $0, scale: 1 / Float(counted), chunkRows: chunkRows)
      }
      #expect(result.count == counted)
      return .loss(result.sum / Double(result.count))
    }
    #expect(abs(run.output[0] - loss) <= 1e-6 * loss)
    expectClose(run.inputGradients[0], try golden.tensor("grad_x"), within: 2e-6, "gradient of x")
    expectClose(
      run.weightGradients[0], try golden.tensor("grad_weight"), within: 2e-6, "gradient of weight")
  }
}
