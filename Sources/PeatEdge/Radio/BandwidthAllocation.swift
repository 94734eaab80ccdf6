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
  ///   - need: the band in which a transfer has a rate, where that is known; else it is searched for.
  public static func shortest(
    _ transfers: [Transfer], band: Double, rate: (_ number: Int, _ band: Double) -> Double,
    need: ((_ number: Int, _ rate: Double) -> Double)? = nil
  ) -> Solution {
    let numbers = transfers.indices.filter { transfers[$0].bits > 0 }
    var bands = Array(repeating: 0.0, count: transfers.count)
    let idle = transfers.map(\.beside).max() ?? 0
    guard !numbers.isEmpty else { return Solution(seconds: idle, bands: bands) }
    // Equal shares are a plan, and the whole band for each alone is a bound.
    var high = idle
    var low = idle
    for number in numbers {
      let transfer = transfers[number]
      high = max(
        high, transfer.beside + transfer.bits / rate(number, band / Double(numbers.count)))
      low = max(low, transfer.beside + transfer.bits / rate(number, band))
    }
    guard high < .infinity else { return Solution(seconds: .infinity, bands: bands) }

    /// The least band that ends a transfer in time; more than there is where there is none.
    func width(_ number: Int, _ seconds: Double) -> Double {
      let wanted = transfers[number].bits / (seconds - transfers[number].beside)
      if let need { return min(need(number, wanted), 2 * band) }
      let most = rate(number, band) - wanted
      if most < 0 { return 2 * band }
      return root(below: 0, -wanted, above: band, most) { rate(number, $0) - wanted }
    }
    func excess(_ seconds: Double) -> Double {
      var sum = -band
      for number in numbers {
        sum += width(number, seconds)
        if sum > 16 * band { break }
      }
      return sum
    }
    if high > low {
      let (over, under) = (excess(low), excess(high))
      if over <= 0 {
        high = low
      } else if under < 0 {
        high = root(below: low, over, above: high, under, excess)
      }
    }
    var total = 0.0
    for number in numbers {
      bands[number] = min(width(number, high), band)
      total += bands[number]
    }
    // What is left over hurts nobody, and what the search is off by is taken from all: in proportion.
    if total > 0 { for number in numbers { bands[number] *= band / total } }
    return Solution(seconds: high, bands: bands)
  }

  /// Where a function has the value 0, between two places where its signs differ.
  ///
  /// Regula falsi with halved weights (Illinois): Dowell and Jarratt 1971, <https://doi.org/10.1007/BF01934364>.
  private static func root(
    below: Double, _ first: Double, above: Double, _ second: Double, _ f: (Double) -> Double
  ) -> Double {
    var (a, fa, b, fb) = (below, first, above, second)
    for step in 0..<200 {
      if abs(b - a) <= 1e-11 * max(abs(a), abs(b)) { break }
      // Now and then the middle, in case one end does not move.
      let c = step % 8 == 7 ? (a + b) / 2 : (a * fb - b * fa) / (fb - fa)
      let fc = f(c)
      if fc == 0 { return c }
      if (fc > 0) == (fb > 0) {
        (b, fb) = (c, fc)
        fa /= 2
      } else {
        (a, fa, b, fb) = (b, fb, c, fc)
      }
    }
    return abs(fa) < abs(fb) ? a : b
  }
}
