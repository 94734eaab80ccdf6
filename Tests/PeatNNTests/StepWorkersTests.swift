import PeatNN
import PeatTensor
import TestSupport
import Testing

@Suite("StepWorkers") struct StepWorkersTests {
  private static let width = 24
  private static let vocabulary = 19
  private static let length = 5

  /// The gradient and loss of a batch under a small model of two layers, by so many workers.
  private func gradient(
    rows: Int, workers count: Int, parts: Int = 1, seed: UInt64 = 1
  ) -> (gradient: Tensor, loss: TokenLoss) {
    var random = SeededRandom(seed: seed)
    let table = Parameter("table", randomTensor([Self.vocabulary, Self.width], &random))
    let weight = Parameter(
      "weight", randomTensor([Self.width, Self.width], &random, scale: 0.3))
    let head = Parameter("head", randomTensor([Self.vocabulary, Self.width], &random))
    let tokens = (0..<rows * Self.length).map { _ in
      Int32(random.integer(below: Self.vocabulary))
    }
    let targets = tokens.map { _ in Int32(random.integer(below: Self.vocabulary + 4)) - 4 }
    let trainable = TrainableParameters([table, weight, head])
    let workers = StepWorkers(count: count, parameterCount: trainable.count)
    // What a step before left is not carried over.
    workers.gradient.update(repeating: 7, count: trainable.count)
    workers.zeroGradient()
    var loss = TokenLoss(sum: 0, count: 0)
    for part in split(rows, into: parts) {
      loss =
        loss
        + workers.run(
          SequenceLayout(rows: rows * Self.length, length: Self.length)
            .part(part.lowerBound * Self.length..<part.upperBound * Self.length)
        ) { tape, layout in
          let hidden = tokens.withUnsafeBufferPointer {
            tape.embedding(.init(rebasing: $0[layout.rows]), layout: layout, table: table.weight)
          }
          let raised = tape.activated(
            tape.linear(hidden, weight: weight.weight), by: .tanhGELU)
          return targets.withUnsafeBufferPointer {
            tape.linearCrossEntropy(
              raised, weight: head.weight, targets: .init(rebasing: $0[layout.rows]),
              scale: 1 / Float(rows * Self.length))
          }
        }
    }
    workers.joinGradients()
    #expect(workers.activationBytes > 0)
    return (
      Tensor((0..<trainable.count).map { workers.gradient[$0] }), loss
    )
  }

  @Test(arguments: [1, 2, 3, 4], [1, 2, 3, 7, 8])
  func `any number of workers gives the same gradient`(workers: Int, rows: Int) {
    let alone = gradient(rows: rows, workers: 1)
    #expect(alone.gradient.scalars.contains { abs($0) > 1e-3 })
    for parts in [1, min(rows, 2)] {
      let together = gradient(rows: rows, workers: workers, parts: parts)
      expectClose(together.gradient, alone.gradient, within: 1e-6, "gradient")
      #expect(together.loss.count == alone.loss.count)
      #expect(abs(together.loss.sum - alone.loss.sum) <= 1e-6 * alone.loss.sum)
    }
  }

  @Test(arguments: [1, 2, 3, 4]) func `same number of workers, same bits`(workers: Int) {
    let first = gradient(rows: 7, workers: workers)
    for _ in 0..<5 {
      let again = gradient(rows: 7, workers: workers)
      #expect(again.gradient == first.gradient)
      #expect(again.loss.sum == first.loss.sum)
    }
  }

  /// The gradient of two layers, the second run twice as a shared block is, by so many workers.
  private func innerGradient(
    workers count: Int, sharing: Bool, parts: Int, released: Bool = false
  ) -> Tensor {
    var random = SeededRandom(seed: 5)
    let (rows, length) = (6, 7)
    let input = randomTensor([rows * length, Self.width], &random)
    let weights = (0..<2).map {
      Parameter("w\($0)", randomTensor([Self.width, Self.width], &random, scale: 0.3))
    }
    let bias = Parameter("bias", randomTensor([Self.width], &random))
    let norm = Parameter("norm", randomTensor([Self.width], &random))
    let trainable = TrainableParameters([weights[0], bias, norm, weights[1]])
    let workers = StepWorkers(
      count: count, parameterCount: trainable.count, sharesGradient: sharing)
    workers.gradient.update(repeating: 3, count: trainable.count)
    if released { workers.release() }
    workers.zeroGradient()
    for part in split(rows, into: parts) {
      _ = workers.run(
        SequenceLayout(rows: rows * length, length: length)
          .part(part.lowerBound * length..<part.upperBound * length)
      ) { tape, layout in
        var x = tape.input(input.rows(layout.rows))
        x = tape.linear(x, weight: weights[0].weight, bias: bias.weight)
        for _ in 0..<2 {
          x = tape.rmsNorm(x, weight: norm.weight, epsilon: 1e-5)
          x = tape.checkpoint(x, trains: true) { tape, x in
            tape.linear(x, weight: weights[1].weight, residual: x)
          }
        }
        return TokenLoss(
          sum: tape.squaredError(
            x, to: tape.input(Tensor(zeros: [x.rows, x.columns])), scale: 0.1), count: 1)
      }
    }
    workers.joinGradients()
    return Tensor((0..<trainable.count).map { workers.gradient[$0] })
  }

  @Test(arguments: [1, 2, 3, 4], [1, 2])
  func `workers that share a gradient add up to the same one, with the same bits each time`(
    workers: Int, parts: Int
  ) {
    let own = innerGradient(workers: workers, sharing: false, parts: parts)
    let shared = innerGradient(workers: workers, sharing: true, parts: parts)
    #expect(own.scalars.contains { abs($0) > 1e-2 })
    expectClose(shared, own, within: 1e-5, "gradient")
    for released in [false, true, false] {
      #expect(
        innerGradient(workers: workers, sharing: true, parts: parts, released: released) == shared)
    }
  }

  @Test func `rows are cut into ranges that differ by one at most`() {
    #expect(split(7, into: 3) == [0..<2, 2..<4, 4..<7])
    #expect(split(2, into: 4) == [0..<1, 1..<2])
    #expect(split(0, into: 4) == [])
    for rows in 1...40 {
      for parts in 1...9 {
        let ranges = split(rows, into: parts)
        #expect(ranges.count == min(rows, parts))
        #expect(ranges.flatMap { Array($0) } == Array(0..<rows))
        let sizes = ranges.map(\.count)
        #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1)
      }
    }
  }

  @Test func `initial values have the deviation and the bound that were asked for`() {
    var random = SeededRandom(seed: 11)
    let normal = Tensor.normal([100, 100], deviation: 0.02, using: &random)
    let variance = squaredNorm(normal.count, normal.pointer) / 10_000
    #expect(abs(variance.squareRoot() - 0.02) < 0.0006)
    let uniform = Tensor.uniform([100, 100], bound: 0.5, using: &random)
    #expect(uniform.scalars.allSatisfy { $0 >= -0.5 && $0 < 0.5 })
    #expect((uniform.scalars.max() ?? 0) > 0.49 && (uniform.scalars.min() ?? 0) < -0.49)
    var again = SeededRandom(seed: 11)
    #expect(Tensor.normal([100, 100], deviation: 0.02, using: &again) == normal)
  }
}
