/// Matrix products of our own, for weights: the right factor comes from a `PanelSource`, and a low-rank update rides
/// along as a few more rows of it.
///
/// The left factor is packed into strips as high as a `ProductTile`, the right one into panels as wide; the tile of the
/// result stays in registers.
///
/// Source: Goto and van de Geijn 2008, <https://doi.org/10.1145/1356052.1356053>.
enum PanelProduct {
  private static var stripRows: Int { @inline(__always) get { ProductTile.rows } }
  static var panelColumns: Int { @inline(__always) get { ProductTile.columns } }
  /// At most so many rows and so much depth are packed at a time: about 1.5 MB.
  private static let blockRows = 516
  private static let blockDepth = 800

  /// A low-rank update: `s · (x · down) · up`, with `x · down` kept.
  struct LowRank<Down: PanelSource, Up: PanelSource> {
    /// `[k, r]`.
    let down: Down
    /// `[r, n]`.
    let up: Up
    let rank: Int
    let scale: Float
    /// Takes `x · down`, `[m, r]`.
    let projected: FloatPointer
  }

  /// A matrix as one of the factors, or the result, lies in memory.
  struct Layout {
    /// Rows are so many floats apart.
    let stride: Int
    /// Columns that lie together, a multiple of 32: after them come all rows of the next so many.
    let block: Int

    /// Row by row.
    static func rows(_ stride: Int) -> Layout { Layout(stride: stride, block: .max) }

    /// A wide matrix as several narrow ones of `width` columns, one after the other.
    static func blocks(_ width: Int) -> Layout { Layout(stride: width, block: width) }

    /// Where a column of the first row lies, in a matrix of so many rows.
    @inline(__always) func offset(ofColumn column: Int, rows: Int) -> Int {
      block == .max ? column : column / block &* (rows &* block) &+ column % block
    }
  }

  /// out = x · source + start.
  static func compute(
    rows: Int, columns: Int, depth: Int, x: FloatPointer, layout: Layout,
    source: some PanelSource, out: FloatPointer, outLayout: Layout, start: ProductStart = .zero,
    pool: BufferPool
  ) {
    let none: LowRank<RowPanels<DenseReader>, RowPanels<DenseReader>>? = nil
    compute(
      rows: rows, columns: columns, depth: depth, x: x, layout: layout, source: source,
      lowRank: none, out: out, outLayout: outLayout, start: start, pool: pool)
  }

  /// out = xᵀ · source + start.
  ///
  /// - Parameters:
  ///   - x: `[k, m]`, rows `stride` floats apart.
  static func computeTransposed(
    rows: Int, columns: Int, depth: Int, x: FloatPointer, stride: Int, source: some PanelSource,
    out: FloatPointer, outStride: Int, start: ProductStart, pool: BufferPool
  ) {
    if rows == 0 || columns == 0 { return }
    let rowsAtATime = part(of: rows, atMost: blockRows, multipleOf: stripRows)
    let depthAtATime = part(of: depth, atMost: blockDepth, multipleOf: lanes)
    let strips = pool.take(ProductTile.wholeRows(rowsAtATime) * depthAtATime)
    let panel = pool.take(panelColumns * depthAtATime)
    let tile = pool.take(stripRows * panelColumns)
    defer { withExtendedLifetime((strips, panel, tile)) {} }
    for firstRow in Swift.stride(from: 0, to: rows, by: rowsAtATime) {
      let target = out + firstRow * outStride
      for firstDepth in Swift.stride(from: 0, to: depth, by: depthAtATime) {
        let block = Block(
          strips: strips.pointer, panel: panel.pointer, tile: tile.pointer,
          rows: min(rowsAtATime, rows - firstRow), length: min(depthAtATime, depth - firstDepth))
        ProductTile.packTransposed(
          x + (firstDepth * stride + firstRow), columns: block.rows, depth: block.length,
          stride: stride, into: block.strips, length: block.length)
        multiply(
          block, depth: block.length, columns: columns, out: target, layout: .rows(outStride),
          rows: rows,
          start: firstDepth > 0
            ? .values(target, stride: outStride) : start.from(row: firstRow, column: 0)
        ) { panel, column in
          source.fill(panel, firstRow: firstDepth, count: block.length, firstColumn: column)
        } lines: { column in
          source.lines(firstRow: firstDepth, count: block.length, firstColumn: column)
        }
      }
    }
  }

