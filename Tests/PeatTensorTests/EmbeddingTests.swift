import PeatTensor
import TestSupport
import Testing

@Suite("Embedding") struct EmbeddingTests {
  @Test(arguments: raggedSizes) func `it agrees with its reference`(width: Int) {
    var random = SeededRandom(seed: UInt64(width))
    let (vocabulary, length, first) = (5, 4, 2)
    let tokens: [Int32] = [1, 1, 4, 0, 3, 1, 1, 0]
    OperationCase(
      "embedding of width \(width)",
      weights: [
        Operand("table", randomTensor([vocabulary, width], &random)),
        Operand("positions", randomTensor([7, width], &random)),
      ]
    ) { tape, _, w in
      tokens.withUnsafeBufferPointer {
        .matrix(
          tape.embedding(
            $0, layout: SequenceLayout(rows: 8, length: length, firstPosition: first),
            table: w[0], positions: w[1]))
      }
    } reference: { _, w in
      tokens.enumerated().flatMap { row, token in
        (0..<width).map {
          w[0][Int(token) * width + $0] + w[1][(first + row % length) * width + $0]
        }
      }
    }.check()
  }

  @Test func `rows may be scaled, positions begin later, and a row be added to all`() {
    var random = SeededRandom(seed: 3)
    let tokens: [Int32] = [1, 4, 0, 3, 1, 1]
    let width = 9
    OperationCase(
      "embedding, scaled and shifted",
      weights: [
        Operand("table", randomTensor([5, width], &random)),
        Operand("positions", randomTensor([5, width], &random)),
        Operand("shared", randomTensor([2, width], &random)),
      ]
    ) { tape, _, w in
      tokens.withUnsafeBufferPointer {
        .matrix(
          tape.embedding(
            $0, layout: SequenceLayout(rows: 6, length: 3), table: w[0], scale: 2.5,
            positions: w[1], firstPosition: 2, shared: w[2]))
      }
    } reference: { _, w in
      tokens.enumerated().flatMap { row, token in
        (0..<width).map {
          2.5 * w[0][Int(token) * width + $0] + w[1][(2 + row % 3) * width + $0] + w[2][$0]
        }
      }
    }.check()
  }

  @Test func `each token gets the row of its type`() {
    var random = SeededRandom(seed: 5)
    let tokens: [Int32] = [1, 4, 0, 3, 1, 1]
    let types: [Int32] = [0, 1, 1, 0, 0, 1]
    let width = 9
    OperationCase(
      "embedding with types",
      weights: [
        Operand("table", randomTensor([5, width], &random)),
        Operand("types", randomTensor([2, width], &random)),
      ]
    ) { tape, _, w in
      tokens.withUnsafeBufferPointer { tokens in
        types.withUnsafeBufferPointer {
          .matrix(
            tape.embedding(
              tokens, layout: SequenceLayout(rows: 6, length: 3), table: w[0], shared: w[1],
              types: $0))
        }
      }
    } reference: { _, w in
      zip(tokens, types).flatMap { token, type in
        (0..<width).map { w[0][Int(token) * width + $0] + w[1][Int(type) * width + $0] }
      }
    }.check()
  }

  @Test func `patches stand beside rows of a model's own`() {
    var random = SeededRandom(seed: 4)
    let numbers: [Int32] = [-1, -2, 0, 1, -1, -2, 2, 3]
    let width = 11
    OperationCase(
      "image embedding", inputs: [Operand("x", randomTensor([8, width], &random))],
      weights: [
        Operand("first", randomTensor([width], &random)),
        Operand("second", randomTensor([width], &random)),
        Operand("positions", randomTensor([4, width], &random)),
      ]
    ) { tape, x, w in
      numbers.withUnsafeBufferPointer {
        .matrix(
          tape.imageEmbedding(
            x[0], $0, layout: SequenceLayout(rows: 8, length: 4), own: [w[0], w[1]],
            positions: w[2]))
      }
    } reference: { x, w in
      numbers.enumerated().flatMap { row, number in
        (0..<width).map { column in
          (number < 0 ? w[Int(-1 - number)][column] : x[0][row * width + column])
            + w[2][row % 4 * width + column]
        }
      }
    }.check()
  }

