import PeatTensor

/// How a run of a trainer keeps how far it is, so that another one goes on from there to the same bits.
public struct StateKeeping {
  /// When it is kept on the way.
  public enum Interval: Sendable, Equatable {
    case steps(Int)
    /// A run that is shorter pays nothing; and keeping takes at most a fiftieth of the time, however large the state is.
    case time(Duration)
  }

  /// `nil`: only where a run ends early.
  public let interval: Interval?
  /// Keeps where a trainer stands.
  public let keep: (Trainer) throws -> Void

  public init(every interval: Interval?, _ keep: @escaping (Trainer) throws -> Void) {
    self.interval = interval
    self.keep = keep
  }
}

/// When the next state is due.
package struct KeepingPace {
  private let interval: StateKeeping.Interval?
  /// The step that was kept last in this run.
  package private(set) var lastKept: Int?
  private var lastTime = Duration.zero
  private var cost = Duration.zero

  package init(_ interval: StateKeeping.Interval?) { self.interval = interval }

  /// - Parameter time: since the run began.
  package func isDue(_ step: Int, at time: Duration) -> Bool {
    switch interval {
    case nil: false
    case .steps(let count): step % max(count, 1) == 0
    case .time(let interval): time - lastTime >= max(interval, cost * 50)
    }
  }

  /// A state was kept.
  package mutating func kept(_ step: Int, from start: Duration, to end: Duration) {
    lastKept = step
    lastTime = end
    cost = end - start
  }
}
