import FedPEAT
import Foundation
import Synchronization

/// How far the short federations of a calibration are, and how long they still take.
final class CalibrationPace: Sendable {
  private struct State {
    var begun = 0
    var name = ""
    /// Seconds of what is done as they were expected, and of these of what was done before an interruption.
    var expectedDone = 0.0
    var expectedBefore = 0.0
    var start = ContinuousClock.now
  }

  /// Seconds that a round of each federation is expected to take.
  private let expected: [Double]
  private let rounds: Int
  private let state = Mutex(State())

  /// - Parameters:
  ///   - expected: for each federation, in the order in which they are made, seconds of a round: training and measuring.
  ///   - rounds: of each.
  init(secondsPerRound expected: [Double], rounds: Int) {
    self.expected = expected
    self.rounds = rounds
  }

  /// Says what is to come.
  func announce() {
    let total = expected.reduce(0, +) * Double(rounds)
    Terminal.note(
      "federations  \(expected.count) of \(rounds) rounds each, about \(Format.time(.seconds(total))) in all"
    )
    state.withLock { $0.start = .now }
  }

  func begin(_ name: String) {
    state.withLock {
      $0.begun += 1
      $0.name = name
      $0.expectedDone = expected.prefix($0.begun - 1).reduce(0, +) * Double(rounds)
    }
    tell(round: 0)
  }

  /// The federation that was begun was made before an interruption.
  func skip() {
    state.withLock { state in
      guard expected.indices.contains(state.begun - 1) else { return }
      state.expectedBefore += expected[state.begun - 1] * Double(rounds)
    }
  }

  func roundMeasured(_ round: Int) {
    state.withLock { state in
      guard expected.indices.contains(state.begun - 1) else { return }
      state.expectedDone += expected[state.begun - 1]
    }
    tell(round: round)
  }

  /// What is left: as long as was expected, times how far that was off so far.
  private func tell(round: Int) {
    let (state, total) = (state.withLock { $0 }, expected.reduce(0, +) * Double(rounds))
    let elapsed = (ContinuousClock.now - state.start) / .seconds(1)
    let done = state.expectedDone - state.expectedBefore
    let factor = done > 0 ? elapsed / done : 1
    let left = max(total - state.expectedDone, 0) * factor
    Terminal.status(
      "federation \(state.begun) of \(expected.count), \(state.name): round \(min(round + 1, rounds)) of \(rounds), about \(Format.time(.seconds(left))) left"
    )
  }
}
