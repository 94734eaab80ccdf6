import Foundation

/// How integers that are mostly zeros lie in safetensors files: those that are not zero in the order of the matrix's rows, int8 as I8 `[count]`, int4 as U8
/// `[⌈count / 2⌉]`, two in a byte, the earlier in the lower half, each as q + 8; the mask of `SparseTensor` under the name with `_mask`; scales as of all integers.
extension PackedMatrix {
  /// Its tensors, by their ending behind the name; `nil` where they are not smaller than `stored`, or it is no matrix of integers.
  public var storedSparsely: [String: SafeTensors.Raw]? {
    guard storage == .int8 || storage == .int4, let scales = stored[Self.scalesSuffix] else {
      return nil
    }
    var mask = Data(count: (rows * columns + 7) / 8)
    var values: [Int8] = []
    for row in 0..<rows {
      for column in 0..<columns {
        let value = isTransposed ? self.value(column, row) : self.value(row, column)
        guard value != 0 else { continue }
        let place = row * columns + column
        mask[place / 8] |= 1 << UInt8(place % 8)
        values.append(value)
      }
    }
    let bytes: [UInt8]
    if storage == .int8 {
      bytes = values.map { UInt8(bitPattern: $0) }
    } else {
      bytes = stride(from: 0, to: values.count, by: 2).map { place in
        let next = place + 1 < values.count ? values[place + 1] : 0
        return UInt8(bitPattern: values[place] &+ 8) | UInt8(bitPattern: next &+ 8) << 4
      }
    }
    guard bytes.count + mask.count < stored[""]?.bytes.count ?? 0 else { return nil }
    return [
      "": .init(storage == .int8 ? "I8" : "U8", [bytes.count], Data(bytes)),
      SparseTensor.maskSuffix: .init("U8", [mask.count], mask), Self.scalesSuffix: scales,
    ]
  }

  /// Reads integers of which only those are stored that are not zero.
  ///
  /// - Parameters:
  ///   - name: the matrix's, `source` the file's, for errors.
  ///   - shape: of the matrix.
  /// - Throws: `badData` where values, mask and scales do not fit each other or the shape.
  public convenience init(
    sparse storage: WeightStorage, shape: [Int], axis: Int, in file: SafeTensorsFile,
    name: String
  ) throws {
    func refuse(_ what: String) -> PeatError {
      .badData(
        "'\(file.url.path)': '\(name)' \(what). The file is damaged; fetch or make it again.")
    }
    guard shape.count == 2, storage == .int8 || storage == .int4 else {
      throw refuse("is no matrix of integers")
    }
    let maskBytes = (shape[0] * shape[1] + 7) / 8
    guard let mask = file.entries[name + SparseTensor.maskSuffix], mask.dtype == "U8",
      mask.shape == [maskBytes]
    else { throw refuse("needs '\(name)\(SparseTensor.maskSuffix)', U8 of shape [\(maskBytes)]") }
    let count = file.withBytes(of: mask) { $0.reduce(0) { $0 + $1.nonzeroBitCount } }
    let stored = storage == .int8 ? count : (count + 1) / 2
    guard let values = file.entries[name], values.dtype == (storage == .int8 ? "I8" : "U8"),
      values.shape == [stored]
    else {
      throw refuse(
        "must hold \(stored) bytes for the \(count) places of its mask, found \(file.entries[name].map { "\($0.dtype) \($0.shape)" } ?? "nothing")"
      )
    }
    try self.init(scalesOf: storage, shape: shape, axis: axis, in: file, name: name)
    if storage == .int4 {
      // Their zero is no zero bits.
      for row in 0..<storedRows { for column in 0..<storedColumns { put(0, row, column) } }
    }
    let limit: Int8 = storage == .int8 ? 127 : 7
    try file.withBytes(of: mask) { mask in
      try file.withBytes(of: values) { bytes in
        var next = 0
        for place in 0..<mask.count * 8 where mask[place / 8] & 1 << UInt8(place % 8) != 0 {
          guard place < rows * columns else { throw refuse("has a mask with too many places") }
          let value: Int8
          if storage == .int8 {
            value = Int8(bitPattern: bytes[next])
          } else {
            let byte = bytes[next / 2]
            value = Int8(bitPattern: next % 2 == 0 ? byte & 0x0f : byte >> 4) &- 8
          }
          guard value >= -limit else { throw refuse("holds \(value), below \(-limit)") }
          let (row, column) = (place / columns, place % columns)
          if isTransposed { put(value, column, row) } else { put(value, row, column) }
          next += 1
        }
      }
    }
  }
}
