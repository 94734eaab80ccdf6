import Foundation

/// How packed matrices lie in safetensors files: a tensor of values under the matrix's name, and for integers one of scales under
/// the name with `_scales`.
///
/// Of a matrix `[r, c]` with the input dimension `axis`: int8 as I8 `[r, c]`; int4 as U8, two values in a byte, the earlier along the axis in the lower half,
/// each as q + 8: `[r, ⌈c/2⌉]` or `[⌈r/2⌉, c]`; scales as F16, one for each 32 along the axis: `[r, ⌈c/32⌉]` or `[⌈r/32⌉, c]`. A value is q times its scale.
extension PackedMatrix {
  public static let scalesSuffix = "_scales"
  /// How `emulator.json` names the order of 4-bit values.
  public static let packing = "low-first-offset-8"

  /// Its tensors, by their ending behind the name.
  public var stored: [String: SafeTensors.Raw] {
    guard storage == .int8 || storage == .int4 else {
      let type: StorageType = storage == .bfloat16 ? .bfloat16 : .float16
      var data = Data(capacity: 2 * rows * columns)
      for row in 0..<rows {
        for column in 0..<columns {
          let (line, place) = isTransposed ? (column, row) : (row, column)
          let bits = (bytes + line * rowBytes).load(fromByteOffset: 2 * place, as: UInt16.self)
          withUnsafeBytes(of: bits.littleEndian) { data.append(contentsOf: $0) }
        }
      }
      return ["": .init(type.rawValue, [rows, columns], data)]
    }
    let shapes = Self.shapes(storage, rows: rows, columns: columns, axis: axis)
    var values = Data(count: shapes.values[0] * shapes.values[1])
    var scaleBytes = Data(count: 2 * shapes.scales[0] * shapes.scales[1])
    values.withUnsafeMutableBytes { (values: UnsafeMutableRawBufferPointer) in
      for row in 0..<storedRows {
        for column in 0..<storedColumns {
          let value = value(row, column)
          if storage == .int8 {
            values[place(row, column, width: shapes.values[1])] = UInt8(bitPattern: value)
          } else {
            let half = UInt8(bitPattern: value &+ 8)
            values[place(row, column / 2, width: shapes.values[1])] |=
              column % 2 == 0 ? half : half << 4
          }
        }
      }
    }
    scaleBytes.withUnsafeMutableBytes { (bytes: UnsafeMutableRawBufferPointer) in
      for row in 0..<storedRows {
        for group in 0..<scaleStride {
          bytes.storeBytes(
            of: scales[row * scaleStride + group].float16Bits.littleEndian,
            toByteOffset: 2 * place(row, group, width: shapes.scales[1]), as: UInt16.self)
        }
      }
    }
    return [
      "": .init(storage == .int8 ? "I8" : "U8", shapes.values, values),
      Self.scalesSuffix: .init("F16", shapes.scales, scaleBytes),
    ]
  }

  /// Where the element of a stored row lies in a tensor that is laid out as the matrix is.
  private func place(_ row: Int, _ along: Int, width: Int) -> Int {
    isTransposed ? along * width + row : row * width + along
  }

  private static func shapes(
    _ storage: WeightStorage, rows: Int, columns: Int, axis: Int
  ) -> (values: [Int], scales: [Int]) {
    func divided(_ by: Int) -> [Int] {
      axis == 1 ? [rows, (columns + by - 1) / by] : [(rows + by - 1) / by, columns]
    }
    return (storage == .int4 ? divided(2) : [rows, columns], divided(groupSize))
  }

  /// Reads integers and their scales back.
  ///
  /// - Parameters:
  ///   - name: the matrix's, `source` the file's, for errors.
  ///   - shape: of the matrix.
  /// - Throws: `badData` where tensors have other types or shapes, or a scale is no number.
  public convenience init(
    _ storage: WeightStorage, shape: [Int], axis: Int, in file: SafeTensorsFile, name: String
  ) throws {
    func refuse(_ what: String) -> PeatError {
      .badData(
        "'\(file.url.path)': '\(name)' \(what). The file is damaged; fetch or make it again.")
    }
    guard shape.count == 2, storage == .int8 || storage == .int4 else {
      throw refuse("is no matrix of integers")
    }
    let shapes = Self.shapes(storage, rows: shape[0], columns: shape[1], axis: axis)
    let type = storage == .int8 ? "I8" : "U8"
    guard let values = file.entries[name], values.dtype == type, values.shape == shapes.values
    else {
      throw refuse(
        "must be \(type) of shape \(shapes.values) as \(storage.rawValue), found \(file.entries[name].map { "\($0.dtype) \($0.shape)" } ?? "nothing")"
      )
    }
    try self.init(scalesOf: storage, shape: shape, axis: axis, in: file, name: name)
    let limit: Int8 = storage == .int8 ? 127 : 7
    try file.withBytes(of: values) { bytes in
      for row in 0..<storedRows {
        for column in 0..<storedColumns {
          let value: Int8
          if storage == .int8 {
            value = Int8(bitPattern: bytes[place(row, column, width: shapes.values[1])])
          } else {
            let byte = bytes[place(row, column / 2, width: shapes.values[1])]
            value = Int8(bitPattern: column % 2 == 0 ? byte & 0x0f : byte >> 4) &- 8
          }
          guard value >= -limit else { throw refuse("holds \(value), below \(-limit)") }
          put(value, row, column)
        }
      }
    }
  }

  /// A matrix of zeros with the scales that a file has for it.
  convenience init(
    scalesOf storage: WeightStorage, shape: [Int], axis: Int, in file: SafeTensorsFile,
    name: String
  ) throws {
    func refuse(_ what: String) -> PeatError {
      .badData(
        "'\(file.url.path)': '\(name)' \(what). The file is damaged; fetch or make it again.")
    }
    let shapes = Self.shapes(storage, rows: shape[0], columns: shape[1], axis: axis)
    guard let scaleEntry = file.entries[name + Self.scalesSuffix], scaleEntry.dtype == "F16",
      scaleEntry.shape == shapes.scales
    else { throw refuse("needs '\(name)\(Self.scalesSuffix)', F16 of shape \(shapes.scales)") }
    self.init(storage, rows: shape[0], columns: shape[1], axis: axis)
    try file.withBytes(of: scaleEntry) { bytes in
      for row in 0..<storedRows {
        for group in 0..<scaleStride {
          let bits = bytes.loadUnaligned(
            fromByteOffset: 2 * place(row, group, width: shapes.scales[1]), as: UInt16.self)
          let scale = Float(float16: UInt16(littleEndian: bits))
          guard scale.isFinite, scale >= 0 else { throw refuse("has a scale of \(scale)") }
          scales[row * scaleStride + group] = scale
        }
      }
    }
  }
}
