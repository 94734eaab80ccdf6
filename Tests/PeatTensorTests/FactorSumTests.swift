import PeatTensor
import TestSupport
import Testing

@Suite("FactorSum") struct FactorSumTests {
  /// A sum beside the same as a matrix in float64.
  private struct Case {
    var sum: FactorSum
    var dense: [Double]
    let (rows, columns): (Int, Int)

    init(_ rows: Int, _ columns: Int) {
      sum = FactorSum(rows: rows, columns: columns)
      dense = Array(repeating: 0, count: rows * columns)
      (self.rows, self.columns) = (rows, columns)
    }

    mutating func add(_ weight: Double, _ left: Tensor, _ right: Tensor) throws {
      try sum.add(weight, left, right)
      let rank = left.shape[1]
      for i in 0..<rows {
        for k in 0..<rank {
          for j in 0..<columns {
            dense[i * columns + j] +=
              weight * Double(left.scalars[i * rank + k]) * Double(right.scalars[k * columns + j])
          }
        }
      }
    }

    var norm: Double { dense.reduce(0) { $0 + $1 * $1 }.squareRoot() }

    /// ‖first · second − dense‖ / ‖dense‖.
    func distance(_ first: Tensor, _ second: Tensor) -> Double {
      var off = 0.0
      let rank = first.shape[1]
      for i in 0..<rows {
        for j in 0..<columns {
          var value = -dense[i * columns + j]
          for k in 0..<rank {
            value += Double(first.scalars[i * rank + k]) * Double(second.scalars[k * columns + j])
          }
          off += value * value
        }
      }
      return off.squareRoot() / norm
    }
  }

  private func random(_ rows: Int, _ columns: Int, ranks: [Int]) throws -> Case {
    var random = SeededRandom(seed: 3, "factors \(rows) \(columns) \(ranks)")
    var result = Case(rows, columns)
    for rank in ranks {
      try result.add(
        Double(random.uniform()), randomTensor([rows, rank], &random, scale: 1),
        randomTensor([rank, columns], &random, scale: 1))
    }
    return result
  }

  @Test(arguments: [
    (7, 5, [1]), (12, 20, [2, 3]), (20, 12, [4, 8, 8]), (6, 9, [4, 4, 4, 4, 4]), (5, 5, [9]),
  ])
  func `norm and factors are those of the matrix`(rows: Int, columns: Int, ranks: [Int]) throws {
    let one = try random(rows, columns, ranks: ranks)
    #expect(abs(one.sum.norm / one.norm - 1) < 1e-12)
    let parts = try one.sum.singularValues()
    let squares = parts.values.reduce(0) { $0 + $1 * $1 }
    #expect(abs(squares.squareRoot() / one.norm - 1) < 1e-12)
    #expect(parts.values == parts.values.sorted(by: >))
    #expect(parts.rank(tolerance: 1e-12) == min(rows, columns, ranks.reduce(0, +)))
    for share in [{ $0.squareRoot() }, { _ in 0.5 }] as [(Double) -> Double] {
      let pair = parts.factors(0..<parts.values.count, share: share)
      #expect(one.distance(pair.up, pair.down) < 3e-7)
    }
  }

  @Test func `the first components are the best of their rank`() throws {
    let one = try random(12, 15, ranks: [4, 4])
    let parts = try one.sum.singularValues()
    let pair = parts.factors(0..<3) { $0.squareRoot() }
    let lost = parts.values[3...].reduce(0) { $0 + $1 * $1 }.squareRoot() / one.norm
    #expect(abs(one.distance(pair.up, pair.down) / lost - 1) < 1e-5)
  }

  @Test func `many products are no wider than the matrix needs`() throws {
    let one = try random(6, 8, ranks: Array(repeating: 3, count: 40))
    #expect(one.sum.width <= 2 * 6 + 3)
    #expect(abs(one.sum.norm / one.norm - 1) < 1e-10)
  }

  @Test func `what cancels is small beside what was added`() throws {
    var one = try random(9, 9, ranks: [3])
    let norm = one.sum.norm
    one.sum.add(-1, one.sum)
    #expect(one.sum.norm < 1e-7 * norm)
  }

  @Test func `nothing has no components`() throws {
    let none = FactorSum(rows: 3, columns: 4)
    #expect(none.norm == 0)
    #expect(try none.singularValues().values.isEmpty)
    var zeros = none
    try zeros.add(1, Tensor(zeros: [3, 2]), Tensor(zeros: [2, 4]))
    #expect(try zeros.singularValues().rank(tolerance: 1e-7) == 0)
  }

  @Test func `a factor with no finite number is an error`() {
    var sum = FactorSum(rows: 2, columns: 2)
    expectError(.badData, "NaN or infinity") {
      try sum.add(1, Tensor([.nan, 1], shape: [2, 1]), Tensor([1, 1], shape: [1, 2]))
      _ = try sum.singularValues()
    }
  }
}
