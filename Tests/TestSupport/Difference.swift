import PeatTensor
import Testing

/// How far two tensors are apart: max |a − b| / max |b|, and where the worst element lies.
public struct Difference: CustomStringConvertible {
  /// max |a − b| / max |b|; the plain max |a − b| where b is all zero; infinite where shapes differ or one of the two
  /// has a NaN or an infinity that the other has not.
  public private(set) var relative = 0.0
  public private(set) var description = "no elements"

  public init(_ found: Tensor, _ expected: Tensor) {
    self.init(
      found.scalars.map(Double.init), found.shape, expected.scalars.map(Double.init),
      expected.shape)
  }

  /// Compares with values that were computed in higher precision.
  public init(_ found: Tensor, _ expected: [Double]) {
    self.init(found.scalars.map(Double.init), found.shape, expected, found.shape)
  }

  private init(_ found: [Double], _ foundShape: [Int], _ expected: [Double], _ shape: [Int]) {
    guard foundShape == shape, found.count == expected.count else {
      relative = .infinity
      description = "shape \(foundShape) (\(found.count)), expected \(shape) (\(expected.count))"
      return
    }
    var scale = 0.0
    var worst = -1.0
    var place = 0
    for i in found.indices {
      let (a, b) = (found[i], expected[i])
      var distance = abs(a - b)
      if a == b || (a.isNaN && b.isNaN) {
        distance = 0
      } else if !distance.isFinite {
        distance = .infinity
      }
      if b.isFinite { scale = max(scale, abs(b)) }
      if distance > worst {
        worst = distance
        place = i
      }
    }
    guard worst >= 0 else { return }
    relative = worst == 0 ? 0 : worst / (scale == 0 ? 1 : scale)
    description =
      "relative difference \(relative): at \(Difference.index(place, shape)) found \(found[place]), "
      + "expected \(expected[place]); largest expected \(scale)"
  }

  /// The position in a tensor of this shape of its element number `flat`.
  private static func index(_ flat: Int, _ shape: [Int]) -> [Int] {
    var rest = flat
    var result: [Int] = []
    for size in shape.reversed() {
      result.append(rest % max(size, 1))
      rest /= max(size, 1)
    }
    return result.reversed()
  }
}

/// Expects max |found − expected| / max |expected| ≤ tolerance, and says which element is worst if not.
public func expectClose(
  _ found: Tensor, _ expected: Tensor, within tolerance: Double, _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let difference = Difference(found, expected)
  #expect(
    difference.relative <= tolerance, "\(what): \(difference)", sourceLocation: sourceLocation)
}

/// Expects agreement with values that were computed in higher precision.
public func expectClose(
  _ found: Tensor, _ expected: [Double], within tolerance: Double, _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let difference = Difference(found, expected)
  #expect(
    difference.relative <= tolerance, "\(what): \(difference)", sourceLocation: sourceLocation)
}
