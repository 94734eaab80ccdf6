import PeatTensor
import TestSupport
import Testing

@Suite("Scaled columns, norms of rows, dropout") struct ColumnScalingTests {
  @Test(arguments: raggedSizes, [1, 5])
  func `scaled columns agree with their reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 10 + rows))
    let x = Operand("x", randomTensor([rows, width], &random))
    let w = Operand("w", randomTensor([width, 1], &random))
    OperationCase("scaledColumns [\(rows), \(width)]", inputs: [x], weights: [w]) { tape, x, w in
      .matrix(tape.scaledColumns(x[0], by: w[0]))
    } reference: { x, w in
      x[0].indices.map { x[0][$0] * w[0][$0 % width] }
    }.check()
    let norms = (0..<width).map { Float($0 % 7) / 4 + 0.5 }
    let b = Operand("b", randomTensor([width], &random))
    let residual = Operand("residual", randomTensor([rows, width], &random))
    OperationCase(
      "scaledColumns with all that is added", inputs: [x, residual], weights: [w, b]
    ) { tape, x, w in
      let place = tape.pool.take(width)
      for column in 0..<width { place.pointer[column] = norms[column] }
      return .matrix(
        tape.scaledColumns(x[0], by: w[0], dividedBy: place, bias: w[1], residual: x[1]))
    } reference: { x, w in
      x[0].indices.map {
        x[0][$0] * w[0][$0 % width] / Double(norms[$0 % width]) + w[1][$0 % width] + x[1][$0]
      }
    }.check()
    // Beside another use of what is scaled, and as columns of something wider.
    OperationCase(
      "scaledColumns twice", inputs: [Operand("x", randomTensor([rows, width + 9], &random))],
      weights: [w]
    ) { tape, x, w in
      let part = x[0].columns(4..<4 + width)
      return .matrix(tape.scaledColumns(part, by: w[0], residual: part))
    } reference: { x, w in
      (0..<rows * width).map {
        x[0][$0 / width * (width + 9) + 4 + $0 % width] * (w[0][$0 % width] + 1)
      }
    }.check()
  }

  @Test(arguments: [WeightLayout.outputsByInputs, .inputsByOutputs])
  func `norms of rows need no second matrix`(layout: WeightLayout) {
    var random = SeededRandom(seed: 4)
    let (inputs, outputs, rank) = (37, 29, 3)
    let weight = randomTensor(
      layout == .outputsByInputs ? [outputs, inputs] : [inputs, outputs], &random)
    let down = randomTensor([rank, inputs], &random)
    let up = randomTensor([outputs, rank], &random)
    let sum = mergingLowRank(weight, down: down, up: up, scale: 0.7, layout: layout)
    let expected = squaredRowNorms(sum, layout: layout)
    let tape = Tape()
    let norms = tape.rowNorms(
      of: Weight(weight), layout: layout, squares: squaredRowNorms(weight, layout: layout),
      lowRank: LowRankWeights(down: Weight(down), up: Weight(up), scale: 0.7))
    for row in 0..<outputs {
      let exact = expected.scalars[row].squareRoot()
      #expect(abs(norms.pointer[row] - exact) <= 1e-5 * exact)
    }
    let unit = scalingOutputs(
      sum, by: expected.scalars.map { 1 / $0.squareRoot() }, layout: layout)
    #expect(squaredRowNorms(unit, layout: layout).scalars.allSatisfy { abs($0 - 1) < 1e-5 })
  }

  /// A tape at a place in training.
  private func dropped(
    _ x: Tensor, step: Int = 1, firstRow: Int = 0, rate: Float = 0.25, key: UInt64 = 5
  ) -> [Float] {
    let tape = Tape()
    tape.dropoutPlace = DropoutPlace(seed: 9, step: step, firstRow: firstRow)
    return tape.dropout(tape.input(x), rate: rate, scale: 2, key: key).tensor().scalars
  }

  @Test func `dropout keeps the mean, and depends on seed, step, layer and place alone`() {
    let x = Tensor(repeating: 1, shape: [40, 101])
    let all = dropped(x)
    let share = Double(all.count { $0 == 0 }) / Double(all.count)
    #expect(abs(share - 0.25) < 0.03)
    #expect(Set(all).count == 2)
    #expect(abs((all.max() ?? 0) - 2 / 0.75) < 1e-6)
    #expect(dropped(x) == all)
    #expect(dropped(x, step: 2) != all)
    #expect(dropped(x, key: 6) != all)
    // Two threads that share the rows.
    let half = Tensor(repeating: 1, shape: [20, 101])
    #expect(dropped(half) + dropped(half, firstRow: 20) == all)
    #expect(dropped(x, rate: 0).allSatisfy { $0 == 2 })
  }

  @Test func `dropout's gradient goes through what was kept`() {
    var random = SeededRandom(seed: 8)
    let x = Operand("x", randomTensor([3, 21], &random))
    let mask = dropped(Tensor(repeating: 1, shape: [3, 21]))
    OperationCase("dropout", inputs: [x]) { tape, x, _ in
      tape.dropoutPlace = DropoutPlace(seed: 9, step: 1, firstRow: 0)
      return .matrix(tape.dropout(x[0], rate: 0.25, scale: 2, key: 5))
    } reference: { x, _ in
      x[0].indices.map { x[0][$0] * Double(mask[$0]) }
    }.check()
  }
}
