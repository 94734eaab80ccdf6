import CPeatHints

/// Four registers of neighbours of a row.
struct FourVectors {
  var v0: Vector
  var v1: Vector
  var v2: Vector
  var v3: Vector

  /// How many floats.
  static var width: Int { @inline(__always) get { 4 &* lanes } }
}

/// Reads a matrix that lies row by row, in whatever storage, as vectors of floats.
protocol MatrixReader {
  /// Whether 32 neighbours of a row share a scale.
  static var isScaled: Bool { get }
  /// Bits of a value.
  static var valueBits: Int { get }
  var columns: Int { get }
  /// As many neighbours of a row as a register holds, from a column that is a multiple of that. What lies past the
  /// last column is undefined.
  func vector(_ row: Int, _ column: Int) -> Vector
  /// Where a value lies.
  func address(_ row: Int, _ column: Int) -> UnsafeRawPointer
  /// Neighbours of a row before they are scaled, from a column that is a multiple of their number on; all of them are
  /// there.
  func unscaled(_ row: Int, _ column: Int) -> FourVectors
  /// The scale of a value and its neighbours in the row.
  func scale(_ row: Int, _ column: Int) -> Float
  /// Where a value lies and how far the next row is from it, where values lie as floats.
  func floats(_ row: Int, _ column: Int) -> (pointer: FloatPointer, stride: Int)?
}

extension MatrixReader {
  static var isScaled: Bool { @inline(__always) get { false } }

  @inline(__always) func unscaled(_ row: Int, _ column: Int) -> FourVectors {
    FourVectors(
      v0: vector(row, column), v1: vector(row, column &+ lanes),
      v2: vector(row, column &+ 2 &* lanes), v3: vector(row, column &+ 3 &* lanes))
  }

  @inline(__always) func scale(_ row: Int, _ column: Int) -> Float { 1 }

  @inline(__always) func floats(
    _ row: Int, _ column: Int
  ) -> (pointer: FloatPointer, stride: Int)? { nil }

  /// The lines of the cache that hold a part of the matrix; none where the part is empty.
  func lines(rows: Range<Int>, columns: Range<Int>) -> LineWalk {
    guard !rows.isEmpty, !columns.isEmpty else { return .none }
    let first = address(rows.lowerBound, columns.lowerBound)
    let last = address(rows.lowerBound, columns.upperBound - 1)
    let line = LineWalk.lineBytes
    return LineWalk(
      from: first, rows: rows.count,
      lines: Int(bitPattern: last) / line - Int(bitPattern: first) / line + 1,
      stride: address(rows.lowerBound + 1, columns.lowerBound) - first)
  }
}

/// Plain floats.
struct DenseReader: MatrixReader {
  static var valueBits: Int { @inline(__always) get { 32 } }
  let pointer: FloatPointer
  let stride: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(pointer + (row &* stride &+ column))
  }

  @inline(__always) func floats(
    _ row: Int, _ column: Int
  ) -> (pointer: FloatPointer, stride: Int)? { (pointer + (row &* stride &+ column), stride) }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    let place = pointer + (row &* stride &+ column)
    // Nothing may be read past the end of the last row.
    return column &+ lanes <= columns ? load(place) : load(place, first: columns &- column, fill: 0)
  }

  @inline(__always) func unscaled(_ row: Int, _ column: Int) -> FourVectors {
    let place = pointer + (row &* stride &+ column)
    return FourVectors(
      v0: load(place), v1: load(place + lanes), v2: load(place + 2 &* lanes),
      v3: load(place + 3 &* lanes))
  }
}

struct BFloat16Reader: MatrixReader {
  static var valueBits: Int { @inline(__always) get { 16 } }
  let bytes: UnsafeMutableRawPointer
  let rowBytes: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes + (row &* rowBytes &+ 2 &* column))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    shortValues(bytes + (row &* rowBytes &+ 2 &* column))
  }
}

struct Float16Reader: MatrixReader {
  static var valueBits: Int { @inline(__always) get { 16 } }
  let bytes: UnsafeMutableRawPointer
  let rowBytes: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes + (row &* rowBytes &+ 2 &* column))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    halfValues(bytes + (row &* rowBytes &+ 2 &* column))
  }
}

/// 8-bit integers with a scale for each 32 along a row.
struct Int8Reader: MatrixReader {
  static var valueBits: Int { @inline(__always) get { 8 } }
  static var isScaled: Bool { @inline(__always) get { true } }
  let bytes: UnsafeMutableRawPointer
  let rowBytes: Int
  let scales: FloatPointer
  let scaleStride: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes + (row &* rowBytes &+ column))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    byteValues(bytes + (row &* rowBytes &+ column))
      * broadcast(scales[row &* scaleStride &+ column / 32])
  }

  @inline(__always) func unscaled(_ row: Int, _ column: Int) -> FourVectors {
    let place = bytes + (row &* rowBytes &+ column)
    return FourVectors(
      v0: byteValues(place), v1: byteValues(place + lanes), v2: byteValues(place + 2 &* lanes),
      v3: byteValues(place + 3 &* lanes))
  }

  @inline(__always) func scale(_ row: Int, _ column: Int) -> Float {
    scales[row &* scaleStride &+ column / 32]
  }
}

