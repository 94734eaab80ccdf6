import PeatTensor
import TestSupport
import Testing

@Suite("Linear") struct LinearTests {
  /// Which terms take part, and which operands train.
  struct Terms: CustomTestStringConvertible {
    var bias = false
    var residual = false
    var rank = 0
    var frozen: Set<String> = []
    var testDescription: String {
      "bias \(bias), residual \(residual), rank \(rank), frozen \(frozen.sorted())"
    }
  }

  static let terms = [
    Terms(), Terms(bias: true), Terms(residual: true), Terms(bias: true, residual: true),
    Terms(rank: 3), Terms(bias: true, residual: true, rank: 8),
    // LoRA as it is trained: nothing but A and B.
    Terms(bias: true, residual: true, rank: 4, frozen: ["x", "weight", "bias", "residual"]),
    Terms(bias: true, residual: true, rank: 4, frozen: ["weight", "bias"]),
    Terms(rank: 4, frozen: ["weight", "down"]), Terms(rank: 4, frozen: ["weight", "up"]),
    Terms(bias: true, residual: true, frozen: ["weight", "bias", "x"]),
    Terms(bias: true, residual: true, frozen: ["weight", "residual", "x"]),
  ]

  private func check(
    _ terms: Terms, rows: Int, inputs: Int, outputs: Int, layout: WeightLayout, seed: UInt64
  ) {
    var random = SeededRandom(seed: seed)
    func operand(_ name: String, _ shape: [Int], scale: Float = 1) -> Operand {
      Operand(
        name, randomTensor(shape, &random, scale: scale), trains: !terms.frozen.contains(name))
    }
    let fan = 1 / Float(inputs).squareRoot()
    let isTransposed = layout == .inputsByOutputs
    var weights = [
      operand("weight", isTransposed ? [inputs, outputs] : [outputs, inputs], scale: fan)
    ]
    if terms.bias { weights.append(operand("bias", [outputs])) }
    if terms.rank > 0 {
      weights.append(operand("down", [terms.rank, inputs], scale: fan))
      weights.append(operand("up", [outputs, terms.rank], scale: 0.3))
    }
    var activations = [operand("x", [rows, inputs])]
    if terms.residual { activations.append(operand("residual", [rows, outputs])) }
    let scale: Float = 1.7
    OperationCase(
      "linear [\(rows), \(inputs)] → \(outputs), \(layout), \(terms.testDescription)",
      inputs: activations, weights: weights
    ) { tape, x, w in
      let lowRank =
        terms.rank > 0
        ? LowRankWeights(down: w[w.count - 2], up: w[w.count - 1], scale: scale) : nil
      return .matrix(
        tape.linear(
          x[0], weight: w[0], layout: layout, bias: terms.bias ? w[1] : nil,
          residual: terms.residual ? x[1] : nil, lowRank: lowRank))
    } reference: { x, w in
      var y = Reference.product(
        x[0], isTransposed ? Reference.transposed(w[0], columns: outputs) : w[0], inputs: inputs,
        outputs: outputs)
      if terms.bias { for i in y.indices { y[i] += w[1][i % outputs] } }
      if terms.residual { y = Reference.sum(y, x[1]) }
      if terms.rank > 0 {
        let h = Reference.product(x[0], w[w.count - 2], inputs: inputs, outputs: terms.rank)
        let update = Reference.product(h, w[w.count - 1], inputs: terms.rank, outputs: outputs)
        y = Reference.sum(y, update.map { $0 * Double(scale) })
      }
      return y
    }.check()
  }

  @Test(arguments: terms, [WeightLayout.outputsByInputs, .inputsByOutputs])
  func `every choice of terms agrees with the reference`(terms: Terms, layout: WeightLayout) {
    check(terms, rows: 6, inputs: 11, outputs: 13, layout: layout, seed: 3)
  }

