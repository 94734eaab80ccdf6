import PeatFederation
import Testing

/// A machine that lives through random events, and what the world owes it.
protocol MachineWalk {
  var ending: RunEnding? { get }
  /// Whether nothing is owed to the machine but time.
  var isIdle: Bool { get }
  mutating func take(_ event: RoundEvent)
  /// Something happens, likely or unlikely.
  mutating func step()
  mutating func takeTimer()
  mutating func takeOwed()
}

extension MachineWalk {
  /// A whole life: so many events, and from then on nothing new; answers come and time passes. It must end.
  mutating func live(steps: Int, rest: Int) {
    take(.started)
    for _ in 0..<steps where ending == nil { step() }
    for _ in 0..<rest where ending == nil {
      if isIdle { takeTimer() } else { takeOwed() }
    }
  }
}

/// How lives came to an end.
struct WalkEnds {
  var completed = 0
  var failed = 0

  mutating func count(_ ending: RunEnding?, seed: Int) {
    switch ending {
    case .completed: completed += 1
    case .failed: failed += 1
    default: Issue.record("seed \(seed): the run did not end")
    }
  }
}
