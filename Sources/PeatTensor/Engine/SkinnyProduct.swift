/// Products with one very short side: the gradients of a low-rank update.
enum SkinnyProduct {
  /// out += s · uᵀ · v: for each of a few columns of `u` one weighted sum of the rows of `v`.
  ///
  /// - Parameters:
  ///   - rows: m, of `u` and `v`.
  ///   - rank: r, columns of `u`.
  ///   - columns: n, of `v`.
  ///   - u: `[m, r]`, contiguous.
  ///   - v: `[m, n]`, rows `stride` floats apart.
  ///   - out: `[r, n]`, contiguous.
  static func addWeightedSums(
    rows: Int, rank: Int, columns: Int, scale: Float, u: FloatPointer, v: FloatPointer,
    stride: Int, out: FloatPointer
  ) {
    var column = 0
    while column &+ 2 &* lanes <= columns {
      var r = 0
      while r &+ 4 <= rank {
        fourSums(rows, rank, u + r, v + column, stride, scale, out + r * columns + column, columns)
        r &+= 4
      }
      while r < rank {
        oneSum(rows, rank, u + r, v + column, stride, scale, out + r * columns + column)
        r &+= 1
      }
      column &+= 2 &* lanes
    }
    for row in 0..<rows where column < columns {
      for r in 0..<rank {
        let factor = scale * u[row * rank + r]
        for j in column..<columns { out[r * columns + j] += factor * v[row * stride + j] }
      }
    }
  }

  /// Four columns of `u` with two registers of `v`.
  @inline(__always) private static func fourSums(
    _ rows: Int, _ rank: Int, _ u: FloatPointer, _ v: FloatPointer, _ stride: Int, _ scale: Float,
    _ out: FloatPointer, _ outStride: Int
  ) {
    var s00 = Vector.zero
    var s01 = Vector.zero
    var s10 = Vector.zero
    var s11 = Vector.zero
    var s20 = Vector.zero
    var s21 = Vector.zero
    var s30 = Vector.zero
    var s31 = Vector.zero
    var weights = u
    var row = v
    for _ in 0..<rows {
      let v0 = load(row)
      let v1 = load(row + lanes)
      var weight = broadcast(weights[0])
      s00 = fma(weight, v0, s00)
      s01 = fma(weight, v1, s01)
      weight = broadcast(weights[1])
      s10 = fma(weight, v0, s10)
      s11 = fma(weight, v1, s11)
      weight = broadcast(weights[2])
      s20 = fma(weight, v0, s20)
      s21 = fma(weight, v1, s21)
      weight = broadcast(weights[3])
      s30 = fma(weight, v0, s30)
      s31 = fma(weight, v1, s31)
      weights += rank
      row += stride
    }
    add(s00, s01, scale, out)
    add(s10, s11, scale, out + outStride)
    add(s20, s21, scale, out + 2 &* outStride)
    add(s30, s31, scale, out + 3 &* outStride)
  }

  /// One column of `u` with two registers of `v`.
  @inline(__always) private static func oneSum(
    _ rows: Int, _ rank: Int, _ u: FloatPointer, _ v: FloatPointer, _ stride: Int, _ scale: Float,
    _ out: FloatPointer
  ) {
    var s0 = Vector.zero
    var s1 = Vector.zero
    for row in 0..<rows {
      let weight = broadcast(u[row * rank])
      s0 = fma(weight, load(v + row * stride), s0)
      s1 = fma(weight, load(v + row * stride + lanes), s1)
    }
    add(s0, s1, scale, out)
  }

  @inline(__always) private static func add(
    _ first: Vector, _ second: Vector, _ scale: Float, _ out: FloatPointer
  ) {
    let factor = broadcast(scale)
    store(fma(first, factor, load(out)), out)
    store(fma(second, factor, load(out + lanes)), out + lanes)
  }
}
