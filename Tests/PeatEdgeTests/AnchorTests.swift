import PeatControl
import PeatEdge
import PeatTensor
import TestSupport
import Testing

@Suite("The anchor environment") struct AnchorTests {
  /// The least cost over all joint decisions that differ in effect.
  private func bruteForce(_ process: AnchorCell.Process, rounds: Double) -> Double {
    let options: [[Int32]] = [[0, 0, 0], [1, 0, 0]] + (0..<8).map { [1, 1, $0] }
    let count = process.devices.count
    var least = Double.infinity
    var choice = Array(repeating: 0, count: count)
    while true {
      let actions = choice.flatMap { options[$0] }
      let result = AnchorCell.cost(process, actions, branches: 3)
      // The round's own cost, with what the next ones save.
      least = min(least, result.cost + (rounds - 1) * result.after.gap)
      var place = 0
      while place < count, choice[place] == options.count - 1 {
        choice[place] = 0
        place += 1
      }
      if place == count { return least }
      choice[place] += 1
    }
  }

  @Test(arguments: [(2, 600, 1.0), (3, 300, 1.0), (4, 60, 1.0), (2, 100, 20.0), (3, 40, 20.0)])
  func `the search finds what brute force finds`(devices: Int, states: Int, rounds: Double) {
    let cell = AnchorCell(count: states, devices: devices, seed: UInt64(devices))
    let random = AnchorRandom(seed: 5)
    let actions = UnsafeMutablePointer<Int32>.allocate(capacity: states * cell.shape.choices)
    let outcomes = UnsafeMutablePointer<ControlOutcome>.allocate(capacity: states)
    defer {
      actions.deallocate()
      outcomes.deallocate()
    }
    // Some rounds by chance, so that devices hold this and that.
    for _ in 0..<7 {
      random.decide(cell, into: actions)
      cell.step(actions, into: outcomes)
    }
    let search = AnchorSearch(rounds: rounds)
    search.decide(cell, into: actions)
    for (number, process) in cell.processes.enumerated() {
      let least = bruteForce(process, rounds: rounds)
      let action = actions + number * cell.shape.choices
      let result = AnchorCell.cost(process, action, branches: 3)
      #expect(abs(result.cost + (rounds - 1) * result.after.gap - least) < 1e-9)
    }
  }

  @Test func `simple policies return what they return in the peers' script`() {
    func play(_ policy: some ControlPolicy<AnchorCell>, episodes: Int = 256) -> ReturnStatistics {
      policy.play(AnchorCell(count: episodes, seed: 123))
    }
    func expect(_ found: ReturnStatistics, _ mean: Double, _ error: Double) {
      let spread = (found.standardError * found.standardError + error * error).squareRoot()
      #expect(abs(found.mean - mean) < 4 * spread + 0.01, "\(found), expected \(mean)")
    }
    expect(play(AnchorIdle()), -50, 0)
    expect(play(AnchorRandom(seed: 1)), -32.64, 0.21)
    expect(play(AnchorHeuristic()), -18.15, 0.13)
    // Measured with the script beside this test: their standard errors are of 256 episodes too.
    expect(play(AnchorFixedLevel(0)), -37.73, 0.2)
    expect(play(AnchorFixedLevel(4)), -28.65, 0.3)
    expect(play(AnchorFixedLevel(6)), -30.16, 0.2)
    expect(play(AnchorSearch(rounds: 20), episodes: 64), -8.86, 0.30)
    expect(play(AnchorSearch(rounds: 5), episodes: 32), -12.11, 0.40)
  }
}
