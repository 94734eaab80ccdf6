import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Linear with cross-entropy") struct CrossEntropyTests {
  private func check(
    targets: [Int32], width: Int, vocabulary: Int, chunkRows: Int = 256,
    trains: [Bool] = [true, true],
    seed: UInt64 = 1
  ) {
    var random = SeededRandom(seed: seed)
    let scale: Float = 0.37
    OperationCase(
      "cross-entropy of \(targets.count) rows, width \(width), vocabulary \(vocabulary), chunks of \(chunkRows)",
      inputs: [Operand("x", randomTensor([targets.count, width], &random), trains: trains[0])],
      weights: [
        Operand(
          "weight", randomTensor([vocabulary, width], &random, scale: 0.7), trains: trains[1])
      ]
    ) { tape, x, w in
      let loss = targets.withUnsafeBufferPointer {
        tape.linearCrossEntropy(
          x[0], weight: w[0], targets: $0, scale: scale, chunkRows: chunkRows)
      }
      #expect(loss.count == targets.filter { $0 >= 0 }.count)
      return .loss(loss.sum * Double(scale))
    } reference: { x, w in
      [
        Reference.crossEntropy(
          x[0], w[0], width: width, vocabulary: vocabulary, targets: targets) * Double(scale)
      ]
    }.check()
  }

  /// Reference: logits with a bias and a cap.
  @Test(arguments: [(true, nil), (false, 0.8), (true, 1.5)] as [(Bool, Float?)])
  func `logits may have a bias and a cap`(hasBias: Bool, cap: Float?) {
    let (width, vocabulary) = (9, 70)
    let targets = targets(11, vocabulary, 3, ignored: 0.2)
    var random = SeededRandom(seed: 8)
    OperationCase(
      "cross-entropy, bias \(hasBias), cap \(cap ?? 0)",
      inputs: [Operand("x", randomTensor([11, width], &random))],
      weights: [
        Operand("weight", randomTensor([vocabulary, width], &random, scale: 0.7)),
        Operand("bias", randomTensor([vocabulary], &random)),
      ]
    ) { tape, x, w in
      let loss = targets.withUnsafeBufferPointer {
        tape.linearCrossEntropy(
          x[0], weight: w[0], bias: hasBias ? w[1] : nil, softCap: cap, targets: $0, scale: 0.5,
          chunkRows: 4)
      }
      return .loss(loss.sum * 0.5)
    } reference: { x, w in
      var loss = 0.0
      for (row, target) in targets.enumerated() where target >= 0 {
        let logits = (0..<vocabulary).map { token in
          let score =
            (0..<width).reduce(hasBias ? w[1][token] : 0) {
              $0 + x[0][row * width + $1] * w[0][token * width + $1]
            }
          return cap.map { Double($0) * tanh(score / Double($0)) } ?? score
        }
        let top = logits.max() ?? 0
        loss += top + log(logits.reduce(0) { $0 + exp($1 - top) }) - logits[Int(target)]
      }
      return [loss * 0.5]
    }.check()
  }

  private func targets(_ count: Int, _ vocabulary: Int, _ seed: UInt64, ignored: Float) -> [Int32] {
    var random = SeededRandom(seed: seed)
    return (0..<count).map { _ in
      random.uniform() < ignored ? -100 : Int32(random.integer(below: vocabulary))
    }
  }

  @Test(arguments: raggedSizes, [5, 64])
  func `every size of vocabulary agrees with the reference`(vocabulary: Int, width: Int) {
    check(
      targets: targets(10, vocabulary, 1, ignored: 0), width: width, vocabulary: vocabulary)
  }

  @Test(arguments: [1, 2, 3, 7, 64], [0, 0.4] as [Float])
  func `chunks of any size give the same, with and without ignored rows`(
    chunkRows: Int, ignored: Float
  ) {
    check(
      targets: targets(23, 19, 2, ignored: ignored), width: 9, vocabulary: 19,
      chunkRows: chunkRows)
  }

  @Test(arguments: [[true, false], [false, true]])
  func `input or weight may be frozen`(trains: [Bool]) {
    check(
      targets: targets(12, 19, 3, ignored: 0.3), width: 9, vocabulary: 19, chunkRows: 5,
      trains: trains)
  }

  @Test func `a run of rows at the start, in the middle or at the end is used where it lies`() {
    for targets: [Int32] in [
      [1, 2, 3, -1, -1], [-1, 1, 2, 3, -1], [-1, -1, 1, 2, 3], [1, -1, 2, -1, 3],
      [-1, -1, 4, -1, -1],
    ] {
      check(targets: targets, width: 6, vocabulary: 7)
      check(targets: targets, width: 6, vocabulary: 7, chunkRows: 2)
    }
  }

  @Test func `with no target there is no loss and no gradient`() {
    var random = SeededRandom(seed: 4)
    let targets = [Int32](repeating: -100, count: 5)
    let run = OperationRun(
      inputs: [Operand("x", randomTensor([5, 6], &random))],
      weights: [Operand("weight", randomTensor([7, 6], &random))]
    ) { tape, x, w in
      let loss = targets.withUnsafeBufferPointer {
        tape.linearCrossEntropy(x[0], weight: w[0], targets: $0, scale: 1)
      }
      #expect(loss.count == 0)
      #expect(loss.sum == 0)
      return .loss(loss.sum)
    }
    #expect(run.inputGradients[0] == Tensor(zeros: [5, 6]))
    #expect(run.weightGradients[0] == Tensor(zeros: [7, 6]))
  }

  @Test func `equal logits cost the logarithm of the vocabulary`() {
    let tape = Tape()
    let targets: [Int32] = [0, 10]
    let loss = targets.withUnsafeBufferPointer {
      tape.linearCrossEntropy(
        tape.input(Tensor(repeating: 1, shape: [2, 3])),
        weight: Weight(Tensor(repeating: 0.5, shape: [11, 3])), targets: $0, scale: 1)
    }
    #expect(abs(loss.sum - 2 * log(11)) < 1e-6)
    #expect(loss.count == 2)
  }

  @Test(arguments: [1, 100, 1e15] as [Float])
  func `large logits do not overflow`(size: Float) {
    // Row 0 is sure and right, row 1 is sure and wrong.
    let targets: [Int32] = [0, 1]
    let x = Operand("x", Tensor([size, size], shape: [2, 1]))
    let weight = Operand("weight", Tensor([size, -size], shape: [2, 1]))
    let run = OperationRun(inputs: [x], weights: [weight]) { tape, x, w in
      .loss(
        targets.withUnsafeBufferPointer {
          tape.linearCrossEntropy(x[0], weight: w[0], targets: $0, scale: 1)
        }.sum)
    }
    let gap = 2 * Double(size) * Double(size)
    let expected = 2 * log(1 + exp(-gap)) + gap
    #expect(abs(run.output[0] - expected) <= 1e-6 * expected)
    #expect(run.inputGradients[0].isFinite)
    #expect(run.weightGradients[0].isFinite)
  }
}
