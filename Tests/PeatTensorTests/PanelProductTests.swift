import PeatTensor
import TestSupport
import Testing

/// The product of many rows goes through panels; that of a few does not, and serves as the reference.
@Suite("PanelProduct") struct PanelProductTests {
  struct Shape: CustomTestStringConvertible {
    var rows: Int
    var inputs: Int
    var outputs: Int
    var rank: Int
    var testDescription: String { "[\(rows), \(inputs)] → \(outputs), rank \(rank)" }
  }

  static let shapes = [
    Shape(rows: 24, inputs: 192, outputs: 192, rank: 0),
    Shape(rows: 29, inputs: 199, outputs: 207, rank: 1),
    Shape(rows: 30, inputs: 200, outputs: 193, rank: 3),
    Shape(rows: 64, inputs: 224, outputs: 250, rank: 4),
    Shape(rows: 65, inputs: 225, outputs: 223, rank: 8),
    Shape(rows: 100, inputs: 212, outputs: 232, rank: 17),
    // More than one block of rows, of depth, of both.
    Shape(rows: 517, inputs: 204, outputs: 196, rank: 2),
    Shape(rows: 1033, inputs: 201, outputs: 197, rank: 5),
    Shape(rows: 31, inputs: 801, outputs: 225, rank: 8),
    Shape(rows: 40, inputs: 1601, outputs: 194, rank: 0),
    Shape(rows: 521, inputs: 803, outputs: 209, rank: 6),
    Shape(rows: 25, inputs: 210, outputs: 1601, rank: 8),
    // Too narrow for panels.
    Shape(rows: 40, inputs: 20, outputs: 300, rank: 4),
  ]

  private struct Results {
    var output: Tensor
    var dx: Tensor
    /// Gradients of A and B, one after the other.
    var weights: Tensor
  }

  /// The layer and its backward pass over some rows at a time.
  private func run(
    _ shape: Shape, _ layout: WeightLayout, rowsAtATime: Int, x: Tensor, weight: Tensor,
    down: Tensor, up: Tensor, dy: Tensor
  ) -> Results {
    let gradients = Tensor(zeros: [max(1, down.count + up.count)])
    var output: [Float] = []
    var dx: [Float] = []
    var first = 0
    while first < shape.rows {
      let range = first..<min(shape.rows, first + rowsAtATime)
      let tape = Tape(pool: BufferPool(), weightGradients: gradients.pointer)
      let input = tape.input(x.rows(range), needsGradient: true)
      let lowRank =
        shape.rank == 0
        ? nil
        : LowRankWeights(
          down: Weight(down, gradientOffset: 0), up: Weight(up, gradientOffset: down.count),
          scale: 1.5)
      let y = tape.linear(input, weight: Weight(weight), layout: layout, lowRank: lowRank)
      tape.seed(dy.rows(range), for: y)
      output += y.tensor().scalars
      dx += tape.backward(gradientsOf: [input])[0].scalars
      first = range.upperBound
    }
    return Results(
      output: Tensor(output, shape: [shape.rows, shape.outputs]),
      dx: Tensor(dx, shape: [shape.rows, shape.inputs]), weights: gradients)
  }

  private func operands(
    _ shape: Shape, _ layout: WeightLayout
  ) -> (x: Tensor, weight: Tensor, down: Tensor, up: Tensor, dy: Tensor) {
    var random = SeededRandom(seed: UInt64(shape.rows * 31 + shape.inputs))
    let stored =
      layout == .outputsByInputs ? [shape.outputs, shape.inputs] : [shape.inputs, shape.outputs]
    let fan = 1 / Float(shape.inputs).squareRoot()
    return (
      randomTensor([shape.rows, shape.inputs], &random), randomTensor(stored, &random, scale: fan),
      randomTensor([shape.rank, shape.inputs], &random, scale: fan),
      randomTensor([shape.outputs, shape.rank], &random, scale: 0.3),
      randomTensor([shape.rows, shape.outputs], &random)
    )
  }

  /// ‖a − b‖ / ‖b‖.
  private func relativeError(_ a: Tensor, _ b: Tensor) -> Double {
    var difference = 0.0
    var size = 0.0
    for (x, y) in zip(a.scalars, b.scalars) {
      difference += Double(x - y) * Double(x - y)
      size += Double(y) * Double(y)
    }
    return size == 0 ? difference : (difference / size).squareRoot()
  }

  @Test(arguments: shapes, [WeightLayout.outputsByInputs, .inputsByOutputs])
  func `agrees with plain products, forward and backward`(shape: Shape, layout: WeightLayout) {
    let (x, weight, down, up, dy) = operands(shape, layout)
    func results(_ rowsAtATime: Int) -> Results {
      run(
        shape, layout, rowsAtATime: rowsAtATime, x: x, weight: weight, down: down, up: up, dy: dy)
    }
    let panels = results(shape.rows)
    let plain = results(16)
    #expect(relativeError(panels.output, plain.output) < 2e-6)
    #expect(relativeError(panels.dx, plain.dx) < 2e-6)
    #expect(relativeError(panels.weights, plain.weights) < 4e-6)
  }

  @Test func `each row's bits do not depend on the rows beside it`() {
    let shape = Shape(rows: 530, inputs: 810, outputs: 203, rank: 8)
    let (x, weight, down, up, dy) = operands(shape, .outputsByInputs)
    func results(_ rowsAtATime: Int) -> Results {
      run(
        shape, .outputsByInputs, rowsAtATime: rowsAtATime, x: x, weight: weight, down: down, up: up,
        dy: dy)
    }
    let whole = results(530)
    for part in [265, 106, 53] {
      let parts = results(part)
      #expect(parts.output == whole.output)
      #expect(parts.dx == whole.dx)
    }
  }

  @Test func `a NaN or an infinity stays in its own row`() {
    let shape = Shape(rows: 40, inputs: 200, outputs: 198, rank: 4)
    let (x, weight, down, up, dy) = operands(shape, .outputsByInputs)
    x.pointer[7 * 200 + 3] = .nan
    x.pointer[11 * 200 + 199] = .infinity
    let output = run(
      shape, .outputsByInputs, rowsAtATime: 40, x: x, weight: weight, down: down, up: up, dy: dy
    ).output
    for row in 0..<40 {
      let values = (0..<198).map { output.scalars[row * 198 + $0] }
      switch row {
      case 7: #expect(values.allSatisfy { $0.isNaN })
      case 11: #expect(values.allSatisfy { !$0.isFinite })
      default: #expect(values.allSatisfy { $0.isFinite })
      }
    }
  }
}
