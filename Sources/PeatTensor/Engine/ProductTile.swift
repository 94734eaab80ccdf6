import CPeatHints

/// How many of a tile's columns are computed; known when the loop is compiled.
protocol TileWidth {
  static var isFull: Bool { get }
}

/// Two registers of columns.
enum FullTile: TileWidth {
  static var isFull: Bool { @inline(__always) get { true } }
}

/// One register of columns.
enum HalfTile: TileWidth {
  static var isFull: Bool { @inline(__always) get { false } }
}

/// The innermost loop of `PanelProduct`: a tile of the result that stays in registers.
///
/// 6 rows of 16 columns in 12 of AVX2's 16 registers, or 12 rows of 32 columns in 24 of AVX-512's 32. The tile's
/// place is asked for before the loop and is there when it ends: that alone took the loop from 92 to 100 % of a core's
/// peak.
enum ProductTile {
  #if PEAT_WIDE
    static let rows = 12
  #else
    static let rows = 6
  #endif

  /// Two registers wide.
  static var columns: Int { @inline(__always) get { 2 &* lanes } }

  /// out = strip · panel + what it starts from.
  ///
  /// - Parameters:
  ///   - depth: columns of the strip, rows of the panel.
  ///   - strip: `[depth, rows]`: the tile's rows of the left factor, side by side.
  ///   - stripStride: from one column of the strip to the next.
  ///   - panel: `[depth, columns]`.
  ///   - panelStride: from one row of the panel to the next.
  ///   - out: the tile's first value; rows are `stride` floats apart.
  ///   - start: what the product is added to, from the tile's first value on.
  ///   - walk: lines that will be needed later; some are asked for on the way.
  ///   - width: whether all columns are computed, or only as many as a register holds.
  @inline(never) static func compute<Width: TileWidth>(
    _ depth: Int, _ strip: FloatPointer, stripStride: Int = rows, _ panel: FloatPointer,
    panelStride: Int = columns, _ out: FloatPointer, _ stride: Int, _ start: ProductStart,
    _ walk: inout LineWalk, _ width: Width.Type
  ) {
    var line = out
    for _ in 0..<rows {
      peat_prefetch_for_writing(line)
      if Width.isFull { peat_prefetch_for_writing(line + (columns &- 1)) }
      line += stride
    }
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
    #if PEAT_WIDE
      var c60 = Vector.zero
      var c61 = Vector.zero
      var c70 = Vector.zero
      var c71 = Vector.zero
      var c80 = Vector.zero
      var c81 = Vector.zero
      var c90 = Vector.zero
      var c91 = Vector.zero
      var ca0 = Vector.zero
      var ca1 = Vector.zero
      var cb0 = Vector.zero
      var cb1 = Vector.zero
    #endif
    var a = strip
    var b = panel
    let end = strip + depth &* stripStride
    while a < end {
      // A processor passes over hints that come faster than memory answers.
      let pause = min(a + 16 &* stripStride, end)
      while a < pause {
        let b0 = load(b)
        let b1 = Width.isFull ? load(b + lanes) : b0
        var value = broadcast(a[0])
        c00 = fma(value, b0, c00)
        if Width.isFull { c01 = fma(value, b1, c01) }
        value = broadcast(a[1])
        c10 = fma(value, b0, c10)
        if Width.isFull { c11 = fma(value, b1, c11) }
        value = broadcast(a[2])
        c20 = fma(value, b0, c20)
        if Width.isFull { c21 = fma(value, b1, c21) }
        value = broadcast(a[3])
        c30 = fma(value, b0, c30)
        if Width.isFull { c31 = fma(value, b1, c31) }
        value = broadcast(a[4])
        c40 = fma(value, b0, c40)
        if Width.isFull { c41 = fma(value, b1, c41) }
        value = broadcast(a[5])
        c50 = fma(value, b0, c50)
        if Width.isFull { c51 = fma(value, b1, c51) }
        #if PEAT_WIDE
          value = broadcast(a[6])
          c60 = fma(value, b0, c60)
          if Width.isFull { c61 = fma(value, b1, c61) }
          value = broadcast(a[7])
          c70 = fma(value, b0, c70)
          if Width.isFull { c71 = fma(value, b1, c71) }
          value = broadcast(a[8])
          c80 = fma(value, b0, c80)
          if Width.isFull { c81 = fma(value, b1, c81) }
          value = broadcast(a[9])
          c90 = fma(value, b0, c90)
          if Width.isFull { c91 = fma(value, b1, c91) }
          value = broadcast(a[10])
          ca0 = fma(value, b0, ca0)
          if Width.isFull { ca1 = fma(value, b1, ca1) }
          value = broadcast(a[11])
          cb0 = fma(value, b0, cb0)
          if Width.isFull { cb1 = fma(value, b1, cb1) }
        #endif
        a += stripStride
        b += panelStride
      }
      walk.step()
    }
    var place = out
    var base = start.rows
    @inline(__always) func put(_ first: Vector, _ second: Vector) {
      var (first, second) = (first, second)
      if let line = base {
        first += load(line)
        if Width.isFull { second += load(line + lanes) }
        base = line + start.stride
      }
      if let bias = start.bias {
        first += load(bias)
        if Width.isFull { second += load(bias + lanes) }
      }
      store(first, place)
      if Width.isFull { store(second, place + lanes) }
      place += stride
    }
    put(c00, c01)
    put(c10, c11)
    put(c20, c21)
    put(c30, c31)
    put(c40, c41)
    put(c50, c51)
    #if PEAT_WIDE
      put(c60, c61)
      put(c70, c71)
      put(c80, c81)
      put(c90, c91)
      put(ca0, ca1)
      put(cb0, cb1)
    #endif
  }

