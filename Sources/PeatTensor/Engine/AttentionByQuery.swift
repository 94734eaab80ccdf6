import CPeatHints

extension AttentionKernel {
  /// The same, query by query, on keys and values as they lie: for a few queries, as in generation, where packing keys
  /// would cost more than the attention itself.
  ///
  /// - Parameter weights: room for a weight of each key.
  func forwardByQuery(
    queries: Rows, keys: Rows, values: Rows, output: Rows, weights: FloatPointer,
    relative: FloatPointer? = nil
  ) {
    for query in 0..<queryCount {
      let first = firstVisible(to: query)
      let seen = visible(to: query) - first
      score(
        queries.pointer + query * queries.stride, keys.dropping(first), count: seen, into: weights)
      if let relative {
        let line = relative + place(inLine: query) - first
        for key in 0..<seen { weights[key] += line[-key] }
      }
      var factor = broadcast(scale)
      if let cap = pattern.softCap {
        let inner = broadcast(scale / cap)
        mapVectors(seen, weights, into: weights) { tanh($0 * inner) }
        factor = broadcast(cap)
      }
      let top = broadcast(maximum(seen, weights))
      mapVectors(seen, weights, into: weights) { exp(($0 - top) * factor) }
      average(
        values.dropping(first), by: weights, count: seen,
        factor: 1 / PeatTensor.sum(seen, weights),
        into: output.pointer + query * output.stride)
    }
  }

  /// Keys or values whose lines are asked for ahead of use: heads lie side by side, so a key's next is far away.
  private static var reach: Int { 8 }

  @inline(__always) private func prefetch(_ place: FloatPointer, _ columns: Int) {
    let line = LineWalk.lineBytes / MemoryLayout<Float>.stride
    for start in Swift.stride(from: 0, to: columns, by: line) { peat_prefetch(place + start) }
  }

  /// q · k for each key, four keys at a time.
  private func score(
    _ query: FloatPointer, _ keys: Rows, count: Int, into scores: FloatPointer
  ) {
    let stride = keys.stride
    var key = 0
    while key &+ 4 <= count {
      let place = keys.pointer + key &* stride
      for i in 0..<4 { prefetch(place + (Self.reach &+ i) &* stride, width) }
      var s0 = Vector.zero
      var s1 = Vector.zero
      var s2 = Vector.zero
      var s3 = Vector.zero
      var column = 0
      while column &+ lanes <= width {
        let q = load(query + column)
        s0 = fma(q, load(place + column), s0)
        s1 = fma(q, load(place + stride + column), s1)
        s2 = fma(q, load(place + 2 &* stride + column), s2)
        s3 = fma(q, load(place + 3 &* stride + column), s3)
        column &+= lanes
      }
      if column < width {
        let rest = width &- column
        let q = load(query + column, first: rest, fill: 0)
        s0 = fma(q, load(place + column, first: rest, fill: 0), s0)
        s1 = fma(q, load(place + stride + column, first: rest, fill: 0), s1)
        s2 = fma(q, load(place + 2 &* stride + column, first: rest, fill: 0), s2)
        s3 = fma(q, load(place + 3 &* stride + column, first: rest, fill: 0), s3)
      }
      scores[key] = laneSum(s0)
      scores[key &+ 1] = laneSum(s1)
      scores[key &+ 2] = laneSum(s2)
      scores[key &+ 3] = laneSum(s3)
      key &+= 4
    }
    while key < count {
      scores[key] = dot(width, query, keys.pointer + key &* stride)
      key &+= 1
    }
  }

  /// factor · Σ weight · value over the keys, four registers of columns at a time.
  private func average(
    _ values: Rows, by weights: FloatPointer, count: Int, factor: Float, into out: FloatPointer
  ) {
    let stride = values.stride
    var column = 0
    while column &+ 4 &* lanes <= width {
      var place = values.pointer + column
      var s0 = Vector.zero
      var s1 = Vector.zero
      var s2 = Vector.zero
      var s3 = Vector.zero
      for key in 0..<count {
        prefetch(place + Self.reach &* stride, 4 &* lanes)
        let weight = broadcast(weights[key])
        s0 = fma(weight, load(place), s0)
        s1 = fma(weight, load(place + lanes), s1)
        s2 = fma(weight, load(place + 2 &* lanes), s2)
        s3 = fma(weight, load(place + 3 &* lanes), s3)
        place += stride
      }
      store(s0 * broadcast(factor), out + column)
      store(s1 * broadcast(factor), out + column + lanes)
      store(s2 * broadcast(factor), out + column + 2 &* lanes)
      store(s3 * broadcast(factor), out + column + 3 &* lanes)
      column &+= 4 &* lanes
    }
    while column < width {
      let rest = min(lanes, width &- column)
      var sum = Vector.zero
      for key in 0..<count {
        sum = fma(
          broadcast(weights[key]),
          load(values.pointer + (key &* stride &+ column), first: rest, fill: 0), sum)
      }
      store(sum * broadcast(factor), out + column, first: rest)
      column &+= lanes
    }
  }
}
