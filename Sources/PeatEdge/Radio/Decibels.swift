#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// 10 · log₁₀ of a ratio of powers.
func decibels(_ ratio: Double) -> Double { 10 * log10(ratio) }

/// The ratio of powers of so many decibels.
func ratio(decibels: Double) -> Double { pow(10, decibels / 10) }

/// Watts of so many dBm.
func watts(dBm: Double) -> Double { pow(10, (dBm - 30) / 10) }
