import Dispatch

/// What this machine's cores can do at most in matrix products.
public enum PeakMeasurement {
  /// 10⁹ floating-point operations per second of square products that stay in the cache, on so many threads together.
  public static func gigaflops(threads: Int, seconds: Double) -> Double {
    let size = 384
    let clock = ContinuousClock()
    let counts = Counts(threads)
    let start = clock.now
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      let a = Tensor(repeating: 0.5, shape: [size, size])
      let b = Tensor(repeating: 0.25, shape: [size, size])
      let c = Tensor(zeros: [size, size])
      var count = 0
      repeat {
        MatrixProduct.compute(
          m: size, n: size, k: size, a: a.pointer, lda: size, b: b.pointer, ldb: size,
          c: c.pointer, ldc: size)
        count += 1
      } while (clock.now - start).seconds < seconds
      // The products used bare pointers into these.
      withExtendedLifetime((a, b, c)) {}
      counts.values[thread] = count
    }
    let elapsed = (clock.now - start).seconds
    let products = counts.values.reduce(0, +)
    return Double(products) * 2 * Double(size * size * size) / elapsed / 1e9
  }

  /// One count per thread, each written by its own.
  private final class Counts: @unchecked Sendable {
    let values: UnsafeMutableBufferPointer<Int>
    init(_ count: Int) {
      values = .allocate(capacity: count)
      values.initialize(repeating: 0)
    }
    deinit { values.deallocate() }
  }
}
