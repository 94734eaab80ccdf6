extension WeightStorage {
  /// Bytes that a linear layer's matrix takes in memory, as `PackedMatrix.byteCount` says once it is there: rows of inputs filled up
  /// to whole groups, and for integers a float32 scale for each group.
  public func bytes(inputs: Int, outputs: Int) -> Int {
    let groups = (inputs + PackedMatrix.groupSize - 1) / PackedMatrix.groupSize
    let padded = groups * PackedMatrix.groupSize
    return switch self {
    case .float32: 4 * inputs * outputs
    case .bfloat16, .float16: 2 * padded * outputs
    case .int8: (padded + 4 * groups) * outputs
    case .int4: (padded / 2 + 4 * groups) * outputs
    }
  }
}
