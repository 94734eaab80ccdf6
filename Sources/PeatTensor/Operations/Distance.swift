/// How large values are, and how far from others, in one pass.
public struct Extent: Sendable, Equatable {
  /// The largest absolute value; not to be relied on where the distance is not finite.
  public var largest: Float = 0
  /// The squared L2 norm of the difference, summed in double precision; NaN or infinity where a value is.
  public var squaredDistance = 0.0
}

extension Tensor {
  /// - Parameter other: of the same shape.
  public func extent(from other: Tensor) -> Extent {
    precondition(shape == other.shape, "extent: \(shape) from \(other.shape)")
    return withUnsafeBufferPointer { values in
      other.withUnsafeBufferPointer { others in
        guard let first = values.baseAddress, let second = others.baseAddress else {
          return Extent()
        }
        var largest = SIMD8<Float>()
        var squares = SIMD8<Double>()
        var i = 0
        while i + 8 <= values.count {
          let value = UnsafeRawPointer(first + i).loadUnaligned(as: SIMD8<Float>.self)
          let from = UnsafeRawPointer(second + i).loadUnaligned(as: SIMD8<Float>.self)
          let size = value.replacing(with: -value, where: value .< 0)
          largest.replace(with: size, where: size .> largest)
          let difference = SIMD8<Double>(value) - SIMD8<Double>(from)
          squares += difference * difference
          i += 8
        }
        var result = Extent(largest: largest.max(), squaredDistance: squares.sum())
        while i < values.count {
          result.largest = max(result.largest, abs(first[i]))
          let difference = Double(first[i]) - Double(second[i])
          result.squaredDistance += difference * difference
          i += 1
        }
        return result
      }
    }
  }
}
