/// Products with one very short side: the gradients of a low-rank update.
enum SkinnyProduct {
  /// Rows that are summed at once, so that a result is loaded and stored once for all of them.
  private static let rowsAtATime = 8
  /// Columns at a time: the results of that many stay in the nearest cache.
  private static let blockColumns = 512

  /// out += s · uᵀ · v: for each of a few columns of `u` one weighted sum of the rows of `v`, which are read once, from one
  /// end to the other.
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
    stride: Int, out: FloatPointer, pool: BufferPool
  ) {
    let weights = pool.take(rowsAtATime * rank)
    defer { withExtendedLifetime(weights) {} }
    let whole = columns / lanes * lanes
    var first = 0
    while first < whole {
      let end = min(first + blockColumns, whole)
      var row = 0
      while row &+ rowsAtATime <= rows {
        for i in 0..<rowsAtATime * rank { weights.pointer[i] = scale * u[row * rank + i] }
        addEight(
          rank, weights.pointer, v + row * stride + first, stride, out + first, columns,
          count: end - first)
        row &+= rowsAtATime
      }
      for row in row..<rows {
        for r in 0..<rank {
          addScaled(
            end - first, scale * u[row * rank + r], v + row * stride + first,
            to: out + r * columns + first)
        }
      }
      first = end
    }
    guard whole < columns else { return }
    for row in 0..<rows {
      for r in 0..<rank {
        addScaled(
          columns - whole, scale * u[row * rank + r], v + row * stride + whole,
          to: out + r * columns + whole)
      }
    }
  }

  /// Eight rows of `v`, over `count` columns, a multiple of a register's floats.
  @inline(never) private static func addEight(
    _ rank: Int, _ weights: FloatPointer, _ v: FloatPointer, _ stride: Int, _ out: FloatPointer,
    _ outStride: Int, count: Int
  ) {
    var column = 0
    while column < count {
      let source = v + column
      let v0 = load(source)
      let v1 = load(source + stride)
      let v2 = load(source + 2 &* stride)
      let v3 = load(source + 3 &* stride)
      let v4 = load(source + 4 &* stride)
      let v5 = load(source + 5 &* stride)
      let v6 = load(source + 6 &* stride)
      let v7 = load(source + 7 &* stride)
      var place = out + column
      var weight = weights
      for _ in 0..<rank {
        var even = fma(broadcast(weight[0]), v0, load(place))
        var odd = broadcast(weight[rank]) * v1
        even = fma(broadcast(weight[2 &* rank]), v2, even)
        odd = fma(broadcast(weight[3 &* rank]), v3, odd)
        even = fma(broadcast(weight[4 &* rank]), v4, even)
        odd = fma(broadcast(weight[5 &* rank]), v5, odd)
        even = fma(broadcast(weight[6 &* rank]), v6, even)
        odd = fma(broadcast(weight[7 &* rank]), v7, odd)
        store(even + odd, place)
        place += outStride
        weight += 1
      }
      column &+= lanes
    }
  }
}
