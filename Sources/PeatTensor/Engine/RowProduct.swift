/// Products of a few rows with a weight, as in generation: bound by the memory that the weight is read from.
enum RowProduct {
  /// The most rows that are computed at once.
  static let mostRows = 4

  /// out (+)= x · Wᵀ, or x · W in the layout `inputsByOutputs`.
  static func compute(
    _ x: Activation, _ weight: Weight, _ layout: WeightLayout, out: FloatPointer, adds: Bool
  ) {
    let outputs = weight.shape[layout == .outputsByInputs ? 0 : 1]
    for row in 0..<x.rows {
      let source = x.pointer + row * x.stride
      let place = out + row * outputs
      if !adds { place.update(repeating: 0, count: outputs) }
      switch layout {
      case .outputsByInputs: weight.accept(Dots(x: source, outputs: outputs, out: place))
      case .inputsByOutputs: weight.accept(Sums(x: source, inputs: x.columns, out: place))
      }
    }
  }

  /// out[j] += x · row j.
  private struct Dots: MatrixVisitor {
    let x: FloatPointer
    let outputs: Int
    let out: FloatPointer

    func visit(_ matrix: some MatrixReader) {
      let width = matrix.columns
      for j in 0..<outputs {
        var s0 = Vector.zero
        var s1 = Vector.zero
        var s2 = Vector.zero
        var s3 = Vector.zero
        var k = 0
        while k &+ 32 <= width {
          s0 = fma(load(x + k), matrix.eight(j, k), s0)
          s1 = fma(load(x + k + 8), matrix.eight(j, k &+ 8), s1)
          s2 = fma(load(x + k + 16), matrix.eight(j, k &+ 16), s2)
          s3 = fma(load(x + k + 24), matrix.eight(j, k &+ 24), s3)
          k &+= 32
        }
        while k &+ 8 <= width {
          s0 = fma(load(x + k), matrix.eight(j, k), s0)
          k &+= 8
        }
        var total = ((s0 + s1) + (s2 + s3)).sum()
        if k < width {
          let values = matrix.eight(j, k)
          for lane in 0..<width - k { total += x[k + lane] * values[lane] }
        }
        out[j] += total
      }
    }
  }

  /// out += Σ x[k] · row k, 64 columns at a time.
  private struct Sums: MatrixVisitor {
    let x: FloatPointer
    let inputs: Int
    let out: FloatPointer

    func visit(_ matrix: some MatrixReader) {
      var column = 0
      while column &+ 64 <= matrix.columns {
        var s0 = load(out + column)
        var s1 = load(out + column + 8)
        var s2 = load(out + column + 16)
        var s3 = load(out + column + 24)
        var s4 = load(out + column + 32)
        var s5 = load(out + column + 40)
        var s6 = load(out + column + 48)
        var s7 = load(out + column + 56)
        for k in 0..<inputs {
          let value = broadcast(x[k])
          s0 = fma(value, matrix.eight(k, column), s0)
          s1 = fma(value, matrix.eight(k, column &+ 8), s1)
          s2 = fma(value, matrix.eight(k, column &+ 16), s2)
          s3 = fma(value, matrix.eight(k, column &+ 24), s3)
          s4 = fma(value, matrix.eight(k, column &+ 32), s4)
          s5 = fma(value, matrix.eight(k, column &+ 40), s5)
          s6 = fma(value, matrix.eight(k, column &+ 48), s6)
          s7 = fma(value, matrix.eight(k, column &+ 56), s7)
        }
        store(s0, out + column)
        store(s1, out + column + 8)
        store(s2, out + column + 16)
        store(s3, out + column + 24)
        store(s4, out + column + 32)
        store(s5, out + column + 40)
        store(s6, out + column + 48)
        store(s7, out + column + 56)
        column &+= 64
      }
      while column < matrix.columns {
        let count = min(8, matrix.columns - column)
        var sum = load(out + column, first: count, fill: 0)
        for k in 0..<inputs { sum = fma(broadcast(x[k]), matrix.eight(k, column), sum) }
        store(sum, out + column, first: count)
        column &+= 8
      }
    }
  }
}
