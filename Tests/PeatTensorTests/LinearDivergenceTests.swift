import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Linear with divergence") struct LinearDivergenceTests {
  /// Σ p ln(p / q) over rows, p from t · Wᵀ and q from x · Wᵀ.
  private func reference(
    _ x: [Double], _ t: [Double], _ w: [Double], width: Int, vocabulary: Int
  ) -> Double {
    func logarithms(_ values: [Double], _ row: Int) -> [Double] {
      let logits = Reference.product(
        Array(values[row * width..<(row + 1) * width]), w, inputs: width, outputs: vocabulary)
      let top = logits.max() ?? 0
      let total = top + log(logits.reduce(0) { $0 + exp($1 - top) })
      return logits.map { $0 - total }
    }
    return (0..<x.count / width).reduce(0) { sum, row in
      zip(logarithms(t, row), logarithms(x, row)).reduce(sum) { $0 + exp($1.0) * ($1.0 - $1.1) }
    }
  }

  private func check(rows: Int, width: Int, vocabulary: Int, chunkRows: Int = 256) {
    var random = SeededRandom(seed: 5)
    let target = randomTensor([rows, width], &random)
    let scale: Float = 0.37
    OperationCase(
      "divergence of \(rows) rows, width \(width), vocabulary \(vocabulary), chunks of \(chunkRows)",
      inputs: [Operand("x", randomTensor([rows, width], &random))],
      weights: [
        Operand("weight", randomTensor([vocabulary, width], &random, scale: 0.7), trains: false)
      ]
    ) { tape, x, w in
      .loss(
        tape.linearDivergence(
          x[0], from: tape.input(target), weight: w[0], scale: scale, chunkRows: chunkRows)
          * Double(scale))
    } reference: { x, w in
      [
        self.reference(
          x[0], target.scalars.map(Double.init), w[0], width: width, vocabulary: vocabulary)
          * Double(scale)
      ]
    }.check()
  }

  @Test(arguments: raggedSizes, [5, 64])
  func `every size of vocabulary agrees with the reference`(vocabulary: Int, width: Int) {
    guard vocabulary > 1 else { return }
    check(rows: 10, width: width, vocabulary: vocabulary)
  }

  @Test(arguments: [1, 2, 3, 7, 64])
  func `chunks of any size give the same, of vocabularies in several pieces, too`(chunkRows: Int) {
    check(rows: 23, width: 9, vocabulary: 1601, chunkRows: chunkRows)
  }

  @Test func `two tokens, by hand, and none between what is the same`() {
    let tape = Tape()
    let weight = Weight(Tensor([1, -1], shape: [2, 1]), gradientOffset: nil)
    func divergence(_ x: Float, _ t: Float) -> Double {
      tape.linearDivergence(
        tape.input(Tensor([x], shape: [1, 1])), from: tape.input(Tensor([t], shape: [1, 1])),
        weight: weight, scale: 1)
    }
    // p = 1 / (1 + e⁻²ᵗ): a half against three quarters is ln(2 / √3).
    let x = Float(log(3.0) / 2)
    #expect(abs(divergence(x, 0) - log(2 / 3.0.squareRoot())) < 1e-6)
    #expect(divergence(x, x) < 1e-6)
    // Far apart it is as large as the logits, and no number stays none.
    #expect(abs(divergence(-200, 200) - 400) < 1e-3)
    #expect(divergence(.nan, 0).isNaN && divergence(0, .nan).isNaN)
  }
}
