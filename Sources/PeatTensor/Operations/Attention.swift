extension Tape {
  /// Attends from each query to the keys at or before it, in one fused pass.
  ///
  /// Equal to `softmax(q · kᵀ / √D + mask) · v` per head, computed in float32. A block of queries' scores is held,
  /// never a `T × S` matrix; each query's largest score and the inverse of its sum are saved, and the probabilities are
  /// computed again, to the same bits, in the backward pass. Queries look only at the keys that they may see.
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
    let keyLength = keyLength ?? length
    precondition(
      keyLength >= length && queries.rows % length == 0
        && keys.rows == queries.rows / length * keyLength,
      "causalAttention: \(queries.rows) queries by \(length), \(keys.rows) keys by \(keyLength)")
    let pieces = (0..<queries.rows / length).map { sequence in
      AttentionPiece(
        queryRow: sequence * length, count: length, keyRow: sequence * keyLength,
        firstPosition: keyLength - length)
    }
    return attention(
      queries: queries, keys: keys, values: values, heads: heads, keyValueHeads: keyValueHeads,
      pieces: pieces)
  }

  /// The same for sequences of any lengths, each piece by itself.
  func attention(
    queries: Activation, keys: Activation, values: Activation, heads: Int, keyValueHeads: Int,
    pieces: [AttentionPiece]
  ) -> Activation {
    profile?.enter(.attention)
    defer { profile?.leave() }
    precondition(
      queries.columns % heads == 0 && heads % keyValueHeads == 0 && values.rows == keys.rows
        && keys.columns == queries.columns / heads * keyValueHeads
        && values.columns == keys.columns,
      "causalAttention: queries [\(queries.rows), \(queries.columns)], keys [\(keys.rows), \(keys.columns)], "
        + "values [\(values.rows), \(values.columns)], \(heads) heads on \(keyValueHeads)")
    let output = makeActivation(
      rows: queries.rows, columns: queries.columns,
      needsGradient: queries.needsGradient || keys.needsGradient || values.needsGradient)
    let record = AttentionRecord(
      queries: queries, keys: keys, values: values, heads: heads, keyValueHeads: keyValueHeads,
      pieces: pieces,
      statistics: pool.take(2 * heads * AttentionRecord.statisticsStride(queries.rows)),
      output: output)
    record.forward(pool)
    if output.needsGradient { self.record(.attention(record)) }
    return output
  }
}

/// Consecutive queries of one sequence.
struct AttentionPiece {
  /// Row of the first query in the queries' matrix.
  let queryRow: Int
  /// How many queries.
  let count: Int
  /// Row of the sequence's first key in the keys' matrix.
  let keyRow: Int
  /// How many keys stand before the first query's own.
  let firstPosition: Int
}

struct AttentionRecord {
  let queries: Activation
  let keys: Activation
  let values: Activation
  let heads: Int
  let keyValueHeads: Int
  let pieces: [AttentionPiece]
  /// For each head each query's largest score, before scaling, then likewise 1 / Σ exp(…).
  let statistics: Buffer
  let output: Activation

  /// From one head's statistics to the next: kernels write whole panels.
  static func statisticsStride(_ rows: Int) -> Int { rows + ProductTile.columns }

  /// Fewer queries than this are not worth packing keys for.
  private static let fewQueries = 4

  private var width: Int { queries.columns / heads }
  private var group: Int { heads / keyValueHeads }

  private func kernel(_ piece: AttentionPiece, _ pool: BufferPool) -> AttentionKernel {
    AttentionKernel(
      queryCount: piece.count, firstPosition: piece.firstPosition, width: width, pool: pool)
  }

  private func rows(_ matrix: Activation, _ row: Int, head: Int) -> AttentionKernel.Rows {
    rows(matrix.pointer, matrix.stride, row, head: head)
  }

  private func rows(
    _ pointer: FloatPointer, _ stride: Int, _ row: Int, head: Int
  ) -> AttentionKernel.Rows {
    AttentionKernel.Rows(pointer: pointer + (row * stride + head * width), stride: stride)
  }

  private func tops(_ head: Int, _ piece: AttentionPiece) -> FloatPointer {
    statistics.pointer + (head * Self.statisticsStride(queries.rows) + piece.queryRow)
  }

  private func inverses(_ head: Int, _ piece: AttentionPiece) -> FloatPointer {
    tops(head, piece) + heads * Self.statisticsStride(queries.rows)
  }

  // Pieces in order: a panel's last statistics may lie where the next piece's first come.
  func forward(_ pool: BufferPool) {
    for piece in pieces {
      let isSmall = piece.count <= Self.fewQueries && output.slot == nil
      let kernel = kernel(piece, pool)
      for keyHead in 0..<keyValueHeads {
        let keyRows = rows(keys, piece.keyRow, head: keyHead)
        let valueRows = rows(values, piece.keyRow, head: keyHead)
        if isSmall {
          for head in keyHead * group..<(keyHead + 1) * group {
            kernel.forwardByQuery(
              queries: rows(queries, piece.queryRow, head: head), keys: keyRows, values: valueRows,
              output: rows(output, piece.queryRow, head: head))
          }
          continue
        }
        let packedKeys = kernel.pack(keyRows, strips: true, panels: false)
        let packedValues = kernel.pack(valueRows, strips: false, panels: true)
        for head in keyHead * group..<(keyHead + 1) * group {
          kernel.forward(
            queries: rows(queries, piece.queryRow, head: head), keys: packedKeys,
            values: packedValues, output: rows(output, piece.queryRow, head: head),
            tops: tops(head, piece), inverses: inverses(head, piece))
        }
      }
    }
  }

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    let dQ = queries.slot.map { clearedTarget(tape, queries, $0) }
    let dK = keys.slot.map { clearedTarget(tape, keys, $0) }
    let dV = values.slot.map { clearedTarget(tape, values, $0) }
    for piece in pieces {
      let kernel = kernel(piece, tape.pool)
      for keyHead in 0..<keyValueHeads {
        let packedKeys = kernel.pack(
          rows(keys, piece.keyRow, head: keyHead), strips: true, panels: dQ != nil)
        let packedValues = kernel.pack(
          rows(values, piece.keyRow, head: keyHead), strips: true, panels: false)
        for head in keyHead * group..<(keyHead + 1) * group {
          kernel.backward(
            queries: rows(queries, piece.queryRow, head: head), keys: packedKeys,
            values: packedValues, output: rows(output, piece.queryRow, head: head),
            outputGradient: rows(gradient.pointer, output.stride, piece.queryRow, head: head),
            tops: tops(head, piece), inverses: inverses(head, piece),
            dQ: dQ.map { rows($0, queries.stride, piece.queryRow, head: head) },
            dK: dK.map { rows($0, keys.stride, piece.keyRow, head: keyHead) },
            dV: dV.map { rows($0, values.stride, piece.keyRow, head: keyHead) })
        }
      }
    }
  }

  /// A gradient target that holds zeros or what was added before, so that blocks can add to it.
  private func clearedTarget(_ tape: Tape, _ input: Activation, _ slot: GradientSlot)
    -> FloatPointer
  {
    let (pointer, isFresh) = tape.gradientTarget(for: input, in: slot)
    if isFresh { pointer.update(repeating: 0, count: input.rows * input.stride) }
    return pointer
  }
}
