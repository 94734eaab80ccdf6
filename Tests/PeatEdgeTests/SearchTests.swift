import PeatControl
import PeatEdge
import PeatTensor
import TestSupport
import Testing

@Suite("Searches over an edge") struct SearchTests {
  /// Cells of a few devices, some rounds on, so that devices hold this and that.
  private func cells(
    _ change: (inout EdgeConfiguration) -> Void, devices: Int, count: Int
  ) throws -> [EdgeCell] {
    var configuration = EdgeConfiguration.pedestrian
    configuration.devices = devices
    configuration.levels = [0, 3, 6].map { configuration.levels[$0] }
    configuration.objective.referenceTime = 60
    change(&configuration)
    let environment = try EdgeEnvironment(configuration, cells: count, seed: 3)
    let planner = try EdgeEnvironment.planner(named: "random", seed: 1)
    let choices = environment.shape.choices
    let actions = UnsafeMutablePointer<Int32>.allocate(capacity: count * choices)
    let outcomes = UnsafeMutablePointer<ControlOutcome>.allocate(capacity: count)
    defer {
      actions.deallocate()
      outcomes.deallocate()
    }
    for _ in 0..<2 {
      planner.decide(environment, into: actions)
      environment.step(actions, into: outcomes)
    }
    return environment.cells.filter { $0.gap > configuration.target }
  }

  /// The least value over all joint decisions.
  private func bruteForce(_ cell: EdgeCell, _ search: EdgeSearch) -> Double {
    let options =
      [EdgeDecision(isSelected: false), EdgeDecision(isSelected: true)]
      + (0..<3).map { EdgeDecision(isSelected: true, level: $0) }
    let devices = cell.devices.count
    var least = Double.infinity
    var joint = 1
    for _ in 0..<devices { joint *= options.count }
    for number in 0..<joint {
      var rest = number
      let decisions = (0..<devices).map { _ in
        defer { rest /= options.count }
        return options[rest % options.count]
      }
      least = min(least, search.value(of: decisions, cell))
    }
    return least
  }

  @Test(arguments: [1.0, 20.0])
  func `where progress adds up the search finds what brute force finds`(rounds: Double) throws {
    let search = EdgeSearch(rounds: rounds)
    for cell in try cells({ _ in }, devices: 4, count: 60) {
      let found = search.value(of: search.decisions(for: cell), cell)
      #expect(abs(found - bruteForce(cell, search)) < 1e-9 * max(abs(found), 1))
    }
  }

  @Test(arguments: [
    (0.0, 0.0, Objective.Aim.weighted), (0.4, 0, .weighted), (0.0, 0, .timeToTarget),
    (0.4, 0, .timeToTarget), (1, 0, .timeToTarget), (0.1, 0.3, .weighted),
    (0.1, 0.3, .timeToTarget),
  ])
  func `elsewhere it comes within a hundredth of brute force`(
    participation: Double, coverage: Double, aim: Objective.Aim
  ) throws {
    let states = try cells(
      {
        $0.learning.participation = participation
        $0.learning.coverage = coverage
        $0.objective.aim = aim
        $0.learning.slowing = 0.5
      }, devices: 4, count: 100)
    #expect(states.count > 50)
    let search = EdgeSearch(rounds: 20)
    var excess = 0.0
    var exact = 0
    for cell in states {
      let found = search.value(of: search.decisions(for: cell), cell)
      let least = bruteForce(cell, search)
      #expect(found >= least - 1e-9)
      excess += (found - least) / max(abs(least), 1e-9)
      if found - least < 1e-6 { exact += 1 }
    }
    #expect(excess / Double(states.count) < 0.01, "\(excess / Double(states.count))")
    #expect(Double(exact) > 0.8 * Double(states.count), "\(exact) of \(states.count)")
  }
}
