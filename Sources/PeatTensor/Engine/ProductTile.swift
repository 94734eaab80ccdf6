import CPeatHints

/// How many of a tile's columns are computed, in registers; known when the loop is compiled.
protocol TileWidth {
  static var registers: Int { get }
}

enum OneRegister: TileWidth {
  static var registers: Int { @inline(__always) get { 1 } }
}

enum TwoRegisters: TileWidth {
  static var registers: Int { @inline(__always) get { 2 } }
}

#if PEAT_WIDE
  enum ThreeRegisters: TileWidth {
    static var registers: Int { @inline(__always) get { 3 } }
  }
#endif

/// The innermost loop of `PanelProduct`: a tile of the result that stays in registers.
///
/// 6 rows of 16 columns in 12 of AVX2's 16 registers, or 8 rows of 48 columns in 24 of AVX-512's 32. The left factor is
/// only read number by number, so it is used where it lies; the right one comes as a panel, a tile's width a row. The
/// tile's place is asked for before the loop and is there when it ends: that alone took the loop from 92 to 100 % of a
/// core's peak.
enum ProductTile {
  #if PEAT_WIDE
    static let rows = 8
    static var registers: Int { @inline(__always) get { 3 } }
    typealias FullWidth = ThreeRegisters
  #else
    static let rows = 6
    static var registers: Int { @inline(__always) get { 2 } }
    typealias FullWidth = TwoRegisters
  #endif

  static var columns: Int { @inline(__always) get { registers &* lanes } }

  /// The left factor of a tile, where it lies.
  struct Strip {
    var pointer: FloatPointer
    /// From a row to the next.
    var rowStride: Int
    /// From a column to the next.
    var depthStride: Int
  }

  /// A product that is added to a tile: strip · panel.
  struct Factors {
    /// Columns of the strip, rows of the panel.
    var depth: Int
    var strip: Strip
    /// `[depth, columns]`, rows `panelStride` floats apart.
    var panel: FloatPointer
    var panelStride: Int = columns
  }

  /// Whether a tile's loop leaves the panel behind in other memory; known when the loop is compiled.
  protocol PanelCopy {
    static var isWanted: Bool { get }
  }

  enum Copying: PanelCopy {
    static var isWanted: Bool { @inline(__always) get { true } }
  }

  enum NotCopying: PanelCopy {
    static var isWanted: Bool { @inline(__always) get { false } }
  }

  /// A row of a tile.
  private struct Line {
    var r0 = Vector.zero
    var r1 = Vector.zero
    #if PEAT_WIDE
      var r2 = Vector.zero
    #endif

    @inline(__always) init() {}

    @inline(__always) init<Width: TileWidth>(_ place: FloatPointer, _ width: Width.Type) {
      r0 = load(place)
      if Width.registers > 1 { r1 = load(place + lanes) }
      #if PEAT_WIDE
        if Width.registers > 2 { r2 = load(place + 2 &* lanes) }
      #endif
    }

    @inline(__always) mutating func add<Width: TileWidth>(
      _ factor: Vector, _ line: Line, _ width: Width.Type
    ) {
      r0 = fma(factor, line.r0, r0)
      if Width.registers > 1 { r1 = fma(factor, line.r1, r1) }
      #if PEAT_WIDE
        if Width.registers > 2 { r2 = fma(factor, line.r2, r2) }
      #endif
    }

    @inline(__always) mutating func add<Width: TileWidth>(_ line: Line, _ width: Width.Type) {
      r0 += line.r0
      if Width.registers > 1 { r1 += line.r1 }
      #if PEAT_WIDE
        if Width.registers > 2 { r2 += line.r2 }
      #endif
    }

    @inline(__always) func write<Width: TileWidth>(_ place: FloatPointer, _ width: Width.Type) {
      store(r0, place)
      if Width.registers > 1 { store(r1, place + lanes) }
      #if PEAT_WIDE
        if Width.registers > 2 { store(r2, place + 2 &* lanes) }
      #endif
    }
  }

