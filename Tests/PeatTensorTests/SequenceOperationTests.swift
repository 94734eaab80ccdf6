import PeatTensor
import TestSupport
import Testing

@Suite("Rows of whole sequences") struct SequenceOperationTests {
  @Test(arguments: raggedSizes, [1, 2, 7])
  func `rows and columns of groups change places`(width: Int, size: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + size))
    let groups = 3
    let x = Operand("x", randomTensor([groups * size, width], &random))
    OperationCase("transposed [\(groups * size), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.transposed(x[0], groupsOf: size))
    } reference: { x, _ in
      (0..<groups).flatMap { group in
        (0..<width).flatMap { column in
          (0..<size).map { x[0][(group * size + $0) * width + column] }
        }
      }
    }.check()
  }

  @Test func `there and back again is nothing done`() {
    var random = SeededRandom(seed: 4)
    let values = randomTensor([34, 21], &random)
    let tape = Tape()
    let there = tape.transposed(tape.input(values), groupsOf: 17)
    #expect(there.rows == 42 && there.columns == 17)
    #expect(tape.transposed(there, groupsOf: 21).tensor() == values)
  }

  @Test(arguments: raggedSizes, [(0, [1, 4, 2]), (1, [2, 5, 3]), (2, [3, 3, 9])])
  func `a sequence's mean stands in the place of its first row`(
    width: Int, sequences: (skipped: Int, lengths: [Int])
  ) {
    var random = SeededRandom(seed: UInt64(width * 100 + sequences.skipped))
    let (skipped, lengths) = sequences
    let layout = SequenceLayout(lengths: lengths)
    let x = Operand("x", randomTensor([layout.count, width], &random))
    OperationCase("mean in first [\(layout.count), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.meanInFirst(x[0], layout: layout, skipping: skipped))
    } reference: { x, _ in
      var result = x[0]
      var first = 0
      for length in lengths {
        for column in 0..<width {
          let values = (skipped..<length).map { x[0][(first + $0) * width + column] }
          result[first * width + column] = values.reduce(0, +) / Double(values.count)
        }
        first += length
      }
      return result
    }.check()
  }
}
