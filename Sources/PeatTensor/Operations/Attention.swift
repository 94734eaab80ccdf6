extension Tape {
  /// Attends from each query to the keys of its sequence that the pattern lets it see, in one fused pass.
  ///
  /// Equal to `softmax(cap(s · q · kᵀ) + mask) · v` per head, computed in float32. A block of queries' scores is held,
  /// never a `T × S` matrix; each query's largest score and the inverse of its sum are saved, and the probabilities are
  /// computed again, to the same bits, in the backward pass. Queries look only at the keys that they may see.
  ///
  /// `N` rows in sequences of any lengths, `H` query heads, `G` key/value heads, `D` head width.
  ///
  /// - Parameters:
  ///   - queries: `[N, H·D]`, sequence by sequence.
  ///   - keys: `[N, G·D]`; `H` is a multiple of `G`. Where tokens stand before each sequence's rows
  ///     (`layout.firstPosition`), their rows too, at the beginning of each sequence.
  ///   - values: as `keys`.
  ///   - heads: `H`.
  ///   - keyValueHeads: `G`.
  ///   - layout: how the rows divide into sequences. Rows of a sequence that other workers hold come from the tape's
  ///     exchange with them; only those before, so that who sees all keys needs whole sequences.
  ///   - pattern: which keys a query sees, and what becomes of the scores.
  ///   - prefix: learned keys and values, which every query of every sequence sees; not beside a cache, which holds them.
  ///   - relative: what is added to scores by relative position; not beside a soft cap or a window. A prefix's keys are as far away as their places in front of the sequence say.
  ///   - keyLayout: how keys and values divide into sequences, where they are other ones than the queries', as many; each query then sees
  ///     all keys of the sequence with its own's number.
  /// - Returns: `[N, H·D]`.
  ///
  /// Source: Dao et al. 2022, Algorithm 1, <https://arxiv.org/abs/2205.14135>; grouped heads after Ainslie et al.
  /// 2023, <https://arxiv.org/abs/2305.13245>.
  public func attention(
    queries: Activation, keys: Activation, values: Activation, heads: Int, keyValueHeads: Int,
    layout: SequenceLayout, pattern: AttentionPattern = .causal,
    prefix: KeyValuePrefixWeights? = nil, relative: RelativePositions? = nil,
    keyLayout: SequenceLayout? = nil
  ) -> Activation {
    profile?.enter(.attention)
    defer { profile?.leave() }
    let pieces = layout.pieces
    precondition(
      queries.rows == layout.count && queries.columns % heads == 0 && heads % keyValueHeads == 0
        && keys.rows == keyLayout?.count ?? (queries.rows + pieces.count * layout.firstPosition)
        && values.rows == keys.rows
        && keys.columns == queries.columns / heads * keyValueHeads
        && values.columns == keys.columns,
      "attention: queries [\(queries.rows), \(queries.columns)], keys [\(keys.rows), \(keys.columns)], "
        + "values [\(values.rows), \(values.columns)], \(heads) heads on \(keyValueHeads), \(layout.count) rows"
    )
    precondition(
      pattern.isCausal || keyLayout != nil
        || pieces.allSatisfy { !$0.continues && $0.position == layout.firstPosition },
      "attention: a part of a sequence that sees all keys")
    if let prefix {
      precondition(
        layout.firstPosition == 0 && prefix.keys.shape == [prefix.count, keys.columns]
          && prefix.values.shape == prefix.keys.shape,
        "attention: a prefix of \(prefix.keys.shape) and \(prefix.values.shape) for keys of \(keys.columns) "
          + "behind \(layout.firstPosition)")
    }
    if let relative {
      precondition(
        pattern.softCap == nil && pattern.window == nil && share == nil
          && relative.table.shape.last == heads,
        "attention: relative positions \(relative.table.shape) for \(heads) heads, or beside what they do not go with"
      )
    }
    precondition(
      keyLayout == nil || (!pattern.isCausal && prefix == nil && share == nil),
      "attention: keys of other sequences are all seen")
    let output = makeActivation(
      rows: queries.rows, columns: queries.columns,
      needsGradient: queries.needsGradient || keys.needsGradient || values.needsGradient
        || prefix?.trains == true || relative?.table.trains == true)
    let record = AttentionRecord(
      queries: queries, keys: keys, values: values, heads: heads, keyValueHeads: keyValueHeads,
      pattern: pattern, prefix: prefix, relative: relative, prepended: layout.prepended,
      pieces: keyLayout.map { attentionPieces(pieces, keys, values, seeing: $0) }
        ?? attentionPieces(pieces, keys, values, layout),
      statistics: pool.take(2 * heads * AttentionRecord.statisticsStride(queries.rows)),
      output: output)
    record.forward(pool, team: isRecording ? nil : team)
    if output.needsGradient { self.record(.attention(record)) }
    return output
  }

  /// Where the keys and values are that each piece sees of another layout's sequences.
  private func attentionPieces(
    _ pieces: [SequenceLayout.Piece], _ keys: Activation, _ values: Activation,
    seeing layout: SequenceLayout
  ) -> [AttentionPiece] {
    let others = layout.pieces
    precondition(
      pieces.map(\.sequence) == others.map(\.sequence)
        && others.allSatisfy { $0.position == 0 && !$0.continues },
      "attention: \(pieces.count) sequences that see \(others.count) others")
    return zip(pieces, others).map { piece, other in
      AttentionPiece(
        piece: SequenceLayout.Piece(
          sequence: piece.sequence, row: piece.row, count: piece.count, position: 0,
          continues: false),
        keys: keys, values: values, keyRow: other.row, isShared: false, keyCount: other.count)
    }
  }

  /// Where each piece's keys and values are; what other workers hold is fetched.
  private func attentionPieces(
    _ pieces: [SequenceLayout.Piece], _ keys: Activation, _ values: Activation,
    _ layout: SequenceLayout
  ) -> [AttentionPiece] {
    var shared: (keys: Activation, values: Activation)?
    if let share {
      let meeting = share.nextMeeting(backward: false)
      if let last = pieces.last, last.continues {
        share.exchange.post(
          .init(first: keys, second: values), by: share.worker, at: meeting, backward: false,
          readers: share.holders(
            of: last.sequence, in: share.workersBehind, prepended: layout.prepended
          ).count)
      }
      if let first = pieces.first, first.position > 0 {
        shared = fetch(first, keys, values, share, meeting, layout)
      }
    }
    return pieces.enumerated().map { number, piece in
      if number == 0, let shared {
        return AttentionPiece(
          piece: piece, keys: shared.keys, values: shared.values, keyRow: 0, isShared: true)
      }
      return AttentionPiece(
        piece: piece, keys: keys, values: values,
        keyRow: piece.row + number * layout.firstPosition, isShared: false)
    }
  }

  /// The keys and values of a sequence whose beginning other workers hold.
  private func fetch(
    _ piece: SequenceLayout.Piece, _ keys: Activation, _ values: Activation,
    _ share: SequenceShare, _ meeting: Int, _ layout: SequenceLayout
  ) -> (keys: Activation, values: Activation) {
    let rows = piece.position + piece.count
    let allKeys = makeActivation(rows: rows, columns: keys.columns, needsGradient: false)
    let allValues = makeActivation(rows: rows, columns: values.columns, needsGradient: false)
    for (worker, other) in share.holders(
      of: piece.sequence, in: share.workersBefore, prepended: layout.prepended)
    {
      let post = share.exchange.take(from: worker, at: meeting, backward: false)
      post.first.rows(other.row..<other.row + other.count).copyRows(to: allKeys, at: other.position)
      post.second.rows(other.row..<other.row + other.count)
        .copyRows(to: allValues, at: other.position)
    }
    keys.rows(piece.row..<piece.row + piece.count).copyRows(to: allKeys, at: piece.position)
    values.rows(piece.row..<piece.row + piece.count).copyRows(to: allValues, at: piece.position)
    return (allKeys, allValues)
  }
}

