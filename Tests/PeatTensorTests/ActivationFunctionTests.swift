import PeatTensor
import TestSupport
import Testing

@Suite("GELU and SwiGLU") struct ActivationFunctionTests {
  @Test(arguments: raggedSizes, [1, 9])
  func `GELU agrees with its reference in both forms`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    let x = Operand("x", randomTensor([rows, width], &random, scale: 2.5))
    OperationCase("gelu exact [\(rows), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.gelu(x[0], form: .exact))
    } reference: { x, _ in
      Reference.gelu(x[0])
    }.check()
    OperationCase("gelu tanh [\(rows), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.gelu(x[0], form: .tanhApproximation))
    } reference: { x, _ in
      Reference.geluTanh(x[0])
    }.check()
  }

  @Test(arguments: raggedSizes, [1, 9])
  func `SwiGLU agrees with its reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    OperationCase(
      "swiGLU [\(rows), \(width)]",
      inputs: [
        Operand("gate", randomTensor([rows, width], &random, scale: 2.5)),
        Operand("up", randomTensor([rows, width], &random)),
      ]
    ) { tape, x, _ in
      .matrix(tape.swiGLU(gate: x[0], up: x[1]))
    } reference: { x, _ in
      Reference.swiGLU(gate: x[0], up: x[1])
    }.check()
  }

  @Test(arguments: [(0..<11, 11..<22), (13..<24, 2..<13), (3..<14, 8..<19), (5..<16, 5..<16)])
  func `gate and up may be ranges of one matrix, even overlapping`(
    gate: Range<Int>, up: Range<Int>
  ) {
    var random = SeededRandom(seed: 7)
    let width = 24
    OperationCase(
      "swiGLU of columns \(gate), \(up)",
      inputs: [Operand("x", randomTensor([5, width], &random))]
    ) { tape, x, _ in
      .matrix(tape.swiGLU(gate: x[0].columns(gate), up: x[0].columns(up)))
    } reference: { x, _ in
      Reference.swiGLU(
        gate: Reference.columns(x[0], width: width, gate),
        up: Reference.columns(x[0], width: width, up))
    }.check()
  }

  @Test func `gate and up may be the same matrix`() {
    var random = SeededRandom(seed: 8)
    OperationCase("swiGLU(x, x)", inputs: [Operand("x", randomTensor([5, 13], &random))]) {
      tape, x, _ in
      .matrix(tape.swiGLU(gate: x[0], up: x[0]))
    } reference: { x, _ in
      Reference.swiGLU(gate: x[0], up: x[0])
    }.check()
  }

  @Test func `GELU reads and gives gradients to a range of columns`() {
    var random = SeededRandom(seed: 9)
    let x = Operand("x", randomTensor([5, 20], &random, scale: 2))
    for form in [GELUForm.exact, .tanhApproximation] {
      OperationCase("gelu \(form) of columns", inputs: [x]) { tape, x, _ in
        .matrix(tape.gelu(x[0].columns(2..<15), form: form))
      } reference: { x, _ in
        let part = Reference.columns(x[0], width: 20, 2..<15)
        return form == .exact ? Reference.gelu(part) : Reference.geluTanh(part)
      }.check()
    }
  }

  @Test func `only one of gate and up may train`() {
    var random = SeededRandom(seed: 10)
    for trained in 0...1 {
      OperationCase(
        "swiGLU, input \(trained) trains",
        inputs: (0...1).map {
          Operand("input \($0)", randomTensor([3, 11], &random), trains: $0 == trained)
        }
      ) { tape, x, _ in
        .matrix(tape.swiGLU(gate: x[0], up: x[1]))
      } reference: { x, _ in
        Reference.swiGLU(gate: x[0], up: x[1])
      }.check()
    }
  }

  @Test(arguments: [1e30, 1e20, 1e10, 1e4, 100, 30, 12] as [Float])
  func `far from zero the functions become x or 0, and their slopes 1 or 0`(size: Float) {
    let x = Operand("x", Tensor([size, -size], shape: [1, 2]))
    for form in [GELUForm.exact, .tanhApproximation] {
      let run = OperationRun(inputs: [x], weights: []) { tape, x, _ in
        .matrix(tape.gelu(x[0], form: form))
      }
      #expect(abs(run.output[0] / Double(size) - 1) < 1e-6)
      #expect(abs(run.output[1] / Double(size)) < 1e-6)
      expectClose(run.inputGradients[0], Tensor([1, 0], shape: [1, 2]), within: 1e-5, "\(form)")
    }
    let gated = OperationRun(
      inputs: [x, Operand("up", Tensor([2, 2], shape: [1, 2]))], weights: []
    ) { tape, x, _ in .matrix(tape.swiGLU(gate: x[0], up: x[1])) }
    #expect(abs(gated.output[0] / Double(size) - 2) < 2e-5)
    #expect(abs(gated.output[1] / Double(size)) < 2e-5)
    expectClose(
      gated.inputGradients[0], Tensor([2, 0], shape: [1, 2]), within: 2e-4, "slope of the gate")
  }
}