  /// out = strip · panel + tail + what it starts from.
  ///
  /// - Parameters:
  ///   - tail: a second product, of depth 0 for none.
  ///   - out: the tile's first value; rows are `stride` floats apart.
  ///   - start: what the product is added to, from the tile's first value on.
  ///   - walk: lines that will be needed later; some are asked for on the way.
  ///   - copy: takes the panel, a tile's width a row, where the loop copies.
  ///   - width: the columns that are computed.
  @inline(never) static func compute<Width: TileWidth, Copy: PanelCopy>(
    _ factors: Factors, _ tail: Factors, _ out: FloatPointer, _ stride: Int,
    _ start: ProductStart, _ walk: inout LineWalk, _ copy: FloatPointer, _ width: Width.Type,
    _ copying: Copy.Type
  ) {
    var line = out
    for _ in 0..<rows {
      peat_prefetch_for_writing(line)
      // A tile may lie across the border of a line.
      if Width.registers > 2 { peat_prefetch_for_writing(line + lanes) }
      if Width.registers > 1 {
        peat_prefetch_for_writing(line + (Width.registers &* lanes &- 1))
      }
      line += stride
    }
    var c0 = Line()
    var c1 = Line()
    var c2 = Line()
    var c3 = Line()
    var c4 = Line()
    var c5 = Line()
    #if PEAT_WIDE
      var c6 = Line()
      var c7 = Line()
    #endif
    var a = factors.strip.pointer
    var row = factors.strip.rowStride
    var next = factors.strip.depthStride
    var end = a + factors.depth &* next
    var b = factors.panel
    var bNext = factors.panelStride
    var place = copy
    var hasTail = tail.depth > 0
    while true {
      while a < end {
        // A processor passes over hints that come faster than memory answers.
        let pause = min(a + 16 &* next, end)
        if next == 1 {
          var ahead = a + rows &* row
          for _ in 0..<rows {
            peat_prefetch(ahead)
            ahead += row
          }
        }
        while a < pause {
          let values = Line(b, Width.self)
          if Copy.isWanted {
            // Rows lie a page or more apart: nobody else asks for them ahead.
            let ahead = b + 24 &* bNext
            peat_prefetch(ahead)
            peat_prefetch(ahead + lanes)
            peat_prefetch(ahead + (columns &- 1))
            values.write(place, Width.self)
            place += columns
          }
          c0.add(broadcast(a[0]), values, Width.self)
          c1.add(broadcast(a[row]), values, Width.self)
          c2.add(broadcast(a[2 &* row]), values, Width.self)
          c3.add(broadcast(a[3 &* row]), values, Width.self)
          c4.add(broadcast(a[4 &* row]), values, Width.self)
          c5.add(broadcast(a[5 &* row]), values, Width.self)
          #if PEAT_WIDE
            c6.add(broadcast(a[6 &* row]), values, Width.self)
            c7.add(broadcast(a[7 &* row]), values, Width.self)
          #endif
          a += next
          b += bNext
        }
        walk.step()
      }
      guard hasTail else { break }
      hasTail = false
      (a, row, next) = (tail.strip.pointer, tail.strip.rowStride, tail.strip.depthStride)
      end = a + tail.depth &* next
      (b, bNext) = (tail.panel, tail.panelStride)
    }
    line = out
    var base = start.rows
    @inline(__always) func put(_ sum: Line) {
      var sum = sum
      if let from = base {
        sum.add(Line(from, Width.self), Width.self)
        base = from + start.stride
      }
      if let bias = start.bias { sum.add(Line(bias, Width.self), Width.self) }
      sum.write(line, Width.self)
      line += stride
    }
    put(c0)
    put(c1)
    put(c2)
    put(c3)
    put(c4)
    put(c5)
    #if PEAT_WIDE
      put(c6)
      put(c7)
    #endif
  }

  /// A tile of as many rows and columns of the result as are left there, at most a whole one.
  ///
  /// - Parameters:
  ///   - rows: rows that are left. The strip has a tile's rows that may be read in any case.
  ///   - columns: columns that are left. The panel has whole registers of them.
  ///   - tile: memory of a tile's size, for one that hangs over an edge.
  @inline(__always) static func compute(
    rows count: Int, columns width: Int, _ factors: Factors, tail: Factors? = nil,
    _ out: FloatPointer, _ stride: Int, _ start: ProductStart, _ walk: inout LineWalk,
    beside tile: FloatPointer
  ) {
    let fits = count >= rows && (width >= columns || width % lanes == 0)
    let (place, placeStride) = fits ? (out, stride) : (tile, columns)
    let from = fits ? start : .zero
    let tail = tail ?? Factors(depth: 0, strip: factors.strip, panel: factors.panel)
    if width > (registers &- 1) &* lanes {
      compute(
        factors, tail, place, placeStride, from, &walk, tile, FullWidth.self, NotCopying.self)
    } else if width > lanes {
      compute(
        factors, tail, place, placeStride, from, &walk, tile, TwoRegisters.self, NotCopying.self)
    } else {
      compute(
        factors, tail, place, placeStride, from, &walk, tile, OneRegister.self, NotCopying.self)
    }
    if fits { return }
    // Computed beside: the part inside is taken over.
    for i in 0..<min(rows, count) {
      let target = out + i * stride
      let source = tile + i * columns
      for j in 0..<min(columns, width) {
        target[j] =
          source[j] + (start.rows.map { $0[i * start.stride + j] } ?? 0) + (start.bias?[j] ?? 0)
      }
    }
  }

  /// Lays fewer rows than a tile has side by side, column by column, with zeros in the place of those that are missing:
  /// `[depth, rows]`.
  static func pack(
    rows count: Int, depth: Int, _ source: Strip, into place: FloatPointer
  ) -> Strip {
    for k in 0..<depth {
      for i in 0..<rows {
        place[k &* rows &+ i] =
          i < count ? source.pointer[i &* source.rowStride &+ k &* source.depthStride] : 0
      }
    }
    return Strip(pointer: place, rowStride: 1, depthStride: rows)
  }

  /// `count` rounded up to whole tiles' rows.
  @inline(__always) static func wholeRows(_ count: Int) -> Int { (count + rows - 1) / rows * rows }
}
