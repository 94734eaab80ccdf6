import PeatTensor
import TestSupport
import Testing

@Suite("Sums and rows") struct RowOperationTests {
  @Test(arguments: raggedSizes, [1, 9])
  func `a sum agrees with its reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    let a = Operand("a", randomTensor([rows, width], &random))
    let b = Operand("b", randomTensor([rows, width], &random))
    OperationCase("addition [\(rows), \(width)]", inputs: [a, b]) { tape, x, _ in
      .matrix(tape.addition(x[0], x[1]))
    } reference: { x, _ in
      Reference.sum(x[0], x[1])
    }.check()
    OperationCase("addition of a matrix to itself", inputs: [a]) { tape, x, _ in
      .matrix(tape.addition(x[0], x[0]))
    } reference: { x, _ in
      Reference.sum(x[0], x[0])
    }.check()
    OperationCase(
      "addition of columns", inputs: [a, Operand("b", randomTensor([rows, 70], &random))]
    ) { tape, x, _ in
      .matrix(tape.addition(x[0], x[1].columns(3..<3 + width)))
    } reference: { x, _ in
      Reference.sum(x[0], Reference.columns(x[1], width: 70, 3..<3 + width))
    }.check()
  }

  @Test func `one of two that are added may be frozen`() {
    var random = SeededRandom(seed: 3)
    for trained in 0...1 {
      let inputs = (0...1).map {
        Operand("\($0)", randomTensor([2, 3], &random), trains: $0 == trained)
      }
      let run = OperationRun(inputs: inputs, weights: []) { tape, x, _ in
        .matrix(tape.addition(x[0], x[1]))
      }
      #expect(run.inputGradients[trained] == Tensor(repeating: 1, shape: [2, 3]))
      #expect(run.inputGradients[1 - trained] == Tensor(zeros: [2, 3]))
    }
  }

  @Test(arguments: raggedSizes) func `some of the rows agree with their reference`(width: Int) {
    var random = SeededRandom(seed: UInt64(width))
    let x = Operand("x", randomTensor([9, width], &random))
    let ranges = [1..<3, 3..<4, 6..<9]
    OperationCase("rows, \(width) wide", inputs: [x]) { tape, x, _ in
      .matrix(tape.rows(x[0], ranges))
    } reference: { x, _ in
      ranges.flatMap { Array(x[0][$0.lowerBound * width..<$0.upperBound * width]) }
    }.check()
    // Beside another use of the same rows.
    OperationCase("rows, and all of them", inputs: [x]) { tape, x, _ in
      .matrix(tape.addition(tape.rows(x[0], [0..<2]), tape.rows(x[0], [1..<3])))
    } reference: { x, _ in
      Reference.sum(Array(x[0][0..<2 * width]), Array(x[0][width..<3 * width]))
    }.check()
  }
}
