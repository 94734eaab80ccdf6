#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A channel's efficiency by its ratio of signal and noise, read from a table: a simulated round asks thousands of times.
///
/// Between entries a quarter of a decibel apart it interpolates; the error is below 1e-4 bit/s/Hz.
package struct CapacityTable: Sendable {
  private static let first = -40.0
  private static let last = 80.0
  private static let step = 0.25
  private let values: [Double]

  /// - Parameter efficiency: bit/s per hertz at a ratio.
  package init(_ efficiency: (Double) -> Double) {
    values = stride(from: Self.first, through: Self.last, by: Self.step).map {
      efficiency(ratio(decibels: $0))
    }
  }

  /// - Parameter snr: as a ratio; infinite where no noise is left in a band that is next to nothing.
  package func efficiency(snr: Double) -> Double {
    guard snr > 0 else { return 0 }
    let place = (decibels(snr) - Self.first) / Self.step
    // Below, efficiency is proportional to the ratio; above, it no longer matters.
    if place <= 0 { return values[0] * snr / ratio(decibels: Self.first) }
    guard place < Double(values.count - 1) else { return values[values.count - 1] }
    let index = Int(place)
    let share = place - Double(index)
    return values[index] + share * (values[index + 1] - values[index])
  }
}
