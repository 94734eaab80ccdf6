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
        while k &+ 4 &* lanes <= width {
          s0 = fma(load(x + k), matrix.vector(j, k), s0)
          s1 = fma(load(x + k + lanes), matrix.vector(j, k &+ lanes), s1)
          s2 = fma(load(x + k + 2 &* lanes), matrix.vector(j, k &+ 2 &* lanes), s2)
          s3 = fma(load(x + k + 3 &* lanes), matrix.vector(j, k &+ 3 &* lanes), s3)
          k &+= 4 &* lanes
        }
        while k &+ lanes <= width {
          s0 = fma(load(x + k), matrix.vector(j, k), s0)
          k &+= lanes
        }
        var total = ((s0 + s1) + (s2 + s3)).sum()
        if k < width {
          let values = matrix.vector(j, k)
          for lane in 0..<width - k { total += x[k + lane] * values[lane] }
        }
        out[j] += total
      }
    }
  }

  /// out += Σ x[k] · row k, eight registers of columns at a time.
  private struct Sums: MatrixVisitor {
    let x: FloatPointer
    let inputs: Int
    let out: FloatPointer

    func visit(_ matrix: some MatrixReader) {
      let width = lanes
      var column = 0
      while column &+ 8 &* width <= matrix.columns {
        let place = out + column
        var s0 = load(place)
        var s1 = load(place + width)
        var s2 = load(place + 2 &* width)
        var s3 = load(place + 3 &* width)
        var s4 = load(place + 4 &* width)
        var s5 = load(place + 5 &* width)
        var s6 = load(place + 6 &* width)
        var s7 = load(place + 7 &* width)
        for k in 0..<inputs {
          let value = broadcast(x[k])
          s0 = fma(value, matrix.vector(k, column), s0)
          s1 = fma(value, matrix.vector(k, column &+ width), s1)
          s2 = fma(value, matrix.vector(k, column &+ 2 &* width), s2)
          s3 = fma(value, matrix.vector(k, column &+ 3 &* width), s3)
          s4 = fma(value, matrix.vector(k, column &+ 4 &* width), s4)
          s5 = fma(value, matrix.vector(k, column &+ 5 &* width), s5)
          s6 = fma(value, matrix.vector(k, column &+ 6 &* width), s6)
          s7 = fma(value, matrix.vector(k, column &+ 7 &* width), s7)
        }
        store(s0, place)
        store(s1, place + width)
        store(s2, place + 2 &* width)
        store(s3, place + 3 &* width)
        store(s4, place + 4 &* width)
        store(s5, place + 5 &* width)
        store(s6, place + 6 &* width)
        store(s7, place + 7 &* width)
        column &+= 8 &* width
      }
      while column < matrix.columns {
        let count = min(width, matrix.columns - column)
        var sum = load(out + column, first: count, fill: 0)
        for k in 0..<inputs { sum = fma(broadcast(x[k]), matrix.vector(k, column), sum) }
        store(sum, out + column, first: count)
        column &+= width
      }
    }
  }
}
