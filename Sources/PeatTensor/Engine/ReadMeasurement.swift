import Dispatch

/// What this machine's cores can read from memory at most, together.
public final class ReadMeasurement: @unchecked Sendable {
  // Written only in the initializer.
  private let values: FloatPointer
  /// More than caches hold.
  private static let count = 64 << 20

  public init() {
    values = .allocate(capacity: Self.count)
    values.initialize(repeating: 1, count: Self.count)
  }

  deinit { values.deallocate() }

  /// 10⁹ bytes per second on so many threads together, each summing a part of a large buffer again and again; the best
  /// of the passes.
  public func gigabytesPerSecond(threads: Int, passes: Int = 5) -> Double {
    let clock = ContinuousClock()
    let part = Self.count / threads / 64 * 64
    var best = 0.0
    for _ in 0..<passes {
      let start = clock.now
      DispatchQueue.concurrentPerform(iterations: threads) { thread in
        precondition(Self.total(part, self.values + thread * part) > 0)
      }
      best = max(best, Double(threads * part * 4) / (clock.now - start).seconds / 1e9)
    }
    return best
  }

  @inline(never) private static func total(_ count: Int, _ values: FloatPointer) -> Float {
    var s0 = Vector.zero
    var s1 = Vector.zero
    var s2 = Vector.zero
    var s3 = Vector.zero
    var i = 0
    while i &+ 4 &* lanes <= count {
      s0 += load(values + i)
      s1 += load(values + i + lanes)
      s2 += load(values + i + 2 &* lanes)
      s3 += load(values + i + 3 &* lanes)
      i &+= 4 &* lanes
    }
    return laneSum(s0 + s1 + s2 + s3)
  }
}
