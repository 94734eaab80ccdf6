/// Matrix products of our own, for weights: the right factor comes from a `PanelSource`, and a low-rank update rides
/// along as a few more rows of it.
///
/// The left factor is packed into strips of 6 rows, the right one into panels of 16 columns; the micro-kernel keeps
/// a 6 × 16 tile of the result in 12 vector registers.
///
/// Source: Goto and van de Geijn 2008, <https://doi.org/10.1145/1356052.1356053>.
enum PanelProduct {
  private static let stripRows = 6
  private static let panelColumns = 16
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
    /// Columns that lie together, a multiple of 16: after them come all rows of the next so many.
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

  /// out = x · source, added to what is there if `adds`.
  static func compute(
    rows: Int, columns: Int, depth: Int, x: FloatPointer, layout: Layout,
    source: some PanelSource, out: FloatPointer, outLayout: Layout, adds: Bool, pool: BufferPool
  ) {
    let none: LowRank<RowPanels<DenseReader>, RowPanels<DenseReader>>? = nil
    compute(
      rows: rows, columns: columns, depth: depth, x: x, layout: layout, source: source,
      lowRank: none, out: out, outLayout: outLayout, adds: adds, pool: pool)
  }

  /// out = x · source + s · (x · down) · up, added to what is there if `adds`.
  ///
  /// - Parameters:
  ///   - rows: m, of `x` and `out`.
  ///   - columns: n, of `source` and `out`.
  ///   - depth: k, columns of `x` and rows of `source`.
  ///   - x: `[m, k]`.
  ///   - out: `[m, n]`.
  static func compute<Source: PanelSource, Down: PanelSource, Up: PanelSource>(
    rows: Int, columns: Int, depth: Int, x: FloatPointer, layout: Layout, source: Source,
    lowRank: LowRank<Down, Up>?, out: FloatPointer, outLayout: Layout, adds: Bool,
    pool: BufferPool
  ) {
    if rows == 0 || columns == 0 { return }
    let rank = lowRank?.rank ?? 0
    let rowsAtATime = part(of: rows, atMost: blockRows, multipleOf: stripRows)
    let depthAtATime =
      layout.block == .max ? part(of: depth, atMost: blockDepth, multipleOf: 8) : layout.block
    let stripLength = depthAtATime + rank
    let strips = pool.take(roundedUp(rowsAtATime, to: stripRows) * stripLength)
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
        pack(block, x + first, layout.stride, depth: count)
        if let lowRank {
          let projected = lowRank.projected + firstRow * rank
          multiply(
            block, depth: count, columns: rank, out: projected, layout: .rows(rank), rows: rows,
            adds: firstDepth > 0
          ) { panel, column in
            lowRank.down.fill(panel, firstRow: firstDepth, count: count, firstColumn: column)
          }
          if isLast { append(block, after: count, projected, rank, lowRank.scale) }
        }
        multiply(
          block, depth: block.length, columns: columns, out: out + firstRow * outLayout.stride,
          layout: outLayout, rows: rows, adds: adds || firstDepth > 0
        ) { panel, column in
          source.fill(panel, firstRow: firstDepth, count: count, firstColumn: column)
          if isLast, let lowRank {
            lowRank.up.fill(
              panel + count * panelColumns, firstRow: 0, count: rank, firstColumn: column)
          }
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

  /// Lays rows into strips: six rows side by side, column by column. Rows past the last are 0.
  private static func pack(_ block: Block, _ x: FloatPointer, _ stride: Int, depth: Int) {
    var row = 0
    var strip = block.strips
    while row &+ stripRows <= block.rows {
      let r0 = x + row * stride
      let r1 = r0 + stride
      let r2 = r1 + stride
      let r3 = r2 + stride
      let r4 = r3 + stride
      let r5 = r4 + stride
      var place = strip
      for k in 0..<depth {
        place[0] = r0[k]
        place[1] = r1[k]
        place[2] = r2[k]
        place[3] = r3[k]
        place[4] = r4[k]
        place[5] = r5[k]
        place += 6
      }
      row &+= stripRows
      strip += stripRows * block.length
    }
    guard row < block.rows else { return }
    for i in 0..<stripRows {
      let source = x + (row + i) * stride
      for k in 0..<depth { strip[k * stripRows + i] = row + i < block.rows ? source[k] : 0 }
    }
  }

  /// Writes s · projected behind the packed columns.
  private static func append(
    _ block: Block, after depth: Int, _ projected: FloatPointer, _ rank: Int, _ scale: Float
  ) {
    for row in 0..<roundedUp(block.rows, to: stripRows) {
      let place =
        block.strips + row / stripRows * stripRows * block.length + depth * stripRows
        + row % stripRows
      for r in 0..<rank {
        place[r * stripRows] = row < block.rows ? scale * projected[row * rank + r] : 0
      }
    }
  }

  /// out (+)= strips · panels, over the first `depth` columns of the strips.
  @inline(__always) private static func multiply(
    _ block: Block, depth: Int, columns: Int, out: FloatPointer, layout: Layout, rows: Int,
    adds: Bool, fill: (FloatPointer, Int) -> Void
  ) {
    let outStride = layout.stride
    let panel = block.panel
    let tile = block.tile
    let stripFloats = stripRows * block.length
    var column = 0
    while column < columns {
      fill(panel, column)
      var strip = block.strips
      var place = out + layout.offset(ofColumn: column, rows: rows)
      var row = 0
      if column &+ panelColumns <= columns {
        while row &+ stripRows <= block.rows {
          micro(depth, strip, panel, place, outStride, adds)
          strip += stripFloats
          place += stripRows &* outStride
          row &+= stripRows
        }
      }
      // Tiles that hang over an edge are computed beside, and the part inside is taken over.
      while row < block.rows {
        micro(depth, strip, panel, tile, panelColumns, false)
        let width = min(panelColumns, columns - column)
        for i in 0..<min(stripRows, block.rows - row) {
          let target = place + i * outStride
          let source = tile + i * panelColumns
          for j in 0..<width { target[j] = adds ? target[j] + source[j] : source[j] }
        }
        strip += stripFloats
        place += stripRows &* outStride
        row &+= stripRows
      }
      column &+= panelColumns
    }
  }

  /// One tile: 6 rows of `strip` with 16 columns of `panel`.
  @inline(__always) private static func micro(
    _ depth: Int, _ strip: FloatPointer, _ panel: FloatPointer, _ out: FloatPointer,
    _ outStride: Int, _ adds: Bool
  ) {
    var c00 = Vector.zero
    var c01 = Vector.zero
    var c10 = Vector.zero
    var c11 = Vector.zero
    var c20 = Vector.zero
    var c21 = Vector.zero
    var c30 = Vector.zero
    var c31 = Vector.zero
    var c40 = Vector.zero
    var c41 = Vector.zero
    var c50 = Vector.zero
    var c51 = Vector.zero
    var a = strip
    var b = panel
    let end = strip + depth &* 6
    while a < end {
      let b0 = load(b)
      let b1 = load(b + 8)
      var value = broadcast(a[0])
      c00 = fma(value, b0, c00)
      c01 = fma(value, b1, c01)
      value = broadcast(a[1])
      c10 = fma(value, b0, c10)
      c11 = fma(value, b1, c11)
      value = broadcast(a[2])
      c20 = fma(value, b0, c20)
      c21 = fma(value, b1, c21)
      value = broadcast(a[3])
      c30 = fma(value, b0, c30)
      c31 = fma(value, b1, c31)
      value = broadcast(a[4])
      c40 = fma(value, b0, c40)
      c41 = fma(value, b1, c41)
      value = broadcast(a[5])
      c50 = fma(value, b0, c50)
      c51 = fma(value, b1, c51)
      a += 6
      b += 16
    }
    var place = out
    if adds {
      put(load(place) + c00, load(place + 8) + c01, place)
      place += outStride
      put(load(place) + c10, load(place + 8) + c11, place)
      place += outStride
      put(load(place) + c20, load(place + 8) + c21, place)
      place += outStride
      put(load(place) + c30, load(place + 8) + c31, place)
      place += outStride
      put(load(place) + c40, load(place + 8) + c41, place)
      place += outStride
      put(load(place) + c50, load(place + 8) + c51, place)
    } else {
      put(c00, c01, place)
      place += outStride
      put(c10, c11, place)
      place += outStride
      put(c20, c21, place)
      place += outStride
      put(c30, c31, place)
      place += outStride
      put(c40, c41, place)
      place += outStride
      put(c50, c51, place)
    }
  }

  @inline(__always) private static func put(
    _ first: Vector, _ second: Vector, _ place: FloatPointer
  ) {
    store(first, place)
    store(second, place + 8)
  }
}
