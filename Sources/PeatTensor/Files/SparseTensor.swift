import Foundation

/// How a matrix that is mostly zeros lies in a safetensors file: its other values under the matrix's name, `[count]`, in the order of the rows, and under the name
/// with `_mask` one bit for each place, U8 `[⌈places / 8⌉]`, the first place in the lowest bit; 1 where there is a value.
public enum SparseTensor {
  public static let maskSuffix = "_mask"
  /// How `emulator.json` names the order of the bits.
  public static let packing = "bitmap-low-first"

  /// The values and the mask; `nil` where these are not smaller than the matrix.
  ///
  /// - Parameter bytesPerValue: as the file keeps them.
  public static func stored(
    _ tensor: Tensor, bytesPerValue: Int
  ) -> (values: Tensor, mask: SafeTensors.Raw)? {
    let places = tensor.withUnsafeBufferPointer { values in
      values.indices.filter { values[$0] != 0 }
    }
    let maskBytes = (tensor.count + 7) / 8
    guard places.count * bytesPerValue + maskBytes < tensor.count * bytesPerValue else {
      return nil
    }
    let values = Tensor(uninitialized: [places.count])
    var mask = Data(count: maskBytes)
    for (number, place) in places.enumerated() {
      values.pointer[number] = tensor.pointer[place]
      mask[place / 8] |= 1 << UInt8(place % 8)
    }
    return (values, .init("U8", [maskBytes], mask))
  }

  /// The whole matrix.
  ///
  /// - Parameters:
  ///   - shape: of the matrix.
  ///   - name: the matrix's, `file` its file.
  ///   - longest: what a side of the shape may be at most, so that a small file takes no large memory.
  /// - Throws: `badData` where values and mask do not fit each other or the shape.
  public static func read(
    _ name: String, shape: [Int], longest: Int, from file: SafeTensorsFile
  ) throws -> Tensor {
    func refuse(_ what: String) -> PeatError {
      .badData(
        "'\(file.url.path)': '\(name)' \(what). The file is damaged; fetch or make it again.")
    }
    guard shape.count == 2, shape.allSatisfy({ (1...max(longest, 1)).contains($0) }),
      shape[0].multipliedReportingOverflow(by: shape[1]).overflow == false
    else {
      throw refuse(
        "is stored sparsely with the shape \(shape), which is no matrix of the model: its sides are \(longest) at most"
      )
    }
    let count = shape[0] * shape[1]
    guard let entry = file.entries[name + maskSuffix], entry.dtype == "U8",
      entry.shape == [(count + 7) / 8]
    else { throw refuse("needs '\(name)\(maskSuffix)', U8 of shape [\((count + 7) / 8)]") }
    let values = try file.tensor(named: name)
    guard values.shape.count == 1 else {
      throw refuse("holds values of shape \(values.shape); they must be a list")
    }
    let result = Tensor(zeros: shape)
    var next = 0
    try file.withBytes(of: entry) { mask in
      for place in 0..<mask.count * 8 where mask[place / 8] & 1 << UInt8(place % 8) != 0 {
        guard place < count, next < values.count else {
          throw refuse("has a mask with more places than its \(values.count) values")
        }
        result.pointer[place] = values.pointer[next]
        next += 1
      }
    }
    guard next == values.count else {
      throw refuse("has \(values.count) values and a mask of \(next) places")
    }
    return result
  }
}
