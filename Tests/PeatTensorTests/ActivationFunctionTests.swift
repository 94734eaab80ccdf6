import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Activation functions") struct ActivationFunctionTests {
  @Test(arguments: raggedSizes, [1, 9])
  func `the hyperbolic tangent agrees with its reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    let x = Operand("x", randomTensor([3 * rows, width], &random, scale: 1.5))
    OperationCase("tanh [\(3 * rows), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.tanh(x[0]))
    } reference: { x, _ in
      x[0].map { tanh($0) }
    }.check()
    // What a group of rows shares.
    let shared = Operand("s", randomTensor([rows, width], &random))
    OperationCase("tanh plus [\(rows), \(width)]", inputs: [x, shared]) { tape, x, _ in
      .matrix(tape.tanh(x[0], plus: x[1]))
    } reference: { x, _ in
      x[0].indices.map { tanh(x[0][$0] + x[1][$0 / width / 3 * width + $0 % width]) }
    }.check()
    OperationCase("tanh of columns", inputs: [x]) { tape, x, _ in
      .matrix(tape.tanh(x[0].columns(0..<(width + 1) / 2)))
    } reference: { x, _ in
      Reference.columns(x[0], width: width, 0..<(width + 1) / 2).map { tanh($0) }
    }.check()
  }

  @Test(arguments: raggedSizes, [1, 2, 7])
  func `means and maxima of groups agree with their reference`(width: Int, size: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + size))
    let groups = 3
    // A column's values are apart, so that differences see the same row as its maximum.
    let values = randomTensor([groups * size, width], &random, scale: 0.05)
    for column in 0..<width {
      let order = random.shuffled(Array(0..<groups * size))
      for row in order.indices {
        values.pointer[row * width + column] += 0.6 * Float(order[row] - size)
      }
    }
    let x = Operand("x", values)
    OperationCase("pool [\(groups * size), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.pool(x[0], groups: groups))
    } reference: { x, _ in
      (0..<groups).flatMap { group in
        let columns = (0..<width).map { column in
          (0..<size).map { x[0][(group * size + $0) * width + column] }
        }
        return columns.map { $0.reduce(0, +) / Double(size) } + columns.map { $0.max() ?? 0 }
      }
    }.check()
  }

  @Test(arguments: raggedSizes, [1, 9])
  func `GELU agrees with its reference in both forms`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    let x = Operand("x", randomTensor([rows, width], &random, scale: 2.5))
    OperationCase("gelu exact [\(rows), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.activated(x[0], by: .gelu))
    } reference: { x, _ in
      Reference.gelu(x[0])
    }.check()
    OperationCase("gelu tanh [\(rows), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.activated(x[0], by: .tanhGELU))
    } reference: { x, _ in
      Reference.geluTanh(x[0])
    }.check()
  }

  @Test(arguments: raggedSizes, [1, 9])
  func `ReLU agrees with its reference`(width: Int, rows: Int) {
    var random = SeededRandom(seed: UInt64(width * 100 + rows))
    // Away from the bend, which finite differences would cross.
    let values = randomTensor([rows, width], &random).map { $0 + ($0 < 0 ? -0.2 : 0.2) }
    let x = Operand("x", values)
    OperationCase("relu [\(rows), \(width)]", inputs: [x]) { tape, x, _ in
      .matrix(tape.relu(x[0]))
    } reference: { x, _ in
      x[0].map { max($0, 0) }
    }.check()
    OperationCase("relu of columns", inputs: [x]) { tape, x, _ in
      .matrix(tape.relu(x[0].columns(0..<(width + 1) / 2)))
    } reference: { x, _ in
      Reference.columns(x[0], width: width, 0..<(width + 1) / 2).map { max($0, 0) }
    }.check()
  }

  @Test func `ReLU has the slope 0 at 0`() {
    let x = Operand("x", Tensor([0, -1, 2], shape: [1, 3]))
    let run = OperationRun(inputs: [x], weights: []) { tape, x, _ in .matrix(tape.relu(x[0])) }
    #expect(run.output == [0, 0, 2])
    #expect(run.inputGradients[0].scalars == [0, 0, 1])
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
      .matrix(tape.gated(gate: x[0], up: x[1]))
    } reference: { x, _ in
      Reference.swiGLU(gate: x[0], up: x[1])
    }.check()
  }

  private static func value(_ function: ActivationFunction, _ x: Double) -> Double {
    switch function {
    case .relu: max(x, 0)
    case .silu: x / (1 + exp(-x))
    case .gelu: Reference.gelu([x])[0]
    case .tanhGELU: Reference.geluTanh([x])[0]
    case .quickGELU: x / (1 + exp(-1.702 * x))
    case .tanh: tanh(x)
    }
  }

  @Test(arguments: ActivationFunction.allCases)
  func `every function, by itself and as a gate`(function: ActivationFunction) {
    var random = SeededRandom(seed: 11)
    let x = Operand("x", randomTensor([5, 13], &random, scale: 2))
    let up = Operand("up", randomTensor([5, 13], &random))
    OperationCase("\(function)", inputs: [x]) { tape, x, _ in
      .matrix(tape.activated(x[0], by: function))
    } reference: { x, _ in
      x[0].map { Self.value(function, $0) }
    }.check()
    OperationCase("gated by \(function)", inputs: [x, up]) { tape, x, _ in
      .matrix(tape.gated(gate: x[0], up: x[1], by: function))
    } reference: { x, _ in
      zip(x[0], x[1]).map { Self.value(function, $0) * $1 }
    }.check()
  }

  @Test(arguments: [(1, 3), (4, 3), (3, 2)])
  func `columns that lie group by group come to lie part by part`(groups: Int, parts: Int) {
    var random = SeededRandom(seed: 12)
    let width = 5
    let columns = groups * parts * width
    OperationCase(
      "regrouped \(groups) × \(parts)",
      inputs: [Operand("x", randomTensor([3, columns], &random))]
    ) { tape, x, _ in
      .matrix(tape.regrouped(x[0], groups: groups, parts: parts))
    } reference: { x, _ in
      (0..<3).flatMap { row in
        (0..<parts).flatMap { part in
          (0..<groups).flatMap { group in
            (0..<width).map { x[0][row * columns + (group * parts + part) * width + $0] }
          }
        }
      }
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
      .matrix(tape.gated(gate: x[0].columns(gate), up: x[0].columns(up)))
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
      .matrix(tape.gated(gate: x[0], up: x[0]))
    } reference: { x, _ in
      Reference.swiGLU(gate: x[0], up: x[0])
    }.check()
  }

  @Test func `GELU reads and gives gradients to a range of columns`() {
    var random = SeededRandom(seed: 9)
    let x = Operand("x", randomTensor([5, 20], &random, scale: 2))
    for function in [ActivationFunction.gelu, .tanhGELU] {
      OperationCase("\(function) of columns", inputs: [x]) { tape, x, _ in
        .matrix(tape.activated(x[0].columns(2..<15), by: function))
      } reference: { x, _ in
        let part = Reference.columns(x[0], width: 20, 2..<15)
        return function == .gelu ? Reference.gelu(part) : Reference.geluTanh(part)
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
        .matrix(tape.gated(gate: x[0], up: x[1]))
      } reference: { x, _ in
        Reference.swiGLU(gate: x[0], up: x[1])
      }.check()
    }
  }

  @Test(arguments: [1e30, 1e20, 1e10, 1e4, 100, 30, 12] as [Float])
  func `far from zero the functions become x or 0, and their slopes 1 or 0`(size: Float) {
    let x = Operand("x", Tensor([size, -size], shape: [1, 2]))
    for function in [ActivationFunction.gelu, .tanhGELU] {
      let run = OperationRun(inputs: [x], weights: []) { tape, x, _ in
        .matrix(tape.activated(x[0], by: function))
      }
      #expect(abs(run.output[0] / Double(size) - 1) < 1e-6)
      #expect(abs(run.output[1] / Double(size)) < 1e-6)
      expectClose(
        run.inputGradients[0], Tensor([1, 0], shape: [1, 2]), within: 1e-5, "\(function)")
    }
    let gated = OperationRun(
      inputs: [x, Operand("up", Tensor([2, 2], shape: [1, 2]))], weights: []
    ) { tape, x, _ in .matrix(tape.gated(gate: x[0], up: x[1])) }
    #expect(abs(gated.output[0] / Double(size) - 2) < 2e-5)
    #expect(abs(gated.output[1] / Double(size)) < 2e-5)
    expectClose(
      gated.inputGradients[0], Tensor([2, 0], shape: [1, 2]), within: 2e-4, "slope of the gate")
  }
}
