import Dispatch

/// What this machine's cores can do at most: multiply-adds on registers, nothing read or written.
public enum PeakMeasurement {
  /// 10⁹ floating-point operations per second on so many threads together.
  public static func gigaflops(threads: Int, seconds: Double) -> Double {
    let clock = ContinuousClock()
    let counts = Counts(threads)
    let start = clock.now
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      var count = 0
      var total: Float = 0
      repeat {
        total += multiplyAdds(rounds, Float(count % 3) * 0.1, 0.1)
        count += 1
      } while (clock.now - start).seconds < seconds
      counts.values[thread] = count
      // Somebody looks at the result, so that it is computed.
      counts.totals[thread] = total
    }
    let elapsed = (clock.now - start).seconds
    let done = counts.values.reduce(0, +) * rounds
    return Double(done) * 12 * 2 * Double(lanes) / elapsed / 1e9
  }

  private static let rounds = 1_000_000

  /// Twelve chains that do not wait for each other: more than a core has multiply-adds under way.
  @inline(never) private static func multiplyAdds(_ count: Int, _ x: Float, _ y: Float) -> Float {
    let a = broadcast(x)
    let b = broadcast(y)
    var c0 = Vector.zero
    var c1 = Vector.zero
    var c2 = Vector.zero
    var c3 = Vector.zero
    var c4 = Vector.zero
    var c5 = Vector.zero
    var c6 = Vector.zero
    var c7 = Vector.zero
    var c8 = Vector.zero
    var c9 = Vector.zero
    var c10 = Vector.zero
    var c11 = Vector.zero
    for _ in 0..<count {
      c0 = fma(a, c0, b)
      c1 = fma(a, c1, b)
      c2 = fma(a, c2, b)
      c3 = fma(a, c3, b)
      c4 = fma(a, c4, b)
      c5 = fma(a, c5, b)
      c6 = fma(a, c6, b)
      c7 = fma(a, c7, b)
      c8 = fma(a, c8, b)
      c9 = fma(a, c9, b)
      c10 = fma(a, c10, b)
      c11 = fma(a, c11, b)
    }
    return (c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11).sum()
  }

  /// One place per thread, each written by its own.
  private final class Counts: @unchecked Sendable {
    let values: UnsafeMutableBufferPointer<Int>
    let totals: UnsafeMutableBufferPointer<Float>
    init(_ count: Int) {
      values = .allocate(capacity: count)
      values.initialize(repeating: 0)
      totals = .allocate(capacity: count)
      totals.initialize(repeating: 0)
    }
    deinit {
      values.deallocate()
      totals.deallocate()
    }
  }
}
