extension Tape {
  /// Looks up a row of `table` for each token and, if the model has learned positions, adds the position's row.
  ///
  /// Equal to `scale · table[tokens] + positions[t + o] + shared[types]`, t being a token's position in its sequence.
  ///
  /// Rows that the layout has in front of sequences belong to no token: they are the rows of `prompt` instead.
  ///
  /// `N` tokens, `V` vocabulary, `P` positions, `d` width.
  ///
  /// - Parameters:
  ///   - tokens: `N` token numbers, sequence by sequence, each below `V`.
  ///   - layout: how they divide into sequences.
  ///   - table: `[V, d]`.
  ///   - scale: what the table's rows are multiplied with.
  ///   - positions: `[P, d]`, with no sequence longer than `P − o`.
  ///   - firstPosition: o, the row of a sequence's first token.
  ///   - shared: rows of which one is added to each token, by its type, `[types, d]`.
  ///   - types: for each of the tokens the row of `shared`; the first if not given, and for a prompt's rows.
  ///   - prompt: as many rows as the layout has in front of each sequence, `d` wide.
  /// - Returns: `[N, d]`, or the layout's rows where it has some in front of sequences.
  public func embedding(
    _ tokens: UnsafeBufferPointer<Int32>, layout: SequenceLayout, table: Weight,
    scale: Float = 1, positions: Weight? = nil, firstPosition: Int = 0, shared: Weight? = nil,
    types: UnsafeBufferPointer<Int32>? = nil, prompt: Weight? = nil
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let width = table.shape[1]
    let vocabulary = table.shape[0]
    precondition(
      table.storedLayout(.outputsByInputs) == .outputsByInputs,
      "embedding: a packed table's groups run along its rows")
    let prompt = layout.prepended > 0 ? prompt : nil
    precondition(
      prompt?.shape ?? [0, width] == [layout.prepended, width],
      "embedding: a prompt \(prompt?.shape ?? []) for \(layout.prepended) rows of \(width)")
    let places = layout.tokenRows
    let count = places.reduce(0) { $0 + $1.count }
    precondition(tokens.count == count, "embedding: \(tokens.count) tokens in \(count) rows")
    if let positions {
      precondition(
        layout.positions + firstPosition <= positions.shape[0],
        "embedding: \(layout.positions) positions from \(firstPosition) on, the model has \(positions.shape[0])"
      )
    }
    let trains = [table, positions, shared, prompt].contains { $0?.trains == true }
    let output = makeActivation(rows: layout.count, columns: width, needsGradient: trains)
    var number = 0
    for row in places.joined() {
      let token = Int(tokens[number])
      precondition(token >= 0 && token < vocabulary, "embedding: token \(token) of \(vocabulary)")
      let place = output.pointer + row * width
      table.accept(RowCopy(row: token, to: place))
      if scale != 1 { PeatTensor.scale(width, place, by: scale) }
      number += 1
    }
    if let prompt {
      for (row, rows) in layout.prependedRows {
        (output.pointer + row * width).update(
          from: prompt.pointer + rows.lowerBound * width, count: rows.count * width)
      }
    }
    if let positions {
      for piece in layout.pieces {
        add(
          piece.count * width, positions.pointer + (firstPosition + piece.position) * width,
          to: output.pointer + piece.row * width)
      }
    }
    let types = shared == nil ? nil : types.map { rowTypes($0, layout) }
    if let shared {
      for row in 0..<output.rows {
        let type = types?[row] ?? 0
        precondition(type >= 0 && type < shared.shape[0], "embedding: type \(type)")
        add(width, shared.pointer + type * width, to: output.pointer + row * width)
      }
    }
    if output.needsGradient {
      record(
        .embedding(
          EmbeddingRecord(
            tokens: Array(tokens), layout: layout, table: table, scale: scale,
            positions: positions, firstPosition: firstPosition, shared: shared, types: types,
            prompt: prompt, output: output.shapeOnly)))
    }
    return output
  }

  /// The type of each of a layout's rows; those of a prompt have the first.
  private func rowTypes(_ types: UnsafeBufferPointer<Int32>, _ layout: SequenceLayout) -> [Int] {
    var rows = Array(repeating: 0, count: layout.count)
    var number = 0
    for row in layout.tokenRows.joined() {
      rows[row] = Int(types[number])
      number += 1
    }
    return rows
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
  let scale: Float
  let positions: Weight?
  let firstPosition: Int
  let shared: Weight?
  /// For each row; all are the first if not given.
  let types: [Int]?
  let prompt: Weight?
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    let width = output.columns
    tape.addGradient(of: table) { tableGradient in
      var number = 0
      for row in layout.tokenRows.joined() {
        addScaled(
          width, scale, gradient.pointer + row * width,
          to: tableGradient + Int(tokens[number]) * width)
        number += 1
      }
    }
    if let prompt {
      tape.addGradient(of: prompt) { promptGradient in
        for (row, rows) in layout.prependedRows {
          add(
            rows.count * width, gradient.pointer + row * width,
            to: promptGradient + rows.lowerBound * width)
        }
      }
    }
    if let positions {
      tape.addGradient(of: positions) { positionGradient in
        for piece in layout.pieces {
          add(
            piece.count * width, gradient.pointer + piece.row * width,
            to: positionGradient + (firstPosition + piece.position) * width)
        }
      }
    }
    if let shared {
      tape.addGradient(of: shared) { sharedGradient in
        for row in 0..<output.rows {
          add(
            width, gradient.pointer + row * width, to: sharedGradient + (types?[row] ?? 0) * width)
        }
      }
    }
  }
}
