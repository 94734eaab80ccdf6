extension Tape {
  /// Looks up a row of `table` for each token and, if the model has learned positions, adds the position's row.
  ///
  /// Equal to `table[tokens] + positions[firstPosition + t]`.
  ///
  /// `B` sequences of `T` tokens, `V` vocabulary, `P` positions, `d` width.
  ///
  /// - Parameters:
  ///   - tokens: `B·T` token numbers, sequence by sequence, each below `V`.
  ///   - length: `T`.
  ///   - table: `[V, d]`.
  ///   - positions: `[P, d]`, with `firstPosition + T ≤ P`.
  /// - Returns: `[B·T, d]`.
  public func embedding(
    _ tokens: UnsafeBufferPointer<Int32>, length: Int, table: Weight, positions: Weight? = nil,
    firstPosition: Int = 0
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let width = table.shape[1]
    let vocabulary = table.shape[0]
    precondition(
      length > 0 && tokens.count % length == 0,
      "embedding: \(tokens.count) tokens in rows of \(length)")
    if let positions {
      precondition(
        firstPosition + length <= positions.shape[0],
        "embedding: \(firstPosition + length) positions, the model has \(positions.shape[0])")
    }
    let trains = table.trains || positions?.trains == true
    let output = makeActivation(rows: tokens.count, columns: width, needsGradient: trains)
    for row in 0..<tokens.count {
      let token = Int(tokens[row])
      precondition(token >= 0 && token < vocabulary, "embedding: token \(token) of \(vocabulary)")
      let place = output.pointer + row * width
      table.accept(RowCopy(row: token, to: place))
      if let positions {
        add(width, positions.pointer + (firstPosition + row % length) * width, to: place)
      }
    }
    if output.needsGradient {
      record(
        .embedding(
          EmbeddingRecord(
            tokens: Array(tokens), length: length, table: table, positions: positions,
            firstPosition: firstPosition, output: output)))
    }
    return output
  }
}

/// Writes a row of a matrix as floats.
struct RowCopy: MatrixVisitor {
  let row: Int
  let place: FloatPointer

  init(row: Int, to place: FloatPointer) {
    self.row = row
    self.place = place
  }

  func visit(_ matrix: some MatrixReader) {
    var column = 0
    while column &+ lanes <= matrix.columns {
      store(matrix.vector(row, column), place + column)
      column &+= lanes
    }
    if column < matrix.columns {
      store(matrix.vector(row, column), place + column, first: matrix.columns - column)
    }
  }
}

struct EmbeddingRecord {
  let tokens: [Int32]
  let length: Int
  let table: Weight
  let positions: Weight?
  let firstPosition: Int
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = output.columns
    let tableGradient = tape.gradientPointer(of: table)
    let positionGradient = positions.flatMap { tape.gradientPointer(of: $0) }
    for row in 0..<output.rows {
      let source = gradient.pointer + row * width
      if let tableGradient { add(width, source, to: tableGradient + Int(tokens[row]) * width) }
      if let positionGradient {
        add(width, source, to: positionGradient + (firstPosition + row % length) * width)
      }
    }
  }
}
