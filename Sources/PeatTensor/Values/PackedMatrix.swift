/// How a frozen matrix is kept in memory. Computation is always float32.
public enum WeightStorage: String, Sendable, Codable, CaseIterable {
  case float32 = "f32"
  case bfloat16 = "bf16"
  case float16 = "f16"
  /// 8-bit integers, a scale for each 32 along the input dimension.
  case int8
  /// 4-bit integers, a scale for each 32 along the input dimension.
  case int4

  /// Bytes per weight, scales included.
  public var bytesPerWeight: Double {
    switch self {
    case .float32: 4
    case .bfloat16, .float16: 2
    case .int8: 1 + 4.0 / Double(PackedMatrix.groupSize)
    case .int4: 0.5 + 4.0 / Double(PackedMatrix.groupSize)
    }
  }
}

/// A frozen matrix in fewer bytes than float32 takes.
///
/// `int8` and `int4` are symmetric: a group of 32 values along the input dimension shares a scale s, the largest
/// magnitude over 127 or 7, and a value is s · q with q rounded to nearest, ties to even. The last group of a row may
/// be short.
///
/// Whatever the matrix's shape, inputs lie along the rows in memory: a matrix of `[inputs, outputs]` is kept as its
/// transpose. So a product with one row of inputs, as in generation, reads memory from one end to the other.
///
/// Unchecked Sendable: written only in the initializer.
public final class PackedMatrix: @unchecked Sendable {
  public static let groupSize = 32

  public let storage: WeightStorage
  /// As the matrix it was made from.
  public let rows: Int
  public let columns: Int
  /// The dimension along which groups run: 1 where rows hold a layer's inputs, 0 where columns do.
  public let axis: Int
  /// Bytes that the values and scales take.
  public var byteCount: Int { storedRows * rowBytes + scaleCount * MemoryLayout<Float>.stride }
  /// Whether it is kept as its transpose.
  var isTransposed: Bool { axis == 0 }
  var storedRows: Int { isTransposed ? columns : rows }
  var storedColumns: Int { isTransposed ? rows : columns }

  /// Values of a row, in bytes; a multiple of what eight values take.
  let rowBytes: Int
  let bytes: UnsafeMutableRawPointer
  /// `[storedRows, groups]`.
  let scales: FloatPointer
  let scaleStride: Int
  private let scaleCount: Int

  /// Packs a matrix.
  ///
  /// - Parameters:
  ///   - axis: the input dimension of the layer.
  ///   - halfScales: whether scales are numbers that float16 has, as files keep them.
  public convenience init(
    _ matrix: Tensor, as storage: WeightStorage, axis: Int, halfScales: Bool = false
  ) {
    precondition(matrix.shape.count == 2, "PackedMatrix: \(matrix.shape)")
    self.init(storage, rows: matrix.shape[0], columns: matrix.shape[1], axis: axis)
    matrix.withUnsafeBufferPointer { values in
      guard let source = values.baseAddress else { return }
      switch storage {
      case .float32: break
      case .bfloat16: packShort(source) { $0.bfloat16Bits }
      case .float16:
        // The largest number there is, where the value is larger: infinity would spoil every product.
        packShort(source) { ($0.magnitude > 65504 ? ($0 < 0 ? -65504 : 65504) : $0).float16Bits }
      case .int8, .int4: packGroups(source, halfScales: halfScales)
      }
    }
  }

  /// A matrix of zeros.
  init(_ storage: WeightStorage, rows: Int, columns: Int, axis: Int) {
    precondition((0...1).contains(axis), "PackedMatrix: axis \(axis)")
    precondition(storage != .float32, "PackedMatrix: float32 is no packed storage")
    self.storage = storage
    self.axis = axis
    self.rows = rows
    self.columns = columns
    let group = Self.groupSize
    let storedRows = axis == 1 ? rows : columns
    let padded = ((axis == 1 ? columns : rows) + group - 1) / group * group
    switch storage {
    case .float32, .bfloat16, .float16: rowBytes = padded * 2
    case .int8: rowBytes = padded
    case .int4: rowBytes = padded / 2
    }
    bytes = .allocate(byteCount: max(storedRows * rowBytes, 1), alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 0, count: storedRows * rowBytes)
    let isGrouped = storage == .int8 || storage == .int4
    scaleStride = padded / group
    scaleCount = isGrouped ? storedRows * scaleStride : 0
    scales = .allocate(capacity: max(scaleCount, 1))
    scales.initialize(repeating: 0, count: max(scaleCount, 1))
  }

