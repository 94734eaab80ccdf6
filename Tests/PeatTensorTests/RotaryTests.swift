import PeatTensor
import TestSupport
import Testing

@Suite("Rotary embedding") struct RotaryTests {
  @Test(arguments: [2, 6, 8, 16, 18, 34, 64], [1, 7, 9])
  func `it agrees with its reference`(headWidth: Int, length: Int) {
    var random = SeededRandom(seed: UInt64(headWidth * 100 + length))
    let table = RotaryTable(headWidth: headWidth, positions: 64, theta: 10_000)
    for (heads, first) in [(1, 0), (3, 0), (2, 50)] {
      OperationCase(
        "rotary of \(heads) heads of \(headWidth), \(length) tokens from \(first)",
        inputs: [Operand("x", randomTensor([2 * length, heads * headWidth], &random))]
      ) { tape, x, _ in
        .matrix(
          tape.rotary(
            x[0], table: table,
            layout: SequenceLayout(rows: 2 * length, length: length, firstPosition: first)))
      } reference: { x, _ in
        Reference.rotary(
          x[0], headWidth: headWidth, heads: heads, length: length, theta: 10_000,
          firstPosition: first)
      }.check(output: 5e-6, gradient: 2e-5)
    }
  }

  @Test func `a range of columns turns and the rest stands still`() {
    var random = SeededRandom(seed: 2)
    let table = RotaryTable(headWidth: 8, positions: 16, theta: 500)
    OperationCase(
      "rotary of columns", inputs: [Operand("x", randomTensor([5, 27], &random))]
    ) { tape, x, _ in
      _ = tape.rotary(x[0].columns(3..<19), table: table, layout: SequenceLayout(lengths: [5]))
      return .matrix(tape.activated(x[0], by: .gelu))
    } reference: { x, _ in
      let turned = Reference.rotary(
        Reference.columns(x[0], width: 27, 3..<19), headWidth: 8, heads: 2, length: 5, theta: 500,
        firstPosition: 0)
      var y = x[0]
      for row in 0..<5 { for i in 0..<16 { y[row * 27 + 3 + i] = turned[row * 16 + i] } }
      return Reference.gelu(y)
    }.check()
  }

  @Test func `turning by a position and back by none keeps lengths`() {
    var random = SeededRandom(seed: 3)
    let tape = Tape()
    let x = randomTensor([40, 16], &random)
    let y = tape.rotary(
      tape.input(x), table: RotaryTable(headWidth: 16, positions: 40, theta: 10_000),
      layout: SequenceLayout(lengths: [40])
    ).tensor()
    for row in 0..<40 {
      let before = x.rows(row..<row + 1).scalars.reduce(0) { $0 + $1 * $1 }
      let after = y.rows(row..<row + 1).scalars.reduce(0) { $0 + $1 * $1 }
      #expect(abs(before - after) < 1e-5 * before)
    }
  }

  @Test func `one table serves all who ask for the same`() {
    let first = RotaryTable.shared(
      RotaryEmbedding(headWidth: 8, theta: 123), positions: 10)
    #expect(
      first
        === RotaryTable.shared(
          RotaryEmbedding(headWidth: 8, theta: 123), positions: 10))
    #expect(
      first
        !== RotaryTable.shared(
          RotaryEmbedding(headWidth: 8, theta: 124), positions: 10))
    #expect(
      first
        !== RotaryTable.shared(
          RotaryEmbedding(headWidth: 8, theta: 123), positions: 11))
    #expect(first.headWidth == 8 && first.positions == 10)
  }
}
