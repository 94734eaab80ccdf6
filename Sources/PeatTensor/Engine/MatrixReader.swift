/// Reads a matrix that lies row by row, in whatever storage, as vectors of floats.
protocol MatrixReader {
  var columns: Int { get }
  /// As many neighbours of a row as a register holds, from a column that is a multiple of that. What lies past the
  /// last column is undefined.
  func vector(_ row: Int, _ column: Int) -> Vector
  /// Where a value lies.
  func address(_ row: Int, _ column: Int) -> UnsafeRawPointer
}

extension MatrixReader {
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
  let pointer: FloatPointer
  let stride: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(pointer + (row &* stride &+ column))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    let place = pointer + (row &* stride &+ column)
    // Nothing may be read past the end of the last row.
    return column &+ lanes <= columns ? load(place) : load(place, first: columns &- column, fill: 0)
  }
}

struct BFloat16Reader: MatrixReader {
  let bytes: UnsafeMutableRawPointer
  let rowBytes: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes + (row &* rowBytes &+ 2 &* column))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    let half = (bytes + (row &* rowBytes &+ 2 &* column)).loadUnaligned(as: ShortVector.self)
    return unsafeBitCast(BitVector(truncatingIfNeeded: half) &<< 16, to: Vector.self)
  }
}

struct Float16Reader: MatrixReader {
  let bytes: UnsafeMutableRawPointer
  let rowBytes: Int
  let columns: Int

  @inline(__always) func address(_ row: Int, _ column: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes + (row &* rowBytes &+ 2 &* column))
  }

  @inline(__always) func vector(_ row: Int, _ column: Int) -> Vector {
    let half = (bytes + (row &* rowBytes &+ 2 &* column)).loadUnaligned(as: ShortVector.self)
    let bits = BitVector(truncatingIfNeeded: half)
    let size = (bits & 0x7fff) &<< 13
    // The exponent moves from a bias of 15 to one of 127; multiplying also brings subnormal numbers into place.
    var value = unsafeBitCast(size, to: Vector.self) * broadcast(0x1p112)
    let infinite = unsafeBitCast(size | 0x7f80_0000, to: Vector.self)
    value.replace(with: infinite, where: (bits & 0x7c00) .== 0x7c00)
    let sign = (bits & 0x8000) &<< 16
    return unsafeBitCast(unsafeBitCast(value, to: BitVector.self) | sign, to: Vector.self)
  }
}

/// 8-bit integers with a scale for each 32 along a row.
struct Int8RowGroupReader: MatrixReader {
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
}

/// 8-bit integers with a scale for each 32 along a column.
struct Int8ColumnGroupReader: MatrixReader {
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
      * load(scales + (row / 32 &* scaleStride &+ column))
  }
}

/// 4-bit integers with a scale for each 32 along a row.
struct Int4RowGroupReader: MatrixReader {
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
}

/// 4-bit integers with a scale for each 32 along a column.
struct Int4ColumnGroupReader: MatrixReader {
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
      * load(scales + (row / 32 &* scaleStride &+ column))
  }
}

@inline(__always) private func byteValues(_ place: UnsafeMutableRawPointer) -> Vector {
  Vector(IntegerVector(truncatingIfNeeded: place.loadUnaligned(as: SignedByteVector.self)))
}

/// Neighbours from a column that is a multiple of a register's floats; how they lie is said at `PackedMatrix`.
@inline(__always) private func halfByteValues(
  _ line: UnsafeMutableRawPointer, _ column: Int
) -> Vector {
  let place = line + (column / 32 &* 16 &+ column % 16)
  let pairs = IntegerVector(truncatingIfNeeded: place.loadUnaligned(as: ByteVector.self))
  let halves = column % 32 < 16 ? pairs & 0x0f : pairs &>> 4
  return Vector(halves &- 8)
}

/// Work on a matrix, compiled for each storage.
protocol MatrixVisitor {
  associatedtype Result
  func visit(_ matrix: some MatrixReader) -> Result
}

extension PackedMatrix {
  /// Does a visitor's work with the reader of this storage.
  func accept<Visitor: MatrixVisitor>(_ visitor: Visitor) -> Visitor.Result {
    switch storage {
    case .float32: preconditionFailure("PackedMatrix: float32 is no packed storage")
    case .bfloat16: visitor.visit(bfloat16Reader)
    case .float16: visitor.visit(float16Reader)
    case .int8: axis == 1 ? visitor.visit(int8RowReader) : visitor.visit(int8ColumnReader)
    case .int4: axis == 1 ? visitor.visit(int4RowReader) : visitor.visit(int4ColumnReader)
    }
  }

  private var bfloat16Reader: BFloat16Reader {
    BFloat16Reader(bytes: bytes, rowBytes: rowBytes, columns: columns)
  }
  private var float16Reader: Float16Reader {
    Float16Reader(bytes: bytes, rowBytes: rowBytes, columns: columns)
  }
  private var int8RowReader: Int8RowGroupReader {
    Int8RowGroupReader(
      bytes: bytes, rowBytes: rowBytes, scales: scales, scaleStride: scaleStride, columns: columns)
  }
  private var int8ColumnReader: Int8ColumnGroupReader {
    Int8ColumnGroupReader(
      bytes: bytes, rowBytes: rowBytes, scales: scales, scaleStride: scaleStride, columns: columns)
  }
  private var int4RowReader: Int4RowGroupReader {
    Int4RowGroupReader(
      bytes: bytes, rowBytes: rowBytes, scales: scales, scaleStride: scaleStride, columns: columns)
  }
  private var int4ColumnReader: Int4ColumnGroupReader {
    Int4ColumnGroupReader(
      bytes: bytes, rowBytes: rowBytes, scales: scales, scaleStride: scaleStride, columns: columns)
  }
}
