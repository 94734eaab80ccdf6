extension Tape {
  /// Attends from each query to the keys at or before it, in one fused pass.
  ///
  /// Equal to `softmax(q · kᵀ / √D + mask) · v` per head, computed in float32. The scores of 64 queries at a time are
  /// held, never a `T × S` matrix; each row's largest score and the inverse of its sum are saved, and the
  /// probabilities are computed again, to the same bits, in the backward pass. Tiles look only at the keys that their
  /// last query may see.
  ///
  /// `B` sequences, `H` query heads, `G` key/value heads, `T` queries, `S` keys, `D` head width.
  ///
  /// - Parameters:
  ///   - queries: `[B·T, H·D]`, sequence by sequence.
  ///   - keys: `[B·S, G·D]`; `H` is a multiple of `G`.
  ///   - values: `[B·S, G·D]`.
  ///   - heads: `H`.
  ///   - keyValueHeads: `G`.
  ///   - length: `T`.
  ///   - keyLength: `S ≥ T`; the queries stand at the last `T` of the `S` positions.
  /// - Returns: `[B·T, H·D]`.
  ///
  /// Source: Dao et al. 2022, Algorithm 1, <https://arxiv.org/abs/2205.14135>; grouped heads after Ainslie et al.
  /// 2023, <https://arxiv.org/abs/2305.13245>.
  public func causalAttention(
    queries: Activation, keys: Activation, values: Activation, heads: Int, keyValueHeads: Int,
    length: Int, keyLength: Int? = nil
  ) -> Activation {
    profile?.enter(.attention)
    defer { profile?.leave() }
    let keyLength = keyLength ?? length
    precondition(
      queries.columns % heads == 0 && heads % keyValueHeads == 0 && keyLength >= length
        && queries.rows % length == 0 && keys.rows == queries.rows / length * keyLength
        && values.rows == keys.rows && keys.columns == queries.columns / heads * keyValueHeads
        && values.columns == keys.columns,
      "causalAttention: queries [\(queries.rows), \(queries.columns)], keys [\(keys.rows), \(keys.columns)], "
        + "values [\(values.rows), \(values.columns)], \(heads) heads on \(keyValueHeads)")
    let output = makeActivation(
      rows: queries.rows, columns: queries.columns,
      needsGradient: queries.needsGradient || keys.needsGradient || values.needsGradient)
    let record = AttentionRecord(
      queries: queries, keys: keys, values: values, heads: heads, keyValueHeads: keyValueHeads,
      length: length, keyLength: keyLength, statistics: pool.take(2 * queries.rows * heads),
      output: output)
    record.forward(pool)
    if output.needsGradient { self.record(.attention(record)) }
    return output
  }
}

struct AttentionRecord {
  let queries: Activation
  let keys: Activation
  let values: Activation
  let heads: Int
  let keyValueHeads: Int
  let length: Int
  let keyLength: Int
  /// `[heads, B·T, 2]`: each row's largest score, before scaling, and 1 / Σ exp(…).
  let statistics: Buffer
  let output: Activation

  private static let tileRows = 64

  private var width: Int { queries.columns / heads }
  private var scale: Float { 1 / Float(width).squareRoot() }

  /// One tile: queries `first..<first + rows` of sequence `sequence`, head `head`.
  private struct Tile {
    let head: Int
    let keyHead: Int
    /// Row of the first query in the queries' matrix.
    let queryRow: Int
    /// Row of the sequence's first key.
    let keyRow: Int
    let rows: Int
    /// How many keys the first query sees; each next one sees one more.
    let firstVisible: Int
    var visible: Int { firstVisible + rows - 1 }
  }

  private func forEachTile(_ body: (Tile) -> Void) {
    for sequence in 0..<queries.rows / length {
      for head in 0..<heads {
        var first = 0
        while first < length {
          let rows = min(Self.tileRows, length - first)
          body(
            Tile(
              head: head, keyHead: head / (heads / keyValueHeads),
              queryRow: sequence * length + first, keyRow: sequence * keyLength, rows: rows,
              firstVisible: keyLength - length + first + 1))
          first += rows
        }
      }
    }
  }

  /// scores = q · kᵀ, `[rows, visible]` with row stride `keyLength`.
  private func score(_ tile: Tile, into scores: FloatPointer) {
    MatrixProduct.compute(
      m: tile.rows, n: tile.visible, k: width,
      a: queries.pointer + tile.queryRow * queries.stride + tile.head * width, lda: queries.stride,
      b: keys.pointer + tile.keyRow * keys.stride + tile.keyHead * width, ldb: keys.stride,
      transposeB: true, c: scores, ldc: keyLength)
  }

