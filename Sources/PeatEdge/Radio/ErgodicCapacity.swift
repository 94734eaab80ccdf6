#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a fading channel carries on average, in bit/s per hertz.
///
/// A download lasts seconds, a thousand times as long as a fade: its rate is the mean over fades, not that of one of them.
public enum ErgodicCapacity {
  /// Rayleigh fading: E log₂(1 + g·|h|²) = e^(1/g) · E₁(1/g) / ln 2, |h|² exponential of mean 1.
  ///
  /// - Parameter snr: g, the mean ratio of signal and noise.
  ///
  /// Source: Alouini and Goldsmith 1999, <https://doi.org/10.1109/25.775366>.
  public static func rayleigh(snr: Double) -> Double {
    snr > 0 ? scaledExponentialIntegral(1 / snr) / M_LN2 : 0
  }

  /// Rician fading: a direct path, K times as strong as all others together.
  ///
  /// |h|² is a mixture of gamma variables, Poisson-weighted: E log₂(1 + g|h|²) = Σ_n e^(−K) Kⁿ/n! · E log₂(1 + g/(K+1) · Γ_{n+1}), and with
  /// a = (K+1)/g the integral of Γ_{n+1} is Σ_{j=1}^{n+1} e^a · E_j(a) / ln 2.
  ///
  /// - Parameters:
  ///   - snr: g, the mean ratio of signal and noise.
  ///   - k: K, 0 for Rayleigh fading.
  public static func rician(snr: Double, k: Double) -> Double {
    if snr <= 0 { return 0 }
    let a = (k + 1) / snr
    // e^a·E_1(a), and the next ones: E_{j+1}(a) = (e^(−a) − a·E_j(a)) / j.
    let logA = log(a)
    var sum = 0.0
    var weight = exp(-k)
    var terms = 0.0
    var integrals = 0.0
    var n = 0
    while n < 2000 {
      integrals += scaledExponentialIntegral(a, order: n + 1, logA)
      sum += weight * integrals
      terms += weight
      if 1 - terms < 1e-12, Double(n) > k { break }
      n += 1
      weight *= k / Double(n)
    }
    return sum / M_LN2
  }

  /// eˣ · E₁(x): a series below 1, a continued fraction from there on.
  static func scaledExponentialIntegral(_ x: Double) -> Double {
    if x < 1 {
      // E₁(x) = −γ − ln x − Σ (−x)ᵏ / (k·k!)
      var sum = -0.577_215_664_901_532_9 - log(x)
      var term = 1.0
      for k in 1..<40 {
        term *= -x / Double(k)
        sum -= term / Double(k)
      }
      return exp(x) * sum
    }
    return scaledExponentialIntegral(x, order: 1, log(x))
  }

  /// eˣ · E_n(x).
  private static func scaledExponentialIntegral(_ x: Double, order n: Int, _ logX: Double) -> Double
  {
    if n == 1, x < 1 { return scaledExponentialIntegral(x) }
    if x >= 1 || n > 1 && x + Double(n) > 30 {
      // 1 / (x + n − 1·n / (x + n + 2 − 2·(n + 1) / (x + n + 4 − …))), by Lentz's method.
      var b = x + Double(n)
      var c = 1e300
      var d = 1 / b
      var h = d
      for i in 1..<400 {
        let a = -Double(i) * (Double(n) - 1 + Double(i))
        b += 2
        d = 1 / (a * d + b)
        c = b + a / c
        let change = c * d
        h *= change
        if abs(change - 1) < 1e-15 { break }
      }
      return h
    }
    // Upwards from E₁: stable where x is small.
    var value = scaledExponentialIntegral(x)
    for j in 1..<n { value = (1 - x * value) / Double(j) }
    return value
  }
}
