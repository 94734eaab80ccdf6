import PeatTensor
import TestSupport
import Testing

/// Widths and heights at which a kernel of vectors of eight, or a tile of 64, may go wrong.
let raggedSizes = [1, 7, 8, 9, 63, 64, 65]

@Suite("RMS norm and layer norm") struct NormTests {
  @Test(arguments: raggedSizes, [1, 9])
  func `RMS norm agrees with its reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    OperationCase(
      "rmsNorm [\(rows), \(width)]",
      inputs: [Operand("x", randomTensor([rows, width], &random, scale: 1.5, mean: 0.3))],
      weights: [Operand("weight", randomTensor([width], &random, mean: 1))]
    ) { tape, x, w in
      .matrix(tape.rmsNorm(x[0], weight: w[0], epsilon: 1e-5))
    } reference: { x, w in
      Reference.rmsNorm(x[0], width: width, weight: w[0], epsilon: 1e-5)
    }.check()
  }

  @Test func `weights may be kept as what they differ from 1 by`() {
    var random = SeededRandom(seed: 5)
    OperationCase(
      "rmsNorm with an offset", inputs: [Operand("x", randomTensor([4, 19], &random))],
      weights: [Operand("weight", randomTensor([19], &random, scale: 0.3))]
    ) { tape, x, w in
      .matrix(tape.rmsNorm(x[0], weight: w[0], epsilon: 1e-5, offset: 1))
    } reference: { x, w in
      Reference.rmsNorm(x[0], width: 19, weight: w[0].map { $0 + 1 }, epsilon: 1e-5)
    }.check()
  }

  @Test(arguments: raggedSizes, [1, 9])
  func `layer norm agrees with its reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    OperationCase(
      "layerNorm [\(rows), \(width)]",
      inputs: [Operand("x", randomTensor([rows, width], &random, scale: 1.5, mean: 0.3))],
      weights: [
        Operand("weight", randomTensor([width], &random, mean: 1)),
        Operand("bias", randomTensor([width], &random)),
      ]
    ) { tape, x, w in
      // An epsilon that a row of few columns feels.
      .matrix(tape.layerNorm(x[0], weight: w[0], bias: w[1], epsilon: 1e-2))
    } reference: { x, w in
      Reference.layerNorm(x[0], width: width, weight: w[0], bias: w[1], epsilon: 1e-2)
    }.check()
  }

  @Test func `norms read and give gradients to a range of columns`() {
    var random = SeededRandom(seed: 5)
    let width = 21
    let x = Operand("x", randomTensor([6, width + 7], &random, scale: 1.5))
    let weight = Operand("weight", randomTensor([width], &random, mean: 1))
    let bias = Operand("bias", randomTensor([width], &random))
    OperationCase("rmsNorm of columns", inputs: [x], weights: [weight]) { tape, x, w in
      .matrix(tape.rmsNorm(x[0].columns(3..<3 + width), weight: w[0], epsilon: 1e-5))
    } reference: { x, w in
      Reference.rmsNorm(
        Reference.columns(x[0], width: width + 7, 3..<3 + width), width: width, weight: w[0],
        epsilon: 1e-5)
    }.check()
    OperationCase("layerNorm of columns", inputs: [x], weights: [weight, bias]) { tape, x, w in
      .matrix(tape.layerNorm(x[0].columns(3..<3 + width), weight: w[0], bias: w[1], epsilon: 1e-5))
    } reference: { x, w in
      Reference.layerNorm(
        Reference.columns(x[0], width: width + 7, 3..<3 + width), width: width, weight: w[0],
        bias: w[1], epsilon: 1e-5)
    }.check()
  }

  @Test func `two norms of one input add their gradients`() {
    var random = SeededRandom(seed: 6)
    OperationCase(
      "layerNorm(x) as residual of a product of rmsNorm(x)",
      inputs: [Operand("x", randomTensor([5, 12], &random))],
      weights: [
        Operand("weight", randomTensor([12], &random, mean: 1)),
        Operand("bias", randomTensor([12], &random)),
        Operand("product", randomTensor([12, 12], &random, scale: 0.3)),
      ]
    ) { tape, x, w in
      let normed = tape.layerNorm(x[0], weight: w[0], bias: w[1], epsilon: 1e-5)
      let scaled = tape.rmsNorm(x[0], weight: w[0], epsilon: 1e-5)
      return .matrix(tape.linear(scaled, weight: w[2], residual: normed))
    } reference: { x, w in
      let scaled = Reference.rmsNorm(x[0], width: 12, weight: w[0], epsilon: 1e-5)
      return Reference.sum(
        Reference.layerNorm(x[0], width: 12, weight: w[0], bias: w[1], epsilon: 1e-5),
        Reference.product(scaled, w[2], inputs: 12, outputs: 12))
    }.check()
  }

  @Test func `a row that stands still gives the bias and a finite gradient`() {
    let x = Operand("x", Tensor(repeating: 3, shape: [2, 10]))
    let run = OperationRun(
      inputs: [x],
      weights: [
        Operand("weight", Tensor(repeating: 2, shape: [10])),
        Operand("bias", Tensor(repeating: 0.5, shape: [10])),
      ]
    ) { tape, x, w in .matrix(tape.layerNorm(x[0], weight: w[0], bias: w[1], epsilon: 1e-5)) }
    #expect(run.output == Array(repeating: 0.5, count: 20))
    #expect(run.inputGradients[0].isFinite)
  }
}
