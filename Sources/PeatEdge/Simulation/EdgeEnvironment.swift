import PeatControl
import PeatTensor

/// Cells side by side, as a controller sees and steers them.
public final class EdgeEnvironment: ControlEnvironment {
  public let configuration: EdgeConfiguration
  public let shape: ControlShape
  public private(set) var cells: [EdgeCell]
  public var count: Int { cells.count }
  /// What happened in each cell since its episode began.
  public private(set) var summaries: [EdgeSummary]
  /// Those of the episodes that ended.
  public private(set) var finished: [EdgeSummary] = []
  private let world: EdgeCell.World
  private let seed: UInt64
  private var episodes: Int

  /// - Throws: `badData` where the configuration makes no sense; `usage` where so many cells take more memory than there is.
  public init(_ configuration: EdgeConfiguration, cells count: Int, seed: UInt64) throws {
    try configuration.validate()
    try MemoryDemand.check(
      bytes: Double(count) * configuration.bytesOfCell,
      for: "Playing \(count) federations of \(configuration.devices) devices at once",
      advice:
        "Play fewer (--runs, --episodes, --processes or --seeds), or lower the edge's devices.")
    self.configuration = configuration
    self.seed = seed
    let world = EdgeCell.World(configuration)
    self.world = world
    shape = try PlanningFeatures.shape(
      devices: configuration.devices, levels: configuration.levels.count,
      work: configuration.work, learning: configuration.learning)
    cells = (0..<count).map { EdgeCell(world, seed: seed, number: $0) }
    summaries = cells.map { EdgeSummary($0) }
    episodes = count
  }

  public func reset(_ process: Int) {
    finished.append(summaries[process])
    cells[process] = EdgeCell(world, seed: seed, number: episodes)
    episodes += 1
    summaries[process] = EdgeSummary(cells[process])
  }

  // MARK: What is seen

  public func observe(into observations: UnsafeMutablePointer<Float>) {
    var place = observations
    for cell in cells { PlanningFeatures.observe(cell, &place) }
  }

  public func mask(into mask: UnsafeMutablePointer<UInt8>) {
    var place = mask
    for cell in cells { PlanningFeatures.mask(cell, shape.branches, &place) }
  }

  // MARK: What is done

  /// Carries a round of one cell out.
  @discardableResult
  func advance(_ index: Int, _ decisions: [EdgeDecision]) -> EdgeOutcome {
    let outcome = cells[index].advance(decisions)
    summaries[index].add(outcome, cells[index])
    return outcome
  }

  /// Plays a round of one cell as a run does: where too few deliver it came to nothing, and is played again as long as it may be tried.
  ///
  /// - Parameter decide: what is done in an attempt, counted from 1.
  /// - Returns: what all attempts took, and who took part in the last.
  func play(
    _ index: Int, minimumUpdates: Int, attempts: Int, _ decide: (EdgeCell, Int) -> [EdgeDecision]
  ) -> EdgeOutcome {
    var all = EdgeOutcome()
    for attempt in 1...max(attempts, 1) {
      let seen = cells[index]
      let outcome = cells[index].advance(decide(seen, attempt))
      all.add(outcome)
      if outcome.delivered >= minimumUpdates {
        summaries[index].add(outcome, cells[index])
        return all
      }
      // Updates that never came did nothing; what they took is spent.
      cells[index].takeBack(to: seen)
      summaries[index].add(outcome, cells[index], isLost: true)
    }
    summaries[index].endsEarly = true
    return all
  }

  public func step(
    _ actions: UnsafePointer<Int32>, into outcomes: UnsafeMutablePointer<ControlOutcome>
  ) {
    for index in cells.indices {
      let own = actions + index * shape.choices
      let decisions = cells[index].devices.indices.map {
        EdgeDecision(own + $0 * shape.branches.count, configuration.work)
      }
      let outcome = advance(index, decisions)
      outcomes[index] = ControlOutcome(
        reward: Float(-outcome.cost),
        duration: Float(outcome.seconds / configuration.objective.referenceTime),
        ending: cells[index].isOver ? .isOver : .goesOn)
    }
  }
}

extension EdgeConfiguration {
  /// What a cell of its devices takes, in bytes.
  fileprivate var bytesOfCell: Double {
    let channels = uncertainty.delay * MemoryLayout<EdgeDevice.Channel>.stride
    let perDevice = MemoryLayout<EdgeDevice>.stride + 8 * (levels.count + 1) + channels
    return Double(perDevice) * Double(devices) + 1000
  }
}

/// What an episode of a cell came to.
public struct EdgeSummary: Sendable, Codable, Equatable {
  public var totalReturn = 0.0
  /// Rounds that counted; and attempts at rounds that came to nothing, which is only so where a round needs updates.
  public var rounds = 0
  public var lostRounds = 0
  /// Whether it was over before its time, as a round came to nothing too often.
  public var endsEarly = false
  /// The longest round, in seconds.
  public var longestRound = 0.0
  public var seconds = 0.0
  public var bytesDown = 0.0
  public var bytesUp = 0.0
  public var joules = 0.0
  public var violations = 0
  public var gap: Double
  /// When the target was reached, in rounds and seconds; `nil` where it was not.
  public var roundsToTarget: Int?
  public var secondsToTarget: Double?
  /// The largest share of the middle's weights that a device has seen.
  public var exposure = 0.0

  init(_ cell: EdgeCell) { gap = cell.gap }

  mutating func add(_ outcome: EdgeOutcome, _ cell: EdgeCell, isLost: Bool = false) {
    totalReturn -= outcome.cost
    if isLost { lostRounds += 1 } else { rounds += 1 }
    longestRound = max(longestRound, outcome.seconds)
    seconds += outcome.seconds
    bytesDown += outcome.bytesDown
    bytesUp += outcome.bytesUp
    joules += outcome.joules
    violations += outcome.violations
    gap = cell.gap
    if roundsToTarget == nil, gap <= cell.configuration.target {
      roundsToTarget = rounds
      secondsToTarget = seconds
    }
    for number in cell.devices.indices { exposure = max(exposure, cell.exposure(of: number)) }
  }
}
