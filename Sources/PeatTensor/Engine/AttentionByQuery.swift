extension AttentionKernel {
  /// The same, query by query, on keys and values as they lie: for a few queries, as in generation, where packing keys
  /// would cost more than the attention itself.
  func forwardByQuery(queries: Rows, keys: Rows, values: Rows, output: Rows) {
    let weights = pool.take(firstPosition + queryCount)
    defer { withExtendedLifetime(weights) {} }
    let scale = 1 / Float(width).squareRoot()
    for query in 0..<queryCount {
      let seen = firstPosition + query + 1
      let source = queries.pointer + query * queries.stride
      for key in 0..<seen {
        weights.pointer[key] = dot(width, source, keys.pointer + key * keys.stride)
      }
      let top = broadcast(maximum(seen, weights.pointer))
      let factor = broadcast(scale)
      mapVectors(seen, weights.pointer, into: weights.pointer) { exp(($0 - top) * factor) }
      let inverse = 1 / PeatTensor.sum(seen, weights.pointer)
      let place = output.pointer + query * output.stride
      place.update(repeating: 0, count: width)
      for key in 0..<seen {
        addScaled(
          width, weights.pointer[key] * inverse, values.pointer + key * values.stride, to: place)
      }
    }
  }
}
