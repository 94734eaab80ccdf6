/// The right factor of a product, read a panel at a time: rows of 16 neighbouring columns.
///
/// A panel is read once and then used for every row of the left factor, so what it costs to bring a weight from its
/// storage into floats is divided by the number of rows.
protocol PanelSource {
  /// Writes rows `firstRow..<firstRow + count` of columns `firstColumn..<firstColumn + 16` to `panel`, 16 floats a
  /// row. Columns past the last are written as 0.
  func fill(_ panel: FloatPointer, firstRow: Int, count: Int, firstColumn: Int)
}

/// A matrix as it lies.
struct RowPanels<Matrix: MatrixReader>: PanelSource {
  let matrix: Matrix

  func fill(_ panel: FloatPointer, firstRow: Int, count: Int, firstColumn: Int) {
    var place = panel
    if firstColumn &+ 8 < matrix.columns {
      for row in firstRow..<firstRow + count {
        store(matrix.eight(row, firstColumn), place)
        store(matrix.eight(row, firstColumn &+ 8), place + 8)
        place += 16
      }
    } else {
      for row in firstRow..<firstRow + count {
        store(matrix.eight(row, firstColumn), place)
        store(Vector.zero, place + 8)
        place += 16
      }
    }
  }
}

/// The transpose of a matrix: element (k, j) is the matrix's (j, k).
struct ColumnPanels<Matrix: MatrixReader>: PanelSource {
  let matrix: Matrix
  /// Rows of the matrix, columns of its transpose.
  let columns: Int

  func fill(_ panel: FloatPointer, firstRow: Int, count: Int, firstColumn: Int) {
    let width = columns - firstColumn
    guard width >= 16 else {
      fillEdge(panel, firstRow, count, firstColumn, width)
      return
    }
    var k = 0
    while k &+ 8 <= count {
      transpose8(firstColumn, firstRow &+ k, to: panel + (k &* 16))
      transpose8(firstColumn &+ 8, firstRow &+ k, to: panel + (k &* 16 &+ 8))
      k &+= 8
    }
    if k < count {
      for j in 0..<16 {
        let values = matrix.eight(firstColumn + j, firstRow + k)
        for lane in 0..<count - k { panel[(k + lane) * 16 + j] = values[lane] }
      }
    }
  }

  /// Fewer than 16 columns are left; the rest of the panel is 0.
  private func fillEdge(
    _ panel: FloatPointer, _ firstRow: Int, _ count: Int, _ firstColumn: Int, _ width: Int
  ) {
    panel.update(repeating: 0, count: 16 * count)
    for j in 0..<width {
      var k = 0
      while k < count {
        let values = matrix.eight(firstColumn + j, firstRow + k)
        for lane in 0..<min(8, count - k) { panel[(k + lane) * 16 + j] = values[lane] }
        k += 8
      }
    }
  }

  /// Writes eight rows of eight values as columns, rows of the panel being 16 floats apart.
  @inline(__always) private func transpose8(_ row: Int, _ column: Int, to place: FloatPointer) {
    let r0 = matrix.eight(row, column)
    let r1 = matrix.eight(row &+ 1, column)
    let r2 = matrix.eight(row &+ 2, column)
    let r3 = matrix.eight(row &+ 3, column)
    let r4 = matrix.eight(row &+ 4, column)
    let r5 = matrix.eight(row &+ 5, column)
    let r6 = matrix.eight(row &+ 6, column)
    let r7 = matrix.eight(row &+ 7, column)
    // Each line becomes a few shuffles.
    store(Vector(r0[0], r1[0], r2[0], r3[0], r4[0], r5[0], r6[0], r7[0]), place)
    store(Vector(r0[1], r1[1], r2[1], r3[1], r4[1], r5[1], r6[1], r7[1]), place + 16)
    store(Vector(r0[2], r1[2], r2[2], r3[2], r4[2], r5[2], r6[2], r7[2]), place + 32)
    store(Vector(r0[3], r1[3], r2[3], r3[3], r4[3], r5[3], r6[3], r7[3]), place + 48)
    store(Vector(r0[4], r1[4], r2[4], r3[4], r4[4], r5[4], r6[4], r7[4]), place + 64)
    store(Vector(r0[5], r1[5], r2[5], r3[5], r4[5], r5[5], r6[5], r7[5]), place + 80)
    store(Vector(r0[6], r1[6], r2[6], r3[6], r4[6], r5[6], r6[6], r7[6]), place + 96)
    store(Vector(r0[7], r1[7], r2[7], r3[7], r4[7], r5[7], r6[7], r7[7]), place + 112)
  }
}

extension RowPanels where Matrix == DenseReader {
  init(_ pointer: FloatPointer, stride: Int, columns: Int) {
    self.init(matrix: DenseReader(pointer: pointer, stride: stride, columns: columns))
  }
}

extension ColumnPanels where Matrix == DenseReader {
  /// The transpose of `[columns, depth]`.
  init(_ pointer: FloatPointer, stride: Int, depth: Int, columns: Int) {
    self.init(
      matrix: DenseReader(pointer: pointer, stride: stride, columns: depth), columns: columns)
  }
}