  /// out = x · source + s · (x · down) · up + start.
  ///
  /// - Parameters:
  ///   - rows: m, of `x` and `out`.
  ///   - columns: n, of `source` and `out`.
  ///   - depth: k, columns of `x` and rows of `source`.
  ///   - x: `[m, k]`.
  ///   - out: `[m, n]`.
  static func compute<Source: PanelSource, Down: PanelSource, Up: PanelSource>(
    rows: Int, columns: Int, depth: Int, x: FloatPointer, layout: Layout, source: Source,
    lowRank: LowRank<Down, Up>?, out: FloatPointer, outLayout: Layout,
    start: ProductStart, pool: BufferPool
  ) {
    precondition(
      outLayout.block == .max || start.rows == nil && start.bias == nil,
      "PanelProduct: a start for a result in blocks")
    if rows == 0 || columns == 0 { return }
    let rank = lowRank?.rank ?? 0
    let rowsAtATime = part(of: rows, atMost: blockRows, multipleOf: stripRows)
    let depthAtATime =
      layout.block == .max ? part(of: depth, atMost: blockDepth, multipleOf: lanes) : layout.block
    let stripLength = depthAtATime + rank
    // The last column of a strip is written a register at a time.
    let strips = pool.take(ProductTile.wholeRows(rowsAtATime) * stripLength + lanes)
    let panel = pool.take(panelColumns * stripLength)
    let tile = pool.take(stripRows * panelColumns)
    defer { withExtendedLifetime((strips, panel, tile)) {} }
    var block = Block(
      strips: strips.pointer, panel: panel.pointer, tile: tile.pointer, rows: 0, length: 0)

    var firstRow = 0
    while firstRow < rows {
      block.rows = min(rowsAtATime, rows - firstRow)
      var firstDepth = 0
      repeat {
        let count = min(depthAtATime, depth - firstDepth)
        let isLast = firstDepth + count >= depth
        block.length = count + (isLast ? rank : 0)
        let first = layout.offset(ofColumn: firstDepth, rows: rows) + firstRow * layout.stride
        ProductTile.pack(
          x + first, rows: block.rows, depth: count, stride: layout.stride, into: block.strips,
          length: block.length)
        if let lowRank {
          let projected = lowRank.projected + firstRow * rank
          multiply(
            block, depth: count, columns: rank, out: projected, layout: .rows(rank), rows: rows,
            start: firstDepth > 0 ? .values(projected, stride: rank) : .zero
          ) { panel, column in
            lowRank.down.fill(panel, firstRow: firstDepth, count: count, firstColumn: column)
          } lines: { _ in
            .none
          }
          if isLast { append(block, after: count, projected, rank, lowRank.scale) }
        }
        let target = out + firstRow * outLayout.stride
        multiply(
          block, depth: block.length, columns: columns, out: target, layout: outLayout, rows: rows,
          start: firstDepth > 0
            ? .values(target, stride: outLayout.stride) : start.from(row: firstRow, column: 0)
        ) { panel, column in
          source.fill(panel, firstRow: firstDepth, count: count, firstColumn: column)
          if isLast, let lowRank {
            lowRank.up.fill(
              panel + count * panelColumns, firstRow: 0, count: rank, firstColumn: column)
          }
        } lines: { column in
          source.lines(firstRow: firstDepth, count: count, firstColumn: column)
        }
        firstDepth += count
      } while firstDepth < depth
      firstRow += block.rows
    }
  }

  /// Packed memory and what it holds now.
  private struct Block {
    let strips: FloatPointer
    let panel: FloatPointer
    let tile: FloatPointer
    var rows: Int
    /// Columns of the left factor in a strip, those of a low-rank update included.
    var length: Int
  }

  private static func roundedUp(_ value: Int, to unit: Int) -> Int {
    (value + unit - 1) / unit * unit
  }

  /// `total` in as few equal parts of at most `limit` as there can be: the size of one.
  private static func part(of total: Int, atMost limit: Int, multipleOf unit: Int) -> Int {
    let parts = max(1, (total + limit - 1) / limit)
    return max(unit, roundedUp((total + parts - 1) / parts, to: unit))
  }

  /// Writes s · projected behind the packed columns.
  private static func append(
    _ block: Block, after depth: Int, _ projected: FloatPointer, _ rank: Int, _ scale: Float
  ) {
    for row in 0..<ProductTile.wholeRows(block.rows) {
      let place =
        block.strips + row / stripRows * stripRows * block.length + depth * stripRows
        + row % stripRows
      for r in 0..<rank {
        place[r * stripRows] = row < block.rows ? scale * projected[row * rank + r] : 0
      }
    }
  }

  /// out = strips · panels + start, over the first `depth` columns of the strips. `lines` says what the panel at a column
  /// will be filled from.
  @inline(__always) private static func multiply(
    _ block: Block, depth: Int, columns: Int, out: FloatPointer, layout: Layout, rows: Int,
    start: ProductStart, fill: (FloatPointer, Int) -> Void, lines: (Int) -> LineWalk
  ) {
    let outStride = layout.stride
    let panel = block.panel
    let stripFloats = stripRows * block.length
    var column = 0
    while column < columns {
      fill(panel, column)
      var walk = column &+ panelColumns < columns ? lines(column &+ panelColumns) : .none
      var strip = block.strips
      let offset = layout.offset(ofColumn: column, rows: rows)
      // Only results that lie row by row start from something, or from themselves: their columns lie as `out`'s.
      var tileStart = start
      tileStart.rows = start.rows.map { $0 + offset }
      tileStart.bias = start.bias.map { $0 + column }
      var place = out + offset
      var row = 0
      if column &+ panelColumns <= columns {
        while row &+ stripRows <= block.rows {
          ProductTile.compute(
            depth, strip, panel, place, outStride, tileStart, &walk, FullTile.self)
          tileStart.rows = tileStart.rows.map { $0 + stripRows &* tileStart.stride }
          strip += stripFloats
          place += stripRows &* outStride
          row &+= stripRows
        }
      }
      while row < block.rows {
        ProductTile.computePart(
          rows: block.rows - row, columns: columns - column, depth, strip, panel, place, outStride,
          tileStart, beside: block.tile)
        tileStart.rows = tileStart.rows.map { $0 + stripRows &* tileStart.stride }
        strip += stripFloats
        place += stripRows &* outStride
        row &+= stripRows
      }
      column &+= panelColumns
    }
  }
}
