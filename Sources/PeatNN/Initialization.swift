import PeatTensor

extension Tensor {
  /// Normal numbers of the given deviation.
  public static func normal(
    _ shape: [Int], deviation: Float, using random: inout SeededRandom
  ) -> Tensor {
    let count = shape.reduce(1, *)
    return Tensor((0..<count).map { _ in deviation * random.normal() }, shape: shape)
  }

  /// Uniform numbers in [-bound, bound).
  public static func uniform(
    _ shape: [Int], bound: Float, using random: inout SeededRandom
  ) -> Tensor {
    let count = shape.reduce(1, *)
    return Tensor((0..<count).map { _ in random.uniform(-bound, bound) }, shape: shape)
  }
}
