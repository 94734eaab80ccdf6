#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Shares a band so that the last of all transfers ends as early as it can.
///
///     min T   so that   c_i + D_i / R_i(b_i) ≤ T,   Σ b_i ≤ B
///
/// A rate R_i(b) rises with the band and never beyond its bound, so the least band that keeps a time is found by bisection, and
/// so is the least time whose bands fit together: the optimum, to the stated precision.
public enum BandwidthAllocation {
  /// One device's transfer.
  public struct Transfer: Sendable {
    /// c: seconds that pass beside it.
    public var beside: Double
    /// D, in bits.
    public var bits: Double

    public init(beside: Double = 0, bits: Double) {
      self.beside = beside
      self.bits = bits
    }
  }

  public struct Solution: Sendable, Equatable {
    /// T in seconds; infinite where some transfer can't end at all.
    public var seconds: Double
    /// b_i in hertz.
    public var bands: [Double]

    public init(seconds: Double, bands: [Double]) {
      self.seconds = seconds
      self.bands = bands
    }
  }

  /// - Parameters:
  ///   - band: B, in hertz.
  ///   - rate: R, in bit/s, of a transfer's number and a band; rising in the band.
  public static func shortest(
    _ transfers: [Transfer], band: Double, rate: (_ number: Int, _ band: Double) -> Double
  ) -> Solution {
    let numbers = transfers.indices.filter { transfers[$0].bits > 0 }
    var bands = Array(repeating: 0.0, count: transfers.count)
    let idle = transfers.map(\.beside).max() ?? 0
    guard !numbers.isEmpty else { return Solution(seconds: idle, bands: bands) }
    // Equal shares are a plan, and the whole band for each alone is a bound.
    func end(_ number: Int, _ share: Double) -> Double {
      transfers[number].beside + transfers[number].bits / rate(number, share)
    }
    var high = max(idle, numbers.map { end($0, band / Double(numbers.count)) }.max() ?? 0)
    var low = max(idle, numbers.map { end($0, band) }.max() ?? 0)
    guard high < .infinity else { return Solution(seconds: .infinity, bands: bands) }

    /// The least band that ends a transfer in time; more than there is where there is none.
    func need(_ number: Int, _ seconds: Double) -> Double {
      let wanted = transfers[number].bits / (seconds - transfers[number].beside)
      if rate(number, band) < wanted { return 2 * band }
      var (below, above) = (0.0, band)
      for _ in 0..<60 {
        let middle = (below + above) / 2
        if rate(number, middle) < wanted { below = middle } else { above = middle }
        if above - below < 1e-9 * above { break }
      }
      return above
    }
    for _ in 0..<100 {
      if high - low <= 1e-10 * high { break }
      let middle = (low + high) / 2
      var sum = 0.0
      for number in numbers {
        sum += need(number, middle)
        if sum > band { break }
      }
      if sum > band { low = middle } else { high = middle }
    }
    for number in numbers { bands[number] = min(need(number, high), band) }
    // What is left over hurts nobody: it goes to all in proportion.
    let total = bands.reduce(0, +)
    if total > 0 { for number in numbers { bands[number] *= band / total } }
    return Solution(seconds: high, bands: bands)
  }
}
