#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// Scalar functions of the C library under names that do not clash with the vector ones.
package func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
package func cosine(_ x: Float) -> Float { cosf(x) }
func sine(_ x: Float) -> Float { sinf(x) }
package func logarithm(_ x: Float) -> Float { logf(x) }
package func cosine(_ x: Double) -> Double { cos(x) }
package func exponential(_ x: Float) -> Float { expf(x) }
package func naturalLogarithm(_ x: Double) -> Double { log(x) }
package func exponential(_ x: Double) -> Double { exp(x) }
