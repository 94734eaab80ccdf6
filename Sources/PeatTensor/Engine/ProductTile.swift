import CPeatHints

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

  /// out (+)= strip · panel.
  ///
  /// - Parameters:
  ///   - depth: columns of the strip, rows of the panel.
  ///   - strip: `[depth, rows]`: the tile's rows of the left factor, side by side.
  ///   - stripStride: from one column of the strip to the next.
  ///   - panel: `[depth, columns]`.
  ///   - out: the tile's first value; rows are `stride` floats apart.
  @inline(__always) static func compute(
    _ depth: Int, _ strip: FloatPointer, stripStride: Int = rows, _ panel: FloatPointer,
    _ out: FloatPointer, _ stride: Int, _ adds: Bool
  ) {
    var line = out
    for _ in 0..<rows {
      peat_prefetch_for_writing(line)
      peat_prefetch_for_writing(line + (columns &- 1))
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
      let b0 = load(b)
      let b1 = load(b + lanes)
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
      #if PEAT_WIDE
        value = broadcast(a[6])
        c60 = fma(value, b0, c60)
        c61 = fma(value, b1, c61)
        value = broadcast(a[7])
        c70 = fma(value, b0, c70)
        c71 = fma(value, b1, c71)
        value = broadcast(a[8])
        c80 = fma(value, b0, c80)
        c81 = fma(value, b1, c81)
        value = broadcast(a[9])
        c90 = fma(value, b0, c90)
        c91 = fma(value, b1, c91)
        value = broadcast(a[10])
        ca0 = fma(value, b0, ca0)
        ca1 = fma(value, b1, ca1)
        value = broadcast(a[11])
        cb0 = fma(value, b0, cb0)
        cb1 = fma(value, b1, cb1)
      #endif
      a += stripStride
      b += columns
    }
    var place = out
    @inline(__always) func put(_ first: Vector, _ second: Vector) {
      store(adds ? load(place) + first : first, place)
      store(adds ? load(place + lanes) + second : second, place + lanes)
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

  /// A tile that hangs over an edge: computed beside, and the part inside is taken over.
  @inline(__always) static func computePart(
    rows count: Int, columns width: Int, _ depth: Int, _ strip: FloatPointer,
    stripStride: Int = rows, _ panel: FloatPointer, _ out: FloatPointer, _ stride: Int,
    _ adds: Bool, beside tile: FloatPointer
  ) {
    compute(depth, strip, stripStride: stripStride, panel, tile, columns, false)
    for i in 0..<min(rows, count) {
      let target = out + i * stride
      let source = tile + i * columns
      for j in 0..<min(columns, width) { target[j] = adds ? target[j] + source[j] : source[j] }
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

  /// `count` rounded up to whole tiles' rows.
  @inline(__always) static func wholeRows(_ count: Int) -> Int { (count + rows - 1) / rows * rows }
}