/// Consecutive queries of one sequence, and where its keys and values are.
struct AttentionPiece {
  let piece: SequenceLayout.Piece
  let keys: Activation
  let values: Activation
  /// Row of the sequence's first key.
  let keyRow: Int
  /// Whether keys and values are copies, because other workers hold the sequence's beginning.
  let isShared: Bool
  /// How many keys there are, where they are another sequence's; `nil`: up to the last query's.
  var keyCount: Int? = nil
}

struct AttentionRecord {
  let queries: Activation
  let keys: Activation
  let values: Activation
  let heads: Int
  let keyValueHeads: Int
  let pattern: AttentionPattern
  let prefix: KeyValuePrefixWeights?
  let relative: RelativePositions?
  /// Rows in front of each sequence that belong to no token.
  let prepended: Int
  let pieces: [AttentionPiece]
  /// For each head each query's largest score, before scaling, then likewise 1 / Σ exp(…).
  let statistics: Buffer
  let output: Activation

  /// From one head's statistics to the next: kernels write whole panels.
  static func statisticsStride(_ rows: Int) -> Int { rows + ProductTile.columns }

  /// Up to so many queries are not worth packing keys for.
  private static let fewQueries = 4

  private var width: Int { queries.columns / heads }
  private var group: Int { heads / keyValueHeads }

