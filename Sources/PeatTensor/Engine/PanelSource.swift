/// The right factor of a product, read a panel at a time: rows of `PanelProduct.panelColumns` neighbouring columns.
///
/// A panel is read once and then used for every row of the left factor, so what it costs to bring a weight from its
/// storage into floats is divided by the number of rows.
protocol PanelSource {
  /// Writes rows `firstRow..<firstRow + count` of the columns from `firstColumn` on to `panel`, a panel's width a row: as
  /// many registers of each as there are columns for. Columns past the last are written as 0.
  ///
  /// - Precondition: `firstRow` is a multiple of `lanes`, `firstColumn` of the panel's width.
  func fill(_ panel: FloatPointer, firstRow: Int, count: Int, firstColumn: Int)

  /// The lines that `fill` will read.
  func lines(firstRow: Int, count: Int, firstColumn: Int) -> LineWalk

  /// Where rows of floats lie that a panel is a part of; `nil` where it must be filled.
  func rowsInPlace(firstRow: Int, firstColumn: Int) -> (pointer: FloatPointer, stride: Int)?
}

extension PanelSource {
  @inline(__always) func rowsInPlace(
    firstRow: Int, firstColumn: Int
  ) -> (pointer: FloatPointer, stride: Int)? { nil }
}

/// A matrix as it lies.
struct RowPanels<Matrix: MatrixReader>: PanelSource {
  let matrix: Matrix

  func fill(_ panel: FloatPointer, firstRow: Int, count: Int, firstColumn: Int) {
    let width = PanelProduct.panelColumns
    var place = panel
    if firstColumn &+ width <= matrix.columns {
      for row in firstRow..<firstRow + count {
        for part in 0..<ProductTile.registers {
          store(matrix.vector(row, firstColumn &+ part &* lanes), place + part &* lanes)
        }
        place += width
      }
      return
    }
    let left = matrix.columns - firstColumn
    for row in firstRow..<firstRow + count {
      for first in stride(from: 0, to: left, by: lanes) {
        store(matrix.vector(row, firstColumn + first), place + first)
        let inside = min(left - first, lanes)
        (place + first + inside).update(repeating: 0, count: lanes - inside)
      }
      place += width
    }
  }

  @inline(__always) func rowsInPlace(
    firstRow: Int, firstColumn: Int
  ) -> (pointer: FloatPointer, stride: Int)? {
    matrix.floats(firstRow, firstColumn)
  }
}

extension RowPanels {
  func lines(firstRow: Int, count: Int, firstColumn: Int) -> LineWalk {
    matrix.lines(
      rows: firstRow..<firstRow + count,
      columns: firstColumn..<min(firstColumn + PanelProduct.panelColumns, matrix.columns))
  }
}

/// The transpose of a matrix: element (k, j) is the matrix's (j, k).
struct ColumnPanels<Matrix: MatrixReader>: PanelSource {
  let matrix: Matrix
  /// Rows of the matrix, columns of its transpose.
  let columns: Int

  func fill(_ panel: FloatPointer, firstRow: Int, count: Int, firstColumn: Int) {
    let width = PanelProduct.panelColumns
    for part in 0..<ProductTile.registers {
      let first = firstColumn &+ part &* lanes
      let inside = min(columns - first, lanes)
      if inside <= 0 { return }
      let place = panel + part &* lanes
      var k = 0
      if inside == lanes {
        while k &+ lanes <= count {
          let row = firstRow &+ k
          storeTransposed(to: place + k &* width, stride: width) {
            matrix.vector(first &+ $0, row)
          }
          k &+= lanes
        }
      }
      while k < count {
        for lane in 0..<min(lanes, count - k) where inside < lanes {
          store(.zero, place + (k + lane) * width)
        }
        for j in 0..<inside {
          let values = matrix.vector(first + j, firstRow + k)
          for lane in 0..<min(lanes, count - k) { place[(k + lane) * width + j] = values[lane] }
        }
        k += lanes
      }
    }
  }
}

extension ColumnPanels {
  func lines(firstRow: Int, count: Int, firstColumn: Int) -> LineWalk {
    matrix.lines(
      rows: firstColumn..<min(firstColumn + PanelProduct.panelColumns, columns),
      columns: firstRow..<firstRow + count)
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
