import PeatControl
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Cells side by side, as a controller sees and steers them.
///
/// A device is described by times in units of the reference time and by shares, not by hertz and bytes: a controller that was
/// trained in one cell then reads another.
public final class EdgeEnvironment: ControlEnvironment {
  public static let deviceFeatures = 9
  public static let globalFeatures = 2

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

  /// - Throws: `badData` where the configuration makes no sense.
  public init(_ configuration: EdgeConfiguration, cells count: Int, seed: UInt64) throws {
    try configuration.validate()
    self.configuration = configuration
    self.seed = seed
    let world = EdgeCell.World(configuration)
    self.world = world
    shape = ControlShape(
      devices: configuration.devices, deviceFeatures: Self.deviceFeatures,
      globalFeatures: Self.globalFeatures,
      branches: try .round(levels: configuration.levels.count))
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
    for cell in cells { Self.observe(cell, &place) }
  }

  private static func observe(_ cell: EdgeCell, _ place: inout UnsafeMutablePointer<Float>) {
    let configuration = cell.configuration
    let reference = configuration.objective.referenceTime
    let levels = configuration.levels
    let largest = levels.indices.max { levels[$0].bytes < levels[$1].bytes } ?? 0
    let band = configuration.radio.bandwidth / max(0.5 * Double(cell.devices.count), 1)
    func logarithm(_ seconds: Double) -> Float {
      Float(min(max(log10(max(seconds, 1e-9) / reference), -3), 3))
    }
    for (number, device) in cell.devices.enumerated() {
      let rates = cell.world.rates
      let (gain, sees) = (device.report.gain, device.report.hasLineOfSight)
      place[0] = logarithm(
        8 * levels[largest].bytes / rates.downlink(gain: gain, band: band, hasLineOfSight: sees))
      place[1] = logarithm(
        8 * configuration.adapterBytes / rates.uplink(gain: gain, band: band, hasLineOfSight: sees))
      place[2] = logarithm(levels[largest].work / device.believedCompute)
      var fitting = 0
      for level in levels.indices where cell.allows(level, number) { fitting += 1 }
      place[3] = Float(fitting) / Float(levels.count)
      place[4] = device.held < 0 ? -1 : Float(levels[device.held].fidelity)
      place[5] = Float(min(device.age, 20) / 10)
      place[6] = Float(min(device.share * Double(cell.devices.count) - 1, 3))
      place[7] = cell.canTakePart(number) ? 1 : 0
      let battery = configuration.classes[device.kind].battery
      place[8] = battery.map { Float(max(device.battery / $0, 0)) } ?? 1
      place += Self.deviceFeatures
    }
    place[0] = Float(cell.gap / configuration.learning.startGap)
    place[1] = Float(cell.round) / Float(configuration.rounds)
    place += Self.globalFeatures
  }

  public func mask(into mask: UnsafeMutablePointer<UInt8>) {
    var place = mask
    for cell in cells {
      for number in cell.devices.indices {
        let can = cell.canTakePart(number)
        var fits = false
        for level in cell.configuration.levels.indices {
          let allowed = cell.allows(level, number)
          place[4 + level] = allowed ? 1 : 0
          fits = fits || allowed
        }
        let holds = cell.holdsUsable(number)
        place[0] = 1
        place[1] = can ? 1 : 0
        place[2] = holds || !fits ? 1 : 0
        place[3] = fits || !holds ? 1 : 0
        // A branch must have a choice, also where it does not matter.
        if !fits { place[4] = 1 }
        place += shape.branches.width
      }
    }
  }

  // MARK: What is done

  public func step(
    _ actions: UnsafePointer<Int32>, into outcomes: UnsafeMutablePointer<ControlOutcome>
  ) {
    for index in cells.indices {
      let own = actions + index * shape.choices
      let decisions = cells[index].devices.indices.map { device in
        let action = own + device * shape.branches.count
        return EdgeDecision(
          isSelected: action[ActionBranches.Place.select] != 0,
          level: action[ActionBranches.Place.exchange] != 0
            ? Int(action[ActionBranches.Place.level]) : nil)
      }
      let outcome = cells[index].advance(decisions)
      summaries[index].add(outcome, cells[index])
      outcomes[index] = ControlOutcome(
        reward: Float(-outcome.cost),
        duration: Float(outcome.seconds / configuration.objective.referenceTime),
        ending: cells[index].round >= configuration.rounds ? .isOver : .goesOn)
    }
  }
}

/// What an episode of a cell came to.
public struct EdgeSummary: Sendable, Codable, Equatable {
  public var totalReturn = 0.0
  public var rounds = 0
  public var seconds = 0.0
  public var bytesDown = 0.0
  public var bytesUp = 0.0
  public var joules = 0.0
  public var violations = 0
  public var gap: Double
  /// When the target was reached, in rounds and seconds; `nil` where it was not.
  public var roundsToTarget: Int?
  public var secondsToTarget: Double?
  /// The largest share of the middle that a device has seen.
  public var exposure = 0.0

  init(_ cell: EdgeCell) { gap = cell.gap }

  mutating func add(_ outcome: EdgeOutcome, _ cell: EdgeCell) {
    totalReturn -= outcome.cost
    rounds += 1
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