  /// The same where nothing is to be asked for.
  @inline(__always) static func compute(
    _ depth: Int, _ strip: FloatPointer, stripStride: Int = rows, _ panel: FloatPointer,
    _ out: FloatPointer, _ stride: Int, _ start: ProductStart
  ) {
    var walk = LineWalk.none
    compute(
      depth, strip, stripStride: stripStride, panel, out, stride, start, &walk,
      FullTile.self)
  }

  /// A tile that hangs over an edge: computed beside, and the part inside is taken over.
  @inline(__always) static func computePart(
    rows count: Int, columns width: Int, _ depth: Int, _ strip: FloatPointer,
    stripStride: Int = rows, _ panel: FloatPointer, _ out: FloatPointer, _ stride: Int,
    _ start: ProductStart, beside tile: FloatPointer
  ) {
    var walk = LineWalk.none
    if width <= lanes {
      compute(
        depth, strip, stripStride: stripStride, panel, tile, columns, .zero, &walk, HalfTile.self)
    } else {
      compute(
        depth, strip, stripStride: stripStride, panel, tile, columns, .zero, &walk, FullTile.self)
    }
    for i in 0..<min(rows, count) {
      let target = out + i * stride
      let source = tile + i * columns
      for j in 0..<min(columns, width) {
        target[j] =
          source[j] + (start.rows.map { $0[i * start.stride + j] } ?? 0) + (start.bias?[j] ?? 0)
      }
    }
  }

  /// Lays rows into strips: a tile's rows side by side, column by column. Rows past the last are 0.
  ///
  /// A register takes more rows than a strip has; what is too much lies where the next column goes, which is written
  /// after it: behind the last strip there must be room for a register.
  ///
  /// - Parameters:
  ///   - x: `[count, depth]`, rows `stride` floats apart.
  ///   - strips: strips of `length` columns, of which the first `depth` are written.
  @inline(__always) static func pack(
    _ x: FloatPointer, rows count: Int, depth: Int, stride: Int, into strips: FloatPointer,
    length: Int
  ) {
    var row = 0
    var strip = strips
    while row < count {
      let inside = min(rows, count - row)
      let first = x + row * stride
      var k = 0
      while k &+ lanes <= depth {
        storeTransposed(to: strip + k &* rows, stride: rows) { i in
          i < inside ? load(first + (i &* stride &+ k)) : .zero
        }
        k &+= lanes
      }
      while k < depth {
        for i in 0..<rows { strip[k &* rows &+ i] = i < inside ? first[i &* stride &+ k] : 0 }
        k &+= 1
      }
      row &+= rows
      strip += rows &* length
    }
  }

  /// Lays columns into strips, as the rows of the transpose: a tile's columns side by side, row by row. Columns past the last
  /// are 0.
  ///
  /// - Parameters:
  ///   - x: `[depth, count]`, rows `stride` floats apart.
  ///   - strips: strips of `length` columns, of which the first `depth` are written.
  @inline(__always) static func packTransposed(
    _ x: FloatPointer, columns count: Int, depth: Int, stride: Int, into strips: FloatPointer,
    length: Int
  ) {
    var column = 0
    var strip = strips
    while column < count {
      let inside = min(rows, count - column)
      var source = x + column
      var place = strip
      for _ in 0..<depth {
        place.update(from: source, count: inside)
        if inside < rows { (place + inside).update(repeating: 0, count: rows - inside) }
        source += stride
        place += rows
      }
      column &+= rows
      strip += rows &* length
    }
  }

  /// `count` rounded up to whole tiles' rows.
  @inline(__always) static func wholeRows(_ count: Int) -> Int { (count + rows - 1) / rows * rows }
}