/// 4-bit integers with a scale for each 32 along a row.
struct Int4Reader: MatrixReader {
  static var valueBits: Int { @inline(__always) get { 4 } }
  static var isScaled: Bool { @inline(__always) get { true } }
  let bytes: UnsafeMutableRawPointer
  let rowBytes: Int
  let scales: FloatPointer
  let scaleStride: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes + (row &* rowBytes &+ column / 2))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    halfByteValues(bytes + (row &* rowBytes), column)
      * broadcast(scales[row &* scaleStride &+ column / 32])
  }

  @inline(__always) func unscaled(_ row: Int, _ column: Int) -> FourVectors {
    halfByteValues(bytes + (row &* rowBytes &+ column / 2))
  }

  @inline(__always) func scale(_ row: Int, _ column: Int) -> Float {
    scales[row &* scaleStride &+ column / 32]
  }
}

// Conversions of as many neighbours as a register holds.

@inline(__always) private func byteValues(_ place: UnsafeMutableRawPointer) -> Vector {
  #if PEAT_WIDE
    peat_floats_of_bytes_16(place)
  #else
    peat_floats_of_bytes_8(place)
  #endif
}

@inline(__always) private func shortValues(_ place: UnsafeMutableRawPointer) -> Vector {
  #if PEAT_WIDE
    peat_floats_of_shorts_16(place)
  #else
    peat_floats_of_shorts_8(place)
  #endif
}

@inline(__always) private func lowHalves(_ place: UnsafeMutableRawPointer) -> Vector {
  #if PEAT_WIDE
    peat_low_nibbles_16(place)
  #else
    peat_low_nibbles_8(place)
  #endif
}

@inline(__always) private func highHalves(_ place: UnsafeMutableRawPointer) -> Vector {
  #if PEAT_WIDE
    peat_high_nibbles_16(place)
  #else
    peat_high_nibbles_8(place)
  #endif
}

@inline(__always) private func halfValues(_ place: UnsafeMutableRawPointer) -> Vector {
  #if PEAT_WIDE
    return peat_floats_of_halves_16(place)
  #elseif PEAT_FMA
    // Processors that multiply and add in one step convert float16 too.
    return peat_floats_of_halves_8(place)
  #else
    let half = place.loadUnaligned(as: ShortVector.self)
    let bits = BitVector(truncatingIfNeeded: half)
    let size = (bits & 0x7fff) &<< 13
    // The exponent moves from a bias of 15 to one of 127; multiplying also brings subnormal numbers into place.
    var value = unsafeBitCast(size, to: Vector.self) * broadcast(0x1p112)
    let infinite = unsafeBitCast(size | 0x7f80_0000, to: Vector.self)
    value.replace(with: infinite, where: (bits & 0x7c00) .== 0x7c00)
    let sign = (bits & 0x8000) &<< 16
    return unsafeBitCast(unsafeBitCast(value, to: BitVector.self) | sign, to: Vector.self)
  #endif
}

/// Neighbours from a column that is a multiple of a register's floats; how they lie is said at `PackedMatrix`.
@inline(__always) private func halfByteValues(
  _ line: UnsafeMutableRawPointer, _ column: Int
) -> Vector {
  let place = line + (column / 32 &* 16 &+ column % 16)
  return column % 32 < 16 ? lowHalves(place) : highHalves(place)
}

/// Four registers of neighbours from a column that is a multiple of 32.
@inline(__always) private func halfByteValues(_ place: UnsafeMutableRawPointer) -> FourVectors {
  #if PEAT_WIDE
    FourVectors(
      v0: lowHalves(place), v1: highHalves(place), v2: lowHalves(place + 16),
      v3: highHalves(place + 16))
  #else
    FourVectors(
      v0: lowHalves(place), v1: lowHalves(place + 8), v2: highHalves(place),
      v3: highHalves(place + 8))
  #endif
}

/// Work on a matrix, compiled for each storage.
protocol MatrixVisitor {
  associatedtype Result
  func visit(_ matrix: some MatrixReader) -> Result
}

extension PackedMatrix {
  /// Does a visitor's work with the reader of this storage; what it visits is `[storedRows, storedColumns]`.
  func accept<Visitor: MatrixVisitor>(_ visitor: Visitor) -> Visitor.Result {
    switch storage {
    case .float32: preconditionFailure("PackedMatrix: float32 is no packed storage")
    case .bfloat16: visitor.visit(bfloat16Reader)
    case .float16: visitor.visit(float16Reader)
    case .int8: visitor.visit(int8Reader)
    case .int4: visitor.visit(int4Reader)
    }
  }

  private var bfloat16Reader: BFloat16Reader {
    BFloat16Reader(bytes: bytes, rowBytes: rowBytes, columns: storedColumns)
  }
  private var float16Reader: Float16Reader {
    Float16Reader(bytes: bytes, rowBytes: rowBytes, columns: storedColumns)
  }
  private var int8Reader: Int8Reader {
    Int8Reader(
      bytes: bytes, rowBytes: rowBytes, scales: scales, scaleStride: scaleStride,
      columns: storedColumns)
  }
  private var int4Reader: Int4Reader {
    Int4Reader(
      bytes: bytes, rowBytes: rowBytes, scales: scales, scaleStride: scaleStride,
      columns: storedColumns)
  }
}
