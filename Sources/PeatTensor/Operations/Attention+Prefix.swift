/// Learned keys and values that stand in front of those of every sequence.
///
/// Source: Li and Liang 2021, <https://arxiv.org/abs/2101.00190>.
public struct KeyValuePrefixWeights {
  /// `[P, G·D]`.
  package let keys: Weight
  /// `[P, G·D]`.
  package let values: Weight

  package init(keys: Weight, values: Weight) {
    self.keys = keys
    self.values = values
  }

  /// P.
  package var count: Int { keys.shape[0] }
  var trains: Bool { keys.trains || values.trains }

  /// A piece whose keys and values begin with the prefix, in memory of their own: copied again for each pass, so that none is held between
  /// them.
  func joined(_ piece: AttentionPiece, _ pool: BufferPool) -> AttentionPiece {
    let position = piece.piece.position
    let rows = position + piece.piece.count
    func join(_ prefix: Weight, _ own: Activation) -> Activation {
      let all = Activation(
        buffer: pool.take((count + rows) * own.columns), rows: count + rows, columns: own.columns,
        stride: own.columns, slot: nil)
      all.pointer.update(from: prefix.pointer, count: count * own.columns)
      own.rows(piece.keyRow..<piece.keyRow + rows).copyRows(to: all, at: count)
      return all
    }
    return AttentionPiece(
      piece: SequenceLayout.Piece(
        sequence: piece.piece.sequence, row: piece.piece.row, count: piece.piece.count,
        position: count + position, continues: piece.piece.continues),
      keys: join(keys, piece.keys), values: join(values, piece.values), keyRow: 0,
      isShared: piece.isShared)
  }
}

/// The gradient with respect to a prefix, summed over a worker's sequences before it is added to the others': once for each attention.
struct KeyValuePrefixGradient {
  private let prefix: KeyValuePrefixWeights
  private let keys: Buffer
  private let values: Buffer

  init(of prefix: KeyValuePrefixWeights, _ tape: Tape) {
    self.prefix = prefix
    let size = prefix.count * prefix.keys.shape[1]
    keys = tape.pool.take(size)
    values = tape.pool.take(size)
    for buffer in [keys, values] { buffer.pointer.update(repeating: 0, count: size) }
  }

  /// Takes the prefix's rows out of the gradients of a piece's keys and values, and gives back the others.
  func take(_ all: SequenceExchange.Post) -> SequenceExchange.Post {
    func rest(_ gradient: Activation, _ sum: Buffer) -> Activation {
      add(prefix.count * gradient.columns, gradient.pointer, to: sum.pointer)
      return gradient.rows(prefix.count..<gradient.rows)
    }
    return SequenceExchange.Post(first: rest(all.first, keys), second: rest(all.second, values))
  }

  func give(to tape: Tape) {
    let size = prefix.count * prefix.keys.shape[1]
    tape.addGradient(of: prefix.keys) { add(size, keys.pointer, to: $0) }
    tape.addGradient(of: prefix.values) { add(size, values.pointer, to: $0) }
  }
}
