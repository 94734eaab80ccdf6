import PeatTensor

extension Tensor {
  /// Normal numbers of the given deviation.
  public static func normal(
    _ shape: [Int], deviation: Float, using random: inout SeededRandom
  ) -> Tensor {
    let result = Tensor(uninitialized: shape)
    for i in 0..<result.count { result.pointer[i] = deviation * random.normal() }
    return result
  }

  /// Uniform numbers in [-bound, bound).
  public static func uniform(
    _ shape: [Int], bound: Float, using random: inout SeededRandom
  ) -> Tensor {
    let result = Tensor(uninitialized: shape)
    for i in 0..<result.count { result.pointer[i] = random.uniform(-bound, bound) }
    return result
  }
}
