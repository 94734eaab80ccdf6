extension Tape {
  /// Rows of a table of constants, `[N, d]`; zeros where a number is below 0.
  ///
  /// - Parameters:
  ///   - numbers: `N` rows of the table.
  ///   - table: `[rows, d]`.
  package func constantRows(
    _ numbers: UnsafeBufferPointer<Int32>, of table: Tensor
  ) -> Activation {
    let width = table.shape[1]
    let output = makeActivation(rows: numbers.count, columns: width, needsGradient: false)
    for (row, number) in numbers.enumerated() {
      precondition(number < table.shape[0], "constantRows: row \(number) of \(table.shape[0])")
      let place = output.pointer + row * width
      if number < 0 {
        place.update(repeating: 0, count: width)
      } else {
        place.update(from: table.pointer + Int(number) * width, count: width)
      }
    }
    return output
  }

  /// Patches of pictures with what stands beside them: learned rows in the places of a model's own tokens, and a learned row per position added to all.
  ///
  /// `N` rows, `d` width, `P` positions.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`, picture by picture.
  ///   - numbers: for each row a number, below 0 where one of `own` stands: −1 the first.
  ///   - layout: how the rows divide into pictures, each whole.
  ///   - own: `d` values each.
  ///   - positions: `P · d` values.
  /// - Returns: `[N, d]`.
  ///
  /// Source: Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>, equation 1.
  package func imageEmbedding(
    _ x: Activation, _ numbers: UnsafeBufferPointer<Int32>, layout: SequenceLayout, own: [Weight],
    positions: Weight?
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    let width = x.columns
    precondition(
      x.rows == numbers.count && x.rows == layout.count, "imageEmbedding: \(x.rows) rows")
    let output = makeActivation(
      rows: x.rows, columns: width,
      needsGradient: x.needsGradient || (own + [positions].compactMap { $0 }).contains { $0.trains }
    )
    for (row, number) in numbers.enumerated() {
      let source =
        number < 0 ? own[Int(-1 - number)].pointer : x.pointer + row * x.stride
      (output.pointer + row * width).update(from: source, count: width)
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
        .imageEmbedding(
          ImageEmbeddingRecord(
            input: x.shapeOnly, numbers: Array(numbers), layout: layout, own: own,
            positions: positions, output: output.shapeOnly)))
    }
    return output
  }
}

struct ImageEmbeddingRecord {
  let input: Activation
  let numbers: [Int32]
  let layout: SequenceLayout
  let own: [Weight]
  let positions: Weight?
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    defer { withExtendedLifetime(gradient) {} }
    let width = output.columns
    for (number, weight) in own.enumerated() {
      tape.addGradient(of: weight) { sum in
        for (row, other) in numbers.enumerated() where Int(-1 - other) == number {
          add(width, gradient.pointer + row * width, to: sum)
        }
      }
    }
    if let positions {
      tape.addGradient(of: positions) { sum in
        for piece in layout.pieces {
          add(
            piece.count * width, gradient.pointer + piece.row * width,
            to: sum + piece.position * width)
        }
      }
    }
    guard let slot = input.slot else { return }
    let (target, isFresh) = tape.gradientTarget(for: input, in: slot)
    if isFresh { target.update(repeating: 0, count: input.rows * input.stride) }
    for (row, number) in numbers.enumerated() where number >= 0 {
      add(width, gradient.pointer + row * width, to: target + row * input.stride)
    }
  }
}
