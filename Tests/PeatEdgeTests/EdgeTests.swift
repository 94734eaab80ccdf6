import Foundation
import PeatControl
import PeatEdge
import PeatTensor
import TestSupport
import Testing

@Suite("The simulated edge") struct EdgeTests {
  // MARK: Chance with a memory

  @Test(arguments: PathLoss.Scenario.allCases)
  func `shadowing keeps its deviation and forgets as far as it should`(
    scenario: PathLoss.Scenario
  ) {
    var radio = RadioConfiguration()
    radio.scenario = scenario
    let loss = PathLoss(scenario, carrier: 3.5)
    var random = SeededRandom(seed: 4)
    // Near enough that line of sight is sure, so that it never flips.
    var link = RadioLink(loss, distance: 15, radio, &random)
    let step = 20.0
    var values: [Double] = []
    for _ in 0..<40_000 {
      link.advance(loss, distance: 15, moved: step, radio, &random)
      values.append(link.shadowing)
    }
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
    let lagged =
      zip(values, values.dropFirst()).reduce(0) { $0 + ($1.0 - mean) * ($1.1 - mean) }
      / Double(values.count - 1) / variance
    let wanted = loss.shadowingDeviation(hasLineOfSight: true)
    #expect(link.hasLineOfSight)
    #expect(abs(variance.squareRoot() - wanted) < 0.05 * wanted)
    #expect(abs(lagged - exp(-step / loss.shadowingDistance(hasLineOfSight: true))) < 0.02)
  }

