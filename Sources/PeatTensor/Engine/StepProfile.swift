#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Where the processor time of a training step goes. A tape has one only while somebody measures.
///
/// Parts may lie inside each other; time counts for the innermost.
package final class StepProfile {
  package enum Part: String, Sendable, CaseIterable {
    /// Products with weights, a low-rank update's share in them included.
    case products
    /// What a low-rank update costs beside: the sums that are its gradients.
    case lowRank
    case attention
    case norms
    /// GELU, SwiGLU, rotary and token embedding.
    case elementwise
    /// The head's products are under `products`; this is the softmax between them.
    case loss
    case optimizer
  }

  /// Seconds of this thread's processor time by part.
  package private(set) var seconds: [Part: Double] = [:]
  private var open: [Part] = []
  private var last = 0.0

  package init() {}

  package func enter(_ part: Part) {
    charge()
    open.append(part)
  }

  package func leave() {
    charge()
    open.removeLast()
  }

  private func charge() {
    let now = StepProfile.processorTime
    if let part = open.last { seconds[part, default: 0] += now - last }
    last = now
  }

  /// Seconds that this thread has been computing.
  private static var processorTime: Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}

extension Tape {
  /// Does something, and counts its processor time for a part where somebody measures.
  @inline(__always) package func measured<Result>(
    _ part: StepProfile.Part, _ body: () throws -> Result
  ) rethrows -> Result {
    guard let profile else { return try body() }
    profile.enter(part)
    defer { profile.leave() }
    return try body()
  }
}