  @Test(arguments: [WeightLayout.outputsByInputs, .inputsByOutputs])
  func `ragged sizes agree with the reference`(layout: WeightLayout) {
    var random = SeededRandom(seed: 4)
    for size in raggedSizes {
      check(
        Terms(bias: true, residual: true, rank: 2), rows: size,
        inputs: raggedSizes[random.integer(below: raggedSizes.count)],
        outputs: raggedSizes[random.integer(below: raggedSizes.count)], layout: layout,
        seed: UInt64(size))
    }
  }

  @Test func `the residual may be the input itself`() {
    var random = SeededRandom(seed: 11)
    OperationCase(
      "x + x·Wᵀ", inputs: [Operand("x", randomTensor([5, 9], &random))],
      weights: [
        Operand("weight", randomTensor([9, 9], &random, scale: 0.3)),
        Operand("down", randomTensor([2, 9], &random, scale: 0.3)),
        Operand("up", randomTensor([9, 2], &random, scale: 0.3)),
      ]
    ) { tape, x, w in
      .matrix(
        tape.linear(
          x[0], weight: w[0], residual: x[0],
          lowRank: LowRankWeights(down: w[1], up: w[2], scale: 2)))
    } reference: { x, w in
      let h = Reference.product(x[0], w[1], inputs: 9, outputs: 2)
      return Reference.sum(
        Reference.sum(x[0], Reference.product(x[0], w[0], inputs: 9, outputs: 9)),
        Reference.product(h, w[2], inputs: 2, outputs: 9).map { 2 * $0 })
    }.check()
  }

  @Test func `input and residual may be ranges of columns of one matrix`() {
    var random = SeededRandom(seed: 12)
    OperationCase(
      "linear of columns", inputs: [Operand("x", randomTensor([5, 20], &random))],
      weights: [Operand("weight", randomTensor([9, 7], &random, scale: 0.3))]
    ) { tape, x, w in
      .matrix(tape.linear(x[0].columns(2..<9), weight: w[0], residual: x[0].columns(6..<15)))
    } reference: { x, w in
      Reference.sum(
        Reference.columns(x[0], width: 20, 6..<15),
        Reference.product(
          Reference.columns(x[0], width: 20, 2..<9), w[0], inputs: 7, outputs: 9))
    }.check()
  }

  @Test func `an output used as input and as residual of the next layer adds both gradients`() {
    var random = SeededRandom(seed: 13)
    OperationCase(
      "y = x·Wᵀ + b; gelu(y)·Vᵀ + y", inputs: [Operand("x", randomTensor([5, 9], &random))],
      weights: [
        Operand("first", randomTensor([9, 9], &random, scale: 0.3)),
        Operand("bias", randomTensor([9], &random)),
        Operand("second", randomTensor([9, 9], &random, scale: 0.3)),
      ]
    ) { tape, x, w in
      let y = tape.linear(x[0], weight: w[0], bias: w[1])
      return .matrix(
        tape.linear(tape.activated(y, by: .gelu), weight: w[2], residual: y))
    } reference: { x, w in
      var y = Reference.product(x[0], w[0], inputs: 9, outputs: 9)
      for i in y.indices { y[i] += w[1][i % 9] }
      return Reference.sum(
        y, Reference.product(Reference.gelu(y), w[2], inputs: 9, outputs: 9))
    }.check()
  }

  @Test func `one weight used twice collects both gradients`() {
    var random = SeededRandom(seed: 14)
    OperationCase(
      "(x·Wᵀ)·Wᵀ", inputs: [Operand("x", randomTensor([5, 9], &random))],
      weights: [Operand("weight", randomTensor([9, 9], &random, scale: 0.3))]
    ) { tape, x, w in
      .matrix(tape.linear(tape.linear(x[0], weight: w[0]), weight: w[0]))
    } reference: { x, w in
      Reference.product(
        Reference.product(x[0], w[0], inputs: 9, outputs: 9), w[0], inputs: 9, outputs: 9)
    }.check()
  }
}