  deinit {
    bytes.deallocate()
    scales.deallocate()
  }

  private func packShort(_ source: UnsafePointer<Float>, _ round: (Float) -> UInt16) {
    let (rowStride, columnStride) = isTransposed ? (1, columns) : (columns, 1)
    for row in 0..<storedRows {
      let place = (bytes + row * rowBytes).assumingMemoryBound(to: UInt16.self)
      for column in 0..<storedColumns {
        place[column] = round(source[row * rowStride + column * columnStride])
      }
    }
  }

  private func packGroups(_ source: UnsafePointer<Float>, halfScales: Bool) {
    let group = Self.groupSize
    let limit: Float = storage == .int8 ? 127 : 7
    let (rowStride, columnStride) = isTransposed ? (1, columns) : (columns, 1)
    for row in 0..<storedRows {
      for column in 0..<storedColumns {
        let index = row * scaleStride + column / group
        let value = source[row * rowStride + column * columnStride]
        // What is no number, or infinite, spoils its group: damaged weights must not pass for sound ones.
        if value.isFinite {
          if scales[index].isFinite { scales[index] = max(scales[index], value.magnitude / limit) }
        } else {
          scales[index] = .nan
        }
      }
      if halfScales {
        for index in row * scaleStride..<(row + 1) * scaleStride {
          scales[index] = Float(float16: scales[index].float16Bits)
        }
      }
      for column in 0..<storedColumns {
        let scale = scales[row * scaleStride + column / group]
        let value = source[row * rowStride + column * columnStride]
        let rounded = scale == 0 || scale.isNaN ? 0 : (value / scale).rounded(.toNearestOrEven)
        put(Int8(max(-limit, min(limit, rounded))), row, column)
      }
    }
  }

  /// A 4-bit value q is kept as q + 8. Of 32 neighbours the first 16 are the low halves of 16 bytes, the others the
  /// high halves, so that eight neighbours are eight halves of the same kind.
  func put(_ value: Int8, _ row: Int, _ column: Int) {
    let line = bytes + row * rowBytes
    if storage == .int8 {
      line.storeBytes(of: value, toByteOffset: column, as: Int8.self)
      return
    }
    let place = column / 32 * 16 + column % 16
    let byte = line.load(fromByteOffset: place, as: UInt8.self)
    let half = UInt8(bitPattern: value &+ 8)
    let isLow = column % 32 < 16
    line.storeBytes(
      of: isLow ? byte & 0xf0 | half : byte & 0x0f | half << 4, toByteOffset: place, as: UInt8.self)
  }

  /// q of a value, by its place as it is stored.
  func value(_ row: Int, _ column: Int) -> Int8 {
    let line = bytes + row * rowBytes
    if storage == .int8 { return line.load(fromByteOffset: column, as: Int8.self) }
    let byte = line.load(fromByteOffset: column / 32 * 16 + column % 16, as: UInt8.self)
    return Int8(bitPattern: column % 32 < 16 ? byte & 0x0f : byte >> 4) &- 8
  }

  /// The values as float32, which is what computations see.
  public func unpacked() -> Tensor {
    let stored = Tensor(uninitialized: [storedRows, storedColumns])
    for row in 0..<storedRows {
      accept(RowCopy(row: row, to: stored.pointer + row * storedColumns))
    }
    guard isTransposed else { return stored }
    let result = Tensor(uninitialized: [rows, columns])
    for row in 0..<rows {
      for column in 0..<columns {
        result.pointer[row * columns + column] = stored.pointer[column * rows + row]
      }
    }
    return result
  }
}
