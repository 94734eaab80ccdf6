import PeatTensor
import TestSupport
import Testing

@Suite("PackedMatrix") struct PackedMatrixTests {
  static let storages: [WeightStorage] = [.bfloat16, .float16, .int8, .int4]

  private func matrix(_ rows: Int, _ columns: Int, seed: UInt64 = 5) -> Tensor {
    var random = SeededRandom(seed: seed)
    return randomTensor([rows, columns], &random, scale: 0.4)
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

  @Test(arguments: [1, 2, 7, 8, 9, 16, 31, 32, 33, 64, 65, 100])
  func `short floats are the values rounded`(columns: Int) {
    let values = matrix(5, columns)
    let bfloat16 = PackedMatrix(values, as: .bfloat16, axis: 1).unpacked()
    #expect(bfloat16 == values.map { Float(bfloat16: $0.bfloat16Bits) })
    let float16 = PackedMatrix(values, as: .float16, axis: 1).unpacked()
    #expect(float16 == values.map { Float(float16: $0.float16Bits) })
  }

  @Test func `every half-precision number is read as it is`() {
    for start in stride(from: 0, to: 65536, by: 1024) {
      let numbers = (start..<start + 1024).map { Float(float16: UInt16($0)) }
      let values = Tensor(numbers, shape: [1, 1024])
      let read = PackedMatrix(values, as: .float16, axis: 1).unpacked()
      for (a, b) in zip(read.scalars, numbers) {
        // What is too large is the largest there is.
        #expect(a == max(-65504, min(65504, b)) || a.isNaN && b.isNaN)
      }
    }
  }

  @Test(arguments: [1, 7, 31, 32, 33, 65, 100], [0, 1])
  func `integers are within half a step, and groups run along the axis`(size: Int, axis: Int) {
    for (storage, limit) in [(WeightStorage.int8, Float(127)), (.int4, 7)] {
      let (rows, columns) = (size, size / 2 + 3)
      let values = matrix(rows, columns, seed: UInt64(size))
      let read = PackedMatrix(values, as: storage, axis: axis).unpacked()
      for row in 0..<rows {
        for column in 0..<columns {
          let group =
            axis == 1
            ? (column / 32 * 32..<min(columns, column / 32 * 32 + 32)).map { row * columns + $0 }
            : (row / 32 * 32..<min(rows, row / 32 * 32 + 32)).map { $0 * columns + column }
          let largest = group.map { values.scalars[$0].magnitude }.max() ?? 0
          let index = row * columns + column
          let error = (read.scalars[index] - values.scalars[index]).magnitude
          #expect(error <= largest / limit * 0.500_01, "\(storage) at \(row), \(column)")
        }
      }
    }
  }

  @Test(arguments: storages) func `zeros, huge and tiny values`(storage: WeightStorage) {
    let zeros = PackedMatrix(Tensor(zeros: [3, 40]), as: storage, axis: 1).unpacked()
    #expect(zeros == Tensor(zeros: [3, 40]))
    for size: Float in [6e4, 1e-4] {
      let values = Tensor((0..<80).map { $0 % 2 == 0 ? size : -size }, shape: [2, 40])
      let read = PackedMatrix(values, as: storage, axis: 0).unpacked()
      #expect(relativeError(read, values) < 0.004)
    }
  }

  @Test(arguments: storages, [0, 1]) func `what is no number stays none`(
    storage: WeightStorage, axis: Int
  ) {
    var values = matrix(40, 70).scalars
    values[5 * 70 + 33] = .nan
    let unpacked = PackedMatrix(Tensor(values, shape: [40, 70]), as: storage, axis: axis).unpacked()
    #expect(unpacked.scalars[5 * 70 + 33].isNaN)
    // At most its group is spoilt.
    #expect(unpacked.scalars.count { $0.isNaN } <= PackedMatrix.groupSize)
  }

  @Test func `it takes the bytes that it says`() {
    let values = matrix(64, 96)
    #expect(PackedMatrix(values, as: .bfloat16, axis: 1).byteCount == 64 * 96 * 2)
    #expect(PackedMatrix(values, as: .int8, axis: 1).byteCount == 64 * 96 + 64 * 3 * 4)
    #expect(PackedMatrix(values, as: .int8, axis: 0).byteCount == 96 * 64 + 96 * 2 * 4)
    #expect(PackedMatrix(values, as: .int4, axis: 1).byteCount == 64 * 48 + 64 * 3 * 4)
    for storage in Self.storages {
      let expected = Double(64 * 96) * storage.bytesPerWeight
      #expect(Double(PackedMatrix(values, as: storage, axis: 1).byteCount) == expected)
    }
  }

  // MARK: In operations

  private struct Results {
    var output: Tensor
    var dx: Tensor
    var gradients: Tensor
  }

  private func linear(
    _ weight: Weight, _ layout: WeightLayout, rows: Int, inputs: Int, outputs: Int, rank: Int
  ) -> Results {
    var random = SeededRandom(seed: 9)
    let x = randomTensor([rows, inputs], &random)
    let dy = randomTensor([rows, outputs], &random)
    let down = randomTensor([rank, inputs], &random, scale: 0.2)
    let up = randomTensor([outputs, rank], &random, scale: 0.2)
    let gradients = Tensor(zeros: [max(1, down.count + up.count)])
    let tape = Tape(pool: BufferPool(), weightGradients: gradients.pointer)
    let input = tape.input(x, needsGradient: true)
    let lowRank =
      rank == 0
      ? nil
      : LowRankWeights(
        down: Weight(down, gradientOffset: 0), up: Weight(up, gradientOffset: down.count), scale: 2)
    let y = tape.linear(input, weight: weight, layout: layout, lowRank: lowRank)
    tape.seed(dy, for: y)
    let output = y.tensor()
    let dx = tape.backward(gradientsOf: [input])[0]
    return Results(output: output, dx: dx, gradients: gradients)
  }

  @Test(arguments: storages, [WeightLayout.outputsByInputs, .inputsByOutputs])
  func `a linear layer computes with what it keeps`(storage: WeightStorage, layout: WeightLayout) {
    for (rows, inputs, outputs, rank) in [
      (1, 70, 33, 0), (1, 64, 96, 8), (4, 33, 70, 2), (5, 40, 31, 0), (23, 17, 65, 3),
      (24, 33, 47, 8), (61, 100, 96, 8), (30, 1640, 40, 4),
    ] {
      let stored = layout == .outputsByInputs ? [outputs, inputs] : [inputs, outputs]
      let packed = PackedMatrix(
        matrix(stored[0], stored[1]), as: storage, axis: layout == .outputsByInputs ? 1 : 0)
      func run(_ weight: Weight) -> Results {
        linear(weight, layout, rows: rows, inputs: inputs, outputs: outputs, rank: rank)
      }
      let ours = run(Weight(packed))
      let dense = run(Weight(packed.unpacked()))
      #expect(relativeError(ours.output, dense.output) < 1e-5, "\(rows) rows")
      #expect(relativeError(ours.dx, dense.dx) < 1e-5, "\(rows) rows")
      #expect(relativeError(ours.gradients, dense.gradients) < 1e-5, "\(rows) rows")
    }
  }

  @Test(arguments: storages) func `so do the head and the embedding`(storage: WeightStorage) {
    let (vocabulary, width, rows) = (101, 48, 37)
    let packed = PackedMatrix(matrix(vocabulary, width), as: storage, axis: 1)
    let targets = (0..<rows).map { Int32($0 % 7 == 3 ? -1 : $0 * 13 % vocabulary) }
    func run(_ table: Weight) -> (TokenLoss, Tensor, Tensor) {
      let gradients = Tensor(zeros: [1])
      let tape = Tape(pool: BufferPool(), weightGradients: gradients.pointer)
      var random = SeededRandom(seed: 2)
      let x = tape.input(randomTensor([rows, width], &random), needsGradient: true)
      let loss = targets.withUnsafeBufferPointer {
        tape.linearCrossEntropy(x, weight: table, targets: $0, scale: 0.1, chunkRows: 16)
      }
      let dx = tape.backward(gradientsOf: [x])[0]
      let embedded = targets.map { max($0, 0) }.withUnsafeBufferPointer {
        tape.embedding($0, layout: SequenceLayout(lengths: [rows]), table: table).tensor()
      }
      return (loss, dx, embedded)
    }
    let (ourLoss, ourGradient, ourRows) = run(Weight(packed))
    let (loss, gradient, embedded) = run(Weight(packed.unpacked()))
    #expect(abs(ourLoss.sum - loss.sum) < 1e-5 * loss.sum)
    #expect(ourLoss.count == loss.count)
    #expect(relativeError(ourGradient, gradient) < 1e-5)
    #expect(ourRows == embedded)
  }
}