  @Test func `either table may be frozen`() {
    var random = SeededRandom(seed: 2)
    let tokens: [Int32] = [1, 1, 2]
    for trained in 0...1 {
      let run = OperationRun(
        inputs: [],
        weights: (0...1).map {
          Operand("\($0)", randomTensor([3, 2], &random), trains: $0 == trained)
        }
      ) { tape, _, w in
        tokens.withUnsafeBufferPointer {
          .matrix(
            tape.embedding(
              $0, layout: SequenceLayout(rows: $0.count, length: 3), table: w[0], positions: w[1]))
        }
      }
      let expected: [Float] = trained == 0 ? [0, 0, 2, 2, 1, 1] : [1, 1, 1, 1, 1, 1]
      #expect(run.weightGradients[trained].scalars == expected)
      #expect(run.weightGradients[1 - trained].scalars == [0, 0, 0, 0, 0, 0])
    }
  }

  @Test func `small numbers come out as one adds them by hand`() {
    let tape = Tape()
    let table = Weight(Tensor([1, 2, 3, 4], shape: [2, 2]))
    let positions = Weight(Tensor([10, 20, 30, 40], shape: [2, 2]))
    let tokens: [Int32] = [1, 0]
    tokens.withUnsafeBufferPointer {
      #expect(
        tape.embedding($0, layout: SequenceLayout(lengths: [2]), table: table).tensor()
          == Tensor([3, 4, 1, 2], shape: [2, 2]))
      #expect(
        tape.embedding(
          $0, layout: SequenceLayout(lengths: [2]), table: table, positions: positions
        ).tensor()
          == Tensor([13, 24, 31, 42], shape: [2, 2]))
      #expect(
        tape.embedding(
          $0, layout: SequenceLayout(lengths: [1, 1], firstPosition: 1), table: table,
          positions: positions
        ).tensor()
          == Tensor([33, 44, 31, 42], shape: [2, 2]))
    }
  }

  @Test(arguments: [0..<7, 0..<2, 2..<5, 5..<7])
  func `rows in front of sequences are a prompt's, whoever holds them`(held: Range<Int>) {
    var random = SeededRandom(seed: 4)
    let (vocabulary, width, count, shift) = (5, 9, 3, 2)
    let tokens: [Int32] = [1, 1, 4, 0, 3, 1, 0]
    let lengths = [3, 4]
    let layout = SequenceLayout(lengths: lengths).part(held).prepending(count).shifted(by: shift)
    OperationCase(
      "embedding behind a prompt, rows \(held)",
      weights: [
        Operand("table", randomTensor([vocabulary, width], &random)),
        Operand("positions", randomTensor([20, width], &random)),
        Operand("prompt", randomTensor([count, width], &random)),
      ]
    ) { tape, _, w in
      tokens[held].withUnsafeBufferPointer {
        .matrix(
          tape.embedding($0, layout: layout, table: w[0], positions: w[1], prompt: w[2]))
      }
    } reference: { _, w in
      var rows: [[Double]] = []
      var number = 0
      for length in lengths {
        for index in 0..<length {
          if held.contains(number), index == 0 {
            for row in 0..<count {
              rows.append(
                (0..<width).map { w[2][row * width + $0] + w[1][(shift + row) * width + $0] })
            }
          }
          if held.contains(number) {
            rows.append(
              (0..<width).map {
                w[0][Int(tokens[number]) * width + $0]
                  + w[1][(shift + count + index) * width + $0]
              })
          }
          number += 1
        }
      }
      return rows.flatMap { $0 }
    }.check()
  }
}