  private func kernel(_ piece: AttentionPiece, _ pool: BufferPool) -> AttentionKernel {
    AttentionKernel(
      queryCount: piece.piece.count, firstPosition: piece.piece.position, pattern: pattern,
      width: width, pool: pool, keyCount: piece.keyCount)
  }

  /// What is added to scores by relative position, by head.
  private struct Lines {
    let buckets: [Int]
    let values: Buffer

    init(_ relative: RelativePositions, _ kernel: AttentionKernel) {
      buckets = relative.buckets(kernel)
      values = relative.lines(kernel, buckets)
    }

    func callAsFunction(_ head: Int) -> FloatPointer { values.pointer + head * buckets.count }
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
    statistics.pointer + (head * Self.statisticsStride(queries.rows) + piece.piece.row)
  }

  private func inverses(_ head: Int, _ piece: AttentionPiece) -> FloatPointer {
    tops(head, piece) + heads * Self.statisticsStride(queries.rows)
  }

  // Pieces in order: a panel's last statistics may lie where the next piece's first come.
  func forward(_ pool: BufferPool, team: ThreadTeam? = nil) {
    for piece in pieces {
      let piece = prefix?.joined(piece, pool) ?? piece
      // Kernels use bare pointers into what was joined.
      defer { withExtendedLifetime(piece) {} }
      let row = piece.piece.row
      let kernel = kernel(piece, pool)
      let lines = relative.map { Lines($0, kernel) }
      defer { withExtendedLifetime(lines) {} }
      if piece.piece.count <= Self.fewQueries, output.slot == nil {
        forwardByQuery(piece, kernel, lines, team)
        continue
      }
      for keyHead in 0..<keyValueHeads {
        let keyRows = rows(piece.keys, piece.keyRow, head: keyHead)
        let valueRows = rows(piece.values, piece.keyRow, head: keyHead)
        let heads = keyHead * group..<(keyHead + 1) * group
        let packedKeys = kernel.pack(keyRows, panels: false)
        let packedValues = kernel.pack(valueRows, panels: true)
        for head in heads {
          kernel.forward(
            queries: rows(queries, row, head: head), keys: packedKeys, values: packedValues,
            output: rows(output, row, head: head), tops: tops(head, piece),
            inverses: inverses(head, piece), relative: lines?(head))
        }
      }
    }
  }

