/// Matrix products of our own, for weights: the right factor comes from a `PanelSource`, and a low-rank update rides
/// along as a few more rows of it.
///
/// The right factor is packed into panels as wide as a `ProductTile`; the left one is read where it lies; the tile of the
/// result stays in registers.
///
/// After Goto and van de Geijn 2008, <https://doi.org/10.1145/1356052.1356053>.
enum PanelProduct {
  private static var stripRows: Int { @inline(__always) get { ProductTile.rows } }
  static var panelColumns: Int { @inline(__always) get { ProductTile.columns } }
  /// A panel is used for at most so many rows of the left factor, and is at most so deep: 1.6 MB of the one, 150 kB of the
  /// other.
  private static let blockRows = 512
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
    /// Columns that lie together, a multiple of a panel's: after them come all rows of the next so many.
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
    let depthAtATime = part(of: depth, atMost: blockDepth, multipleOf: lanes)
    let memory = Memory(depth: depthAtATime, pool)
    defer { withExtendedLifetime(memory) {} }
    forEachPart(of: rows, atMost: blockRows) { firstRow, rowCount in
      let target = out + firstRow * outStride
      for firstDepth in Swift.stride(from: 0, to: depth, by: depthAtATime) {
        let count = min(depthAtATime, depth - firstDepth)
        let left = Left(
          ProductTile.Strip(
            pointer: x + (firstDepth * stride + firstRow), rowStride: 1, depthStride: stride),
          rows: rowCount, depth: count, edge: memory.edge)
        multiply(
          left, nil, columns: columns, out: target, layout: .rows(outStride), rows: rows,
          start: firstDepth > 0
            ? .values(target, stride: outStride) : start.from(row: firstRow, column: 0),
          memory,
          Panels(source: source, firstRow: firstDepth, count: count)
        ) { _, _ in }
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
    let depthAtATime =
      layout.block == .max ? part(of: depth, atMost: blockDepth, multipleOf: lanes) : layout.block
    let memory = Memory(depth: depthAtATime + rank, pool)
    let scaled = lowRank.map { _ in pool.take(ProductTile.wholeRows(min(rows, blockRows)) * rank) }
    defer { withExtendedLifetime((memory, scaled)) {} }
    forEachPart(of: rows, atMost: blockRows) { firstRow, rowCount in
      let target = out + firstRow * outLayout.stride
      var firstDepth = 0
      repeat {
        let count = min(depthAtATime, depth - firstDepth)
        let isLast = firstDepth + count >= depth
        let left = Left(
          ProductTile.Strip(
            pointer: x
              + (layout.offset(ofColumn: firstDepth, rows: rows) + firstRow * layout.stride),
            rowStride: layout.stride, depthStride: 1),
          rows: rowCount, depth: count, edge: memory.edge)
        var tail: Left?
        if let lowRank, let scaled {
          let projected = lowRank.projected + firstRow * rank
          multiply(
            left, nil, columns: rank, out: projected, layout: .rows(rank), rows: rows,
            start: firstDepth > 0 ? .values(projected, stride: rank) : .zero, memory,
            Panels(source: lowRank.down, firstRow: firstDepth, count: count)
          ) { _, _ in }
          if isLast {
            tail = scale(projected, rows: rowCount, rank, by: lowRank.scale, into: scaled.pointer)
          }
        }
        multiply(
          left, tail, columns: columns, out: target, layout: outLayout, rows: rows,
          start: firstDepth > 0
            ? .values(target, stride: outLayout.stride) : start.from(row: firstRow, column: 0),
          memory,
          Panels(source: source, firstRow: firstDepth, count: count)
        ) { panel, column in
          lowRank?.up.fill(panel, firstRow: 0, count: rank, firstColumn: column)
        }
        firstDepth += count
      } while firstDepth < depth
    }
  }

  /// The memory that a product works in.
  private struct Memory {
    let panel: Buffer
    /// A strip of fewer rows than a tile has.
    let edge: Buffer
    let tile: Buffer

    init(depth: Int, _ pool: BufferPool) {
      panel = pool.take(panelColumns * depth)
      edge = pool.take(ProductTile.rows * depth)
      tile = pool.take(ProductTile.rows * panelColumns)
    }
  }

  /// The rows of a left factor that a panel is used for.
  private struct Left {
    let strip: ProductTile.Strip
    let rows: Int
    let depth: Int
    /// The last rows, where they are fewer than a tile's.
    let edge: ProductTile.Strip

    /// Rows that are whole tiles.
    init(_ strip: ProductTile.Strip, wholeRows: Int, depth: Int) {
      (self.strip, rows, self.depth, edge) = (strip, wholeRows, depth, strip)
    }

    init(_ strip: ProductTile.Strip, rows: Int, depth: Int, edge: Buffer) {
      self.strip = strip
      self.rows = rows
      self.depth = depth
      let whole = rows / ProductTile.rows * ProductTile.rows
      var last = strip
      last.pointer += whole &* strip.rowStride
      self.edge =
        whole == rows
        ? last : ProductTile.pack(rows: rows - whole, depth: depth, last, into: edge.pointer)
    }

    /// The strip that begins with a row.
    @inline(__always) func from(row: Int) -> ProductTile.Strip {
      if row &+ ProductTile.rows > rows { return edge }
      var strip = strip
      strip.pointer += row &* strip.rowStride
      return strip
    }
  }

  /// The rows of a right factor that a product takes its panels from.
  private struct Panels<Source: PanelSource> {
    let source: Source
    let firstRow: Int
    let count: Int
  }

  /// `total` in as few equal parts of at most `limit` as there can be: the size of one.
  private static func part(of total: Int, atMost limit: Int, multipleOf unit: Int) -> Int {
    let parts = max(1, (total + limit - 1) / limit)
    return max(unit, ((total + parts - 1) / parts + unit - 1) / unit * unit)
  }

  /// First row and number of rows of each part.
  private static func forEachPart(
    of rows: Int, atMost limit: Int, _ body: (Int, Int) -> Void
  ) {
    let size = part(of: rows, atMost: limit, multipleOf: ProductTile.rows)
    for first in stride(from: 0, to: rows, by: size) { body(first, min(size, rows - first)) }
  }

  /// s · projected, with zeros below up to whole tiles.
  private static func scale(
    _ projected: FloatPointer, rows: Int, _ rank: Int, by scale: Float, into scaled: FloatPointer
  ) -> Left {
    let factor = broadcast(scale)
    let whole = ProductTile.wholeRows(rows)
    mapVectors(rows * rank, projected, into: scaled) { $0 * factor }
    (scaled + rows * rank).update(repeating: 0, count: (whole - rows) * rank)
    return Left(
      ProductTile.Strip(pointer: scaled, rowStride: rank, depthStride: 1),
      wholeRows: whole, depth: rank)
  }

  /// out = left · panels + tail + start. `fillTail` writes the rows of a panel that the tail is multiplied with.
  @inline(__always) private static func multiply<Source: PanelSource>(
    _ left: Left, _ tail: Left?, columns: Int, out: FloatPointer, layout: Layout, rows: Int,
    start: ProductStart, _ memory: Memory, _ panels: Panels<Source>,
    fillTail: (FloatPointer, Int) -> Void
  ) {
    let outStride = layout.stride
    let panel = memory.panel.pointer
    let tailPanel = panel + panels.count &* panelColumns
    var column = 0
    while column < columns {
      let width = columns - column
      let offset = layout.offset(ofColumn: column, rows: rows)
      // Only results that lie row by row start from something, or from themselves: their columns lie as `out`'s.
      var tileStart = start
      tileStart.rows = start.rows.map { $0 + offset }
      tileStart.bias = start.bias.map { $0 + column }
      var place = out + offset
      var walk =
        column &+ panelColumns < columns
        ? panels.source.lines(
          firstRow: panels.firstRow, count: panels.count, firstColumn: column &+ panelColumns)
        : .none
      var factors = ProductTile.Factors(
        depth: panels.count, strip: left.from(row: 0), panel: panel)
      var tailFactors = ProductTile.Factors(
        depth: tail?.depth ?? 0, strip: (tail ?? left).from(row: 0), panel: tailPanel)
      if tail != nil { fillTail(tailPanel, column) }
      var row = 0
      if left.rows >= ProductTile.rows, width >= panelColumns,
        let source = panels.source.rowsInPlace(firstRow: panels.firstRow, firstColumn: column)
      {
        // The first tile reads the right factor where it lies, and leaves the panel for the others.
        factors.panel = source.pointer
        factors.panelStride = source.stride
        ProductTile.compute(
          factors, tailFactors, place, outStride, tileStart, &walk, panel,
          ProductTile.FullWidth.self,
          ProductTile.Copying.self)
        factors.panel = panel
        factors.panelStride = panelColumns
        row = ProductTile.rows
        tileStart.rows = tileStart.rows.map { $0 + row &* tileStart.stride }
        place += row &* outStride
      } else {
        panels.source.fill(
          panel, firstRow: panels.firstRow, count: panels.count, firstColumn: column)
      }
      while row < left.rows {
        factors.strip = left.from(row: row)
        if let tail { tailFactors.strip = tail.from(row: row) }
        ProductTile.compute(
          rows: left.rows - row, columns: width, factors, tail: tailFactors, place, outStride,
          tileStart,
          &walk, beside: memory.tile.pointer)
        tileStart.rows = tileStart.rows.map { $0 + ProductTile.rows &* tileStart.stride }
        place += ProductTile.rows &* outStride
        row &+= ProductTile.rows
      }
      column &+= panelColumns
    }
  }
}
