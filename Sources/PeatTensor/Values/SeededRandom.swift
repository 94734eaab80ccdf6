#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A seeded source of random numbers whose state can be written to a file and read back.
///
/// xoshiro256** seeded through SplitMix64. Same seed, same numbers, on every platform.
///
/// Source: Blackman and Vigna 2021, <https://doi.org/10.1145/3460772>.
public struct SeededRandom: RandomNumberGenerator, Sendable, Codable, Equatable {
  private var s0: UInt64
  private var s1: UInt64
  private var s2: UInt64
  private var s3: UInt64

  public init(seed: UInt64) {
    var mixer = seed
    func next() -> UInt64 {
      mixer &+= 0x9E37_79B9_7F4A_7C15
      var z = mixer
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
    s0 = next()
    s1 = next()
    s2 = next()
    s3 = next()
  }

  /// An independent stream for one purpose: `SeededRandom(seed: 7, "client 3, round 2")`.
  ///
  /// The label is hashed with FNV-1a, so that streams do not depend on the order in which they are made.
  public init(seed: UInt64, _ label: String) {
    self.init(seed: seed ^ SeededRandom.hash(of: label))
  }

  /// FNV-1a.
  package static func hash(of label: String) -> UInt64 {
    label.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  public mutating func next() -> UInt64 {
    func rotate(_ x: UInt64, _ k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }
    let result = rotate(s1 &* 5, 7) &* 9
    let t = s1 << 17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = rotate(s3, 45)
    return result
  }

  /// A float in [0, 1), from the 24 highest bits.
  public mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// A float in [low, high).
  public mutating func uniform(_ low: Float, _ high: Float) -> Float {
    let value = low + (high - low) * uniform()
    // The sum may round up to the end that does not belong to the range.
    return value < high ? value : max(low, high.nextDown)
  }

  /// An integer in 0..<bound, without bias (Lemire 2019, <https://doi.org/10.1145/3230636>).
  public mutating func integer(below bound: Int) -> Int {
    precondition(bound > 0, "integer(below:) needs a positive bound, not \(bound)")
    let range = UInt64(bound)
    var product = next().multipliedFullWidth(by: range)
    if product.low < range {
      let threshold = (0 &- range) % range
      while product.low < threshold { product = next().multipliedFullWidth(by: range) }
    }
    return Int(product.high)
  }

  /// A standard normal number (Box and Muller 1958).
  public mutating func normal() -> Float {
    let radius = (-2 * log(1 - Double(next() >> 11) * 0x1p-53)).squareRoot()
    let angle = 2 * Double.pi * Double(next() >> 11) * 0x1p-53
    return Float(radius * cos(angle))
  }

  /// A new order of the elements (Fisher and Yates).
  public mutating func shuffled<Element>(_ elements: [Element]) -> [Element] {
    var result = elements
    for i in stride(from: result.count - 1, to: 0, by: -1) {
      result.swapAt(i, integer(below: i + 1))
    }
    return result
  }
}
