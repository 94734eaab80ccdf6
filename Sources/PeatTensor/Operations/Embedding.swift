extension Tape {
  /// Looks up a row of `table` for each token and, if the model has learned positions, adds the position's row.
  ///
  /// Equal to `table[tokens] + positions[t]`, t being a token's position in its sequence.
  ///
  /// `N` tokens, `V` vocabulary, `P` positions, `d` width.
  ///
  /// - Parameters:
  ///   - tokens: `N` token numbers, sequence by sequence, each below `V`.
  ///   - layout: how they divide into sequences.
  ///   - table: `[V, d]`.
  ///   - positions: `[P, d]`, with no sequence longer than `P`.
  /// - Returns: `[N, d]`.
  public func embedding(
    _ tokens: UnsafeBufferPointer<Int32>, layout: SequenceLayout, table: Weight,
    positions: Weight? = nil
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let width = table.shape[1]
    let vocabulary = table.shape[0]
    precondition(
      table.storedLayout(.outputsByInputs) == .outputsByInputs,
      "embedding: a packed table's groups run along its rows")
    precondition(
      tokens.count == layout.count, "embedding: \(tokens.count) tokens in \(layout.count) rows")
    if let positions {
      precondition(
        layout.positions <= positions.shape[0],
        "embedding: \(layout.positions) positions, the model has \(positions.shape[0])")
    }
    let trains = table.trains || positions?.trains == true
    let output = makeActivation(rows: tokens.count, columns: width, needsGradient: trains)
    for row in 0..<tokens.count {
      let token = Int(tokens[row])
      precondition(token >= 0 && token < vocabulary, "embedding: token \(token) of \(vocabulary)")
      let place = output.pointer + row * width
      table.accept(RowCopy(row: token, to: place))
    }
    if let positions {
      for piece in layout.pieces {
        add(
          piece.count * width, positions.pointer + piece.position * width,
          to: output.pointer + piece.row * width)
      }
    }
    if output.needsGradient {
      record(
        .embedding(
          EmbeddingRecord(
            tokens: Array(tokens), layout: layout, table: table, positions: positions,
            output: output.shapeOnly)))
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
  let layout: SequenceLayout
  let table: Weight
  let positions: Weight?
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = output.columns
    tape.addGradient(of: table) { tableGradient in
      for row in 0..<output.rows {
        add(width, gradient.pointer + row * width, to: tableGradient + Int(tokens[row]) * width)
      }
    }
    if let positions {
      tape.addGradient(of: positions) { positionGradient in
        for piece in layout.pieces {
          add(
            piece.count * width, gradient.pointer + piece.row * width,
            to: positionGradient + piece.position * width)
        }
      }
    }
  }
}