  @Test(arguments: [MobilityConfiguration.Model.still, .gaussMarkov, .randomWaypoint])
  func `devices stay in their cell and go as fast as they should`(
    model: MobilityConfiguration.Model
  ) {
    var mobility = MobilityConfiguration.vehicular
    mobility.model = model
    mobility.pause = 0
    var random = SeededRandom(seed: 9)
    var moved = 0.0
    let devices = 60
    for _ in 0..<devices {
      var position = Position(mobility, least: 35, radius: 400, &random)
      for _ in 0..<200 {
        moved += position.advance(15, mobility, least: 35, radius: 400, &random)
        #expect(position.distance <= 400 + 1e-9)
        if model == .gaussMarkov { #expect(position.distance >= 35 - 1e-9) }
      }
    }
    let speed = moved / Double(devices * 200 * 15)
    switch model {
    case .still: #expect(speed == 0)
    // A mean velocity and a deviation on both axes: E|v| is a little more than the mean.
    case .gaussMarkov: #expect(speed > 8.2 && speed < 9.3, "\(speed)")
    // Slow ones are longer on their way: less than the mean of the speeds.
    case .randomWaypoint: #expect(speed > 6.5 && speed < 8.4, "\(speed)")
    }
  }

  // MARK: Rounds

  @Test func `the same seed gives the same episodes, another seed others`() throws {
    func play(_ seed: UInt64) throws -> [EdgeSummary] {
      let environment = try EdgeEnvironment(.vehicular.uncertain, cells: 4, seed: seed)
      _ = EdgeHeuristic().play(environment)
      return environment.finished
    }
    let first = try play(1)
    #expect(first.count == 4)
    #expect(try play(1) == first)
    #expect(try play(2) != first)
  }

  @Test(arguments: EdgePlanners.names)
  func `no planner gives a device more than it can hold or may see`(name: String) throws {
    var configuration = EdgeConfiguration.pedestrian.uncertain
    configuration.maxExposure = 0.5
    configuration.classes[0].stays = 0.8
    configuration.classes[0].returns = 0.5
    configuration.classes[0].battery = 2000
    let environment = try EdgeEnvironment(configuration, cells: 8, seed: 3)
    _ = try EdgeEnvironment.planner(named: name, seed: 1).play(environment)
    for summary in environment.finished {
      #expect(summary.violations == 0)
      #expect(summary.exposure <= 0.5 + 1e-9)
      #expect(summary.gap > 0 && summary.gap <= 1 && summary.seconds > 0)
      #expect(summary.totalReturn.isFinite)
    }
  }

  @Test func `a battery ends at empty, and with it the device's part`() throws {
    var configuration = EdgeConfiguration.pedestrian
    configuration.classes = [configuration.classes[0]]
    configuration.classes[0].battery = 300
    let environment = try EdgeEnvironment(configuration, cells: 4, seed: 3)
    _ = try EdgeEnvironment.planner(named: "one-level-refreshing", seed: 1).play(environment)
    for summary in environment.finished {
      // Nobody spends what it does not have; in the end all are empty.
      #expect(abs(summary.joules - 300 * 10) < 1e-6, "\(summary.joules)")
      // Each was sent something in its last round, and sent nothing itself.
      let adapter = configuration.adapterBytes
      let rounds = summary.bytesUp / adapter
      #expect(rounds == rounds.rounded())
      #expect(summary.bytesDown > rounds * adapter)
    }
    // A battery that lasts changes nothing.
    func play(_ battery: Double?) throws -> [EdgeSummary] {
      configuration.classes[0].battery = battery
      let environment = try EdgeEnvironment(configuration, cells: 2, seed: 3)
      _ = EdgeHeuristic().play(environment)
      return environment.finished
    }
    let (battery, mains) = (try play(1e9), try play(nil))
    #expect(zip(battery, mains).allSatisfy { $0.joules == $1.joules && $0.gap == $1.gap })
  }

  @Test func `a mask allows what a round carries out`() throws {
    var configuration = EdgeConfiguration.dense.uncertain
    configuration.maxExposure = 0.6
    let environment = try EdgeEnvironment(configuration, cells: 3, seed: 8)
    var random = SeededRandom(seed: 2)
    let shape = environment.shape
    var mask = [UInt8](repeating: 7, count: 3 * shape.logits)
    var actions = [Int32](repeating: 0, count: 3 * shape.choices)
    var outcomes = [ControlOutcome](repeating: ControlOutcome(), count: 3)
    for _ in 0..<30 {
      environment.mask(into: &mask)
      #expect(mask.allSatisfy { $0 <= 1 })
      for row in 0..<3 * shape.devices {
        for (branch, offset) in shape.branches.offsets.enumerated() {
          let allowed = (0..<shape.branches.list[branch].choices).filter {
            mask[row * shape.branches.width + offset + $0] == 1
          }
          #expect(!allowed.isEmpty)
          actions[row * shape.branches.count + branch] =
            Int32(allowed.isEmpty ? 0 : allowed[random.integer(below: allowed.count)])
        }
      }
      environment.step(actions, into: &outcomes)
      #expect(outcomes.allSatisfy { $0.reward.isFinite && $0.duration > 0 })
    }
    for summary in environment.summaries {
      #expect(summary.violations == 0 && summary.exposure <= 0.6 + 1e-9)
      #expect(summary.bytesDown > 0)
    }
  }

  @Test func `looking ahead beats the heuristic, and the heuristic beats chance`() throws {
    for configuration in [EdgeConfiguration.pedestrian, .vehicular] {
      func play(_ name: String) throws -> Double {
        try EdgeEnvironment.planner(named: name, seed: 1).play(
          EdgeEnvironment(configuration, cells: 24, seed: 5)
        ).mean
      }
      let (ahead, heuristic) = (try play("lookahead"), try play("heuristic"))
      let (chance, idle) = (try play("random"), try play("idle"))
      #expect(ahead > heuristic && heuristic > chance && chance > idle)
      // Nothing learned, and a second for each round.
      #expect(abs(idle + 50 * (1 + 0.08 / 120)) < 1e-4)
    }
  }

  @Test func `observations are of about the size of 1`() throws {
    for configuration in EdgeConfiguration.examples.values {
      let environment = try EdgeEnvironment(configuration, cells: 6, seed: 5)
      var values = [Float](repeating: .nan, count: 6 * environment.shape.observationSize)
      environment.observe(into: &values)
      #expect(values.allSatisfy { abs($0) <= 3 })
    }
  }

  // MARK: Bad configurations

  @Test func `configurations that make no sense are refused`() {
    func refuse(_ word: String, _ change: (inout EdgeConfiguration) -> Void) {
      var configuration = EdgeConfiguration.pedestrian
      change(&configuration)
      expectError(.badData, word) {
        _ = try EdgeEnvironment(configuration, cells: 1, seed: 0)
      }
    }
    refuse("bandwidth") { $0.radio.bandwidth = -20e6 }
    refuse("radius") { $0.radio.radius = 0 }
    refuse("carrier") { $0.radio.carrier = .nan }
    refuse("devices") { $0.devices = 0 }
    refuse("rounds") { $0.rounds = -1 }
    refuse("No device can hold") {
      $0.classes = [DeviceClass("tiny", compute: Spread(1e11, 1e12), memory: Spread(1e7, 2e7))]
    }
    refuse("it must rise") { $0.classes[0].compute = Spread(2e12, 1e12) }
    refuse("dropout") { $0.classes[0].dropout = 1.5 }
    refuse("levels") { $0.levels = [] }
    refuse("fidelity") { $0.levels[0].fidelity = 2 }
    refuse("names a block") { $0.levels[0].blocks = [99] }
    refuse("gives away more") { $0.maxExposure = 0.01 }
    refuse("speed above 0") {
      $0.mobility.model = .randomWaypoint
      $0.mobility.speed = 0
    }
    refuse("learning.rate") { $0.learning.rate = -1 }
    refuse("referenceTime") { $0.objective.referenceTime = 0 }
    refuse("uncertainty") { $0.uncertainty.delay = -1 }
    expectError(.usage, "Did you mean 'heuristic'") {
      _ = try EdgeEnvironment.planner(named: "heuristik", seed: 0)
    }
  }
}