  func forward(_ pool: BufferPool) {
    let scores = pool.take(Self.tileRows * keyLength)
    let scale = self.scale
    forEachTile { tile in
      score(tile, into: scores.pointer)
      for i in 0..<tile.rows {
        let row = scores.pointer + i * keyLength
        let seen = tile.firstVisible + i
        // Subtracted before scaling: the largest gives exp(0) however large it is.
        let top = maximum(seen, row)
        let topVector = broadcast(top)
        let scaleVector = broadcast(scale)
        mapVectors(seen, row, into: row) { exp(($0 - topVector) * scaleVector) }
        let inverse = 1 / sum(seen, row)
        let inverseVector = broadcast(inverse)
        mapVectors(seen, row, into: row) { $0 * inverseVector }
        (row + seen).update(repeating: 0, count: tile.visible - seen)
        let saved = statistics.pointer + 2 * (tile.head * queries.rows + tile.queryRow + i)
        saved[0] = top
        saved[1] = inverse
      }
      MatrixProduct.compute(
        m: tile.rows, n: width, k: tile.visible, a: scores.pointer, lda: keyLength,
        b: values.pointer + tile.keyRow * values.stride + tile.keyHead * width, ldb: values.stride,
        c: output.pointer + tile.queryRow * output.stride + tile.head * width, ldc: output.stride)
    }
  }

  // With P the probabilities: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − rowsum(dO ∘ O)) / √D, dQ = dS·K, dK = dSᵀ·Q.
  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    let dQ = queries.slot.map { clearedTarget(tape, queries, $0) }
    let dK = keys.slot.map { clearedTarget(tape, keys, $0) }
    let dV = values.slot.map { clearedTarget(tape, values, $0) }
    let probabilities = tape.pool.take(Self.tileRows * keyLength)
    let slopes = tape.pool.take(Self.tileRows * keyLength)
    let scale = self.scale
    forEachTile { tile in
      let dO = gradient.pointer + tile.queryRow * output.stride + tile.head * width
      let o = output.pointer + tile.queryRow * output.stride + tile.head * width
      score(tile, into: probabilities.pointer)
      for i in 0..<tile.rows {
        let row = probabilities.pointer + i * keyLength
        let seen = tile.firstVisible + i
        let saved = statistics.pointer + 2 * (tile.head * queries.rows + tile.queryRow + i)
        let topVector = broadcast(saved[0])
        let inverseVector = broadcast(saved[1])
        let scaleVector = broadcast(scale)
        mapVectors(seen, row, into: row) { exp(($0 - topVector) * scaleVector) * inverseVector }
        (row + seen).update(repeating: 0, count: tile.visible - seen)
      }
      if let dV {
        MatrixProduct.compute(
          m: tile.visible, n: width, k: tile.rows, a: probabilities.pointer, lda: keyLength,
          transposeA: true, b: dO, ldb: output.stride, beta: 1,
          c: dV + tile.keyRow * values.stride + tile.keyHead * width, ldc: values.stride)
      }
      guard dQ != nil || dK != nil else { return }
      MatrixProduct.compute(
        m: tile.rows, n: tile.visible, k: width, a: dO, lda: output.stride,
        b: values.pointer + tile.keyRow * values.stride + tile.keyHead * width, ldb: values.stride,
        transposeB: true, c: slopes.pointer, ldc: keyLength)
      for i in 0..<tile.rows {
        let delta = broadcast(-dot(width, dO + i * output.stride, o + i * output.stride))
        let scaleVector = broadcast(scale)
        let row = slopes.pointer + i * keyLength
        mapVectors(tile.visible, row, probabilities.pointer + i * keyLength, into: row) {
          ($0 + delta) * $1 * scaleVector
        }
      }
      if let dQ {
        MatrixProduct.compute(
          m: tile.rows, n: width, k: tile.visible, a: slopes.pointer, lda: keyLength,
          b: keys.pointer + tile.keyRow * keys.stride + tile.keyHead * width, ldb: keys.stride,
          beta: 1, c: dQ + tile.queryRow * queries.stride + tile.head * width, ldc: queries.stride)
      }
      if let dK {
        MatrixProduct.compute(
          m: tile.visible, n: width, k: tile.rows, a: slopes.pointer, lda: keyLength,
          transposeA: true,
          b: queries.pointer + tile.queryRow * queries.stride + tile.head * width,
          ldb: queries.stride, beta: 1,
          c: dK + tile.keyRow * keys.stride + tile.keyHead * width, ldc: keys.stride)
      }
    }
  }

  /// A gradient target that holds zeros or what was added before, so that tiles can add to it.
  private func clearedTarget(_ tape: Tape, _ input: Activation, _ slot: GradientSlot)
    -> FloatPointer
  {
    let (pointer, isFresh) = tape.gradientTarget(for: input, in: slot)
    if isFresh { pointer.update(repeating: 0, count: input.rows * input.stride) }
    return pointer
  }
}
