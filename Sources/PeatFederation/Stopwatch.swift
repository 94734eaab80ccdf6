/// Time since it was made, on a clock that is passed in.
struct Stopwatch: Sendable {
  private let read: @Sendable () -> Duration

  init(_ clock: any Clock<Duration>) { self = Self.start(clock) }

  private init(read: @escaping @Sendable () -> Duration) { self.read = read }

  private static func start<C: Clock>(_ clock: C) -> Stopwatch where C.Duration == Duration {
    let start = clock.now
    return Stopwatch { start.duration(to: clock.now) }
  }

  var elapsed: Duration { read() }
  var seconds: Double { elapsed.inSeconds }
}

extension Duration {
  /// The duration in seconds.
  package var inSeconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }
}