  /// A few queries, the heads divided among a team.
  private func forwardByQuery(
    _ piece: AttentionPiece, _ kernel: AttentionKernel, _ relative: Lines?, _ team: ThreadTeam?
  ) {
    let row = piece.piece.row
    let room = (kernel.keyCount + lanes) / lanes * lanes
    let weights = kernel.pool.take(heads * room)
    defer { withExtendedLifetime(weights) {} }
    func attend(_ head: Int) {
      kernel.forwardByQuery(
        queries: rows(queries, row, head: head),
        keys: rows(piece.keys, piece.keyRow, head: head / group),
        values: rows(piece.values, piece.keyRow, head: head / group),
        output: rows(output, row, head: head), weights: weights.pointer + head * room,
        relative: relative?(head))
    }
    if let team {
      team.run(heads, attend)
    } else {
      for head in 0..<heads { attend(head) }
    }
  }

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    let dQ = queries.slot.map { clearedTarget(tape, queries, $0) }
    let dK = keys.slot.map { clearedTarget(tape, keys, $0) }
    let dV = values.slot.map { clearedTarget(tape, values, $0) }
    let meeting = tape.share?.nextMeeting(backward: true)
    let prefixGradient = prefix.map { KeyValuePrefixGradient(of: $0, tape) }
    for piece in pieces {
      let row = piece.piece.row
      let seen = prefix?.joined(piece, tape.pool) ?? piece
      defer { withExtendedLifetime(seen) {} }
      let kernel = kernel(seen, tape.pool)
      let lines = relative.map { Lines($0, kernel) }
      let lineGradient = relative?.table.trains == true ? lines.map { zeros($0, tape) } : nil
      defer { withExtendedLifetime((lines, lineGradient)) {} }
      // Of keys that others hold, workers or a prefix, the gradients collect beside, to be handed over.
      let beside = piece.isShared || prefix != nil ? zeros(like: seen, tape) : nil
      let keyTarget =
        keys.slot == nil && prefix?.keys.trains != true
        ? nil : beside.map { ($0.first.pointer, $0.first.stride) } ?? dK.map { ($0, keys.stride) }
      let valueTarget =
        values.slot == nil && prefix?.values.trains != true
        ? nil
        : beside.map { ($0.second.pointer, $0.second.stride) } ?? dV.map { ($0, values.stride) }
      for keyHead in 0..<keyValueHeads {
        let packedKeys = kernel.pack(
          rows(seen.keys, seen.keyRow, head: keyHead), panels: dQ != nil)
        let packedValues = kernel.pack(
          rows(seen.values, seen.keyRow, head: keyHead), panels: false)
        for head in keyHead * group..<(keyHead + 1) * group {
          kernel.backward(
            queries: rows(queries, row, head: head), keys: packedKeys, values: packedValues,
            output: rows(output, row, head: head),
            outputGradient: rows(gradient.pointer, output.stride, row, head: head),
            tops: tops(head, piece), inverses: inverses(head, piece),
            dQ: dQ.map { rows($0, queries.stride, row, head: head) },
            dK: keyTarget.map { rows($0.0, $0.1, seen.keyRow, head: keyHead) },
            dV: valueTarget.map { rows($0.0, $0.1, seen.keyRow, head: keyHead) },
            relative: lines?(head),
            dRelative: lines.flatMap { lines in
              lineGradient.map { $0.pointer + head * lines.buckets.count }
            })
        }
      }
      if let relative, let lines, let lineGradient {
        tape.addGradient(of: relative.table) {
          relative.addGradient(lineGradient.pointer, kernel, lines.buckets, to: $0)
        }
      }
      guard let beside else { continue }
      let own = prefixGradient?.take(beside) ?? beside
      if piece.isShared, let share = tape.share, let meeting {
        share.exchange.post(
          own, by: share.worker, at: meeting, backward: true,
          readers: share.holders(
            of: piece.piece.sequence, in: share.workersBefore, prepended: prepended
          ).count)
      }
      take(own, for: piece.piece, dK, dV)
    }
    if let last = pieces.last?.piece, last.continues, let share = tape.share, let meeting {
      for (worker, _) in share.holders(
        of: last.sequence, in: share.workersBehind, prepended: prepended)
      {
        let post = share.exchange.take(from: worker, at: meeting, backward: true)
        take(post, for: last, dK, dV)
      }
    }
    prefixGradient?.give(to: tape)
  }

  private func zeros(_ lines: Lines, _ tape: Tape) -> Buffer {
    let count = heads * lines.buckets.count
    let buffer = tape.pool.take(count)
    buffer.pointer.update(repeating: 0, count: count)
    return buffer
  }

  private func zeros(like piece: AttentionPiece, _ tape: Tape) -> SequenceExchange.Post {
    func matrix(_ columns: Int) -> Activation {
      let result = tape.makeActivation(
        rows: piece.keys.rows, columns: columns, needsGradient: false)
      result.pointer.update(repeating: 0, count: result.rows * columns)
      return result
    }
    return SequenceExchange.Post(
      first: matrix(piece.keys.columns), second: matrix(piece.values.columns))
  }

  /// Adds the part of gradients over a whole sequence that belongs to a piece.
  private func take(
    _ post: SequenceExchange.Post, for piece: SequenceLayout.Piece, _ dK: FloatPointer?,
    _ dV: FloatPointer?
  ) {
    for row in 0..<piece.count {
      if let dK {
        add(
          keys.columns, post.first.pointer + (piece.position + row) * post.first.stride,
          to: dK + (piece.row + row) * keys.stride)
      }
      if let dV {
        add(
          values.columns, post.second.pointer + (piece.position + row) * post.second.stride,
          to: dV + (piece.row + row) * values.stride)
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
