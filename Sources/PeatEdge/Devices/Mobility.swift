import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// How devices move about in a cell.
public struct MobilityConfiguration: Sendable, Codable, Equatable {
  public enum Model: String, ConfigurationWord {
    case still
    /// A velocity that forgets itself (Liang and Haas 1999).
    case gaussMarkov
    /// To a place by chance, a pause, and on (Johnson and Maltz 1996).
    case randomWaypoint
  }

  public var model = Model.gaussMarkov
  /// Mean speed in m/s; of random waypoints the least and the most are half and one and a half of it.
  public var speed = 1.0
  /// Gauss–Markov: deviation of the velocity on each axis in m/s, and the time after which it has forgotten itself, in seconds.
  public var deviation = 0.5
  public var memory = 30.0
  /// Random waypoint: the longest pause, in seconds.
  public var pause = 60.0

  public init() {}

  public static var pedestrian: MobilityConfiguration { MobilityConfiguration() }

  public static var vehicular: MobilityConfiguration {
    var result = MobilityConfiguration()
    (result.speed, result.deviation, result.memory) = (8.33, 2, 60)
    return result
  }

  /// Throws `badData` where a number makes no sense.
  public func validate() throws {
    for (name, value, range) in [
      ("speed", speed, 0...200.0), ("deviation", deviation, 0...100), ("memory", memory, 0.1...1e6),
      ("pause", pause, 0...1e6),
    ] where !range.contains(value) {
      throw PeatError.badData(
        "mobility.\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)."
      )
    }
    // With a least speed of 0 the mean speed would fall for ever (Yoon, Liu and Noble 2003).
    if model == .randomWaypoint, speed <= 0 {
      throw PeatError.badData("mobility.speed is \(speed); random waypoints need a speed above 0.")
    }
  }
}

/// A device's place, in metres from the base station, and its way.
package struct Position: Sendable, Equatable, Codable {
  var x = 0.0
  var y = 0.0
  private var speedX = 0.0
  private var speedY = 0.0
  /// Gauss–Markov: the mean velocity. Random waypoint: where it goes.
  private var goalX = 0.0
  private var goalY = 0.0
  /// Random waypoint: seconds that it still waits, and its speed.
  private var pause = 0.0
  private var speed = 0.0

  package var distance: Double { (x * x + y * y).squareRoot() }

  /// Somewhere in the cell, all places equally likely.
  package init(
    _ mobility: MobilityConfiguration, least: Double, radius: Double, _ random: inout SeededRandom
  ) {
    (x, y) = Self.place(least: least, radius: radius, &random)
    switch mobility.model {
    case .still: break
    case .gaussMarkov:
      let angle = 2 * Double.pi * random.fraction()
      (goalX, goalY) = (mobility.speed * cos(angle), mobility.speed * sin(angle))
      speedX = goalX + mobility.deviation * Double(random.normal())
      speedY = goalY + mobility.deviation * Double(random.normal())
    case .randomWaypoint: choose(mobility, least: least, radius: radius, &random)
    }
  }

  private static func place(
    least: Double, radius: Double, _ random: inout SeededRandom
  ) -> (Double, Double) {
    let distance =
      (least * least + random.fraction() * (radius * radius - least * least)).squareRoot()
    let angle = 2 * Double.pi * random.fraction()
    return (distance * cos(angle), distance * sin(angle))
  }

  private mutating func choose(
    _ mobility: MobilityConfiguration, least: Double, radius: Double, _ random: inout SeededRandom
  ) {
    (goalX, goalY) = Self.place(least: least, radius: radius, &random)
    speed = mobility.speed * (0.5 + random.fraction())
    pause = mobility.pause * random.fraction()
  }

  /// Moves on for some seconds; returns how far it went.
  package mutating func advance(
    _ seconds: Double, _ mobility: MobilityConfiguration, least: Double, radius: Double,
    _ random: inout SeededRandom
  ) -> Double {
    switch mobility.model {
    case .still: return 0
    case .gaussMarkov:
      // In steps that are short beside its memory, at most twenty.
      let steps = min(max(Int((4 * seconds / mobility.memory).rounded(.up)), 1), 20)
      let step = seconds / Double(steps)
      let keeps = exp(-step / mobility.memory)
      let spread = mobility.deviation * (1 - keeps * keeps).squareRoot()
      var moved = 0.0
      for _ in 0..<steps {
        speedX = keeps * speedX + (1 - keeps) * goalX + spread * Double(random.normal())
        speedY = keeps * speedY + (1 - keeps) * goalY + spread * Double(random.normal())
        x += step * speedX
        y += step * speedY
        moved += step * (speedX * speedX + speedY * speedY).squareRoot()
        reflect(least: least, radius: radius)
      }
      return moved
    case .randomWaypoint:
      var left = seconds
      var moved = 0.0
      for _ in 0..<100 where left > 0 {
        if pause > 0 {
          let waited = min(pause, left)
          pause -= waited
          left -= waited
          continue
        }
        let (dx, dy) = (goalX - x, goalY - y)
        let way = (dx * dx + dy * dy).squareRoot()
        let time = way / speed
        let share = time > left ? left / time : 1
        x += share * dx
        y += share * dy
        moved += share * way
        left -= min(time, left)
        if share == 1 { choose(mobility, least: least, radius: radius, &random) }
      }
      return moved
    }
  }

  /// At the edge of the cell it turns back.
  private mutating func reflect(least: Double, radius: Double) {
    let distance = self.distance
    guard distance > radius || distance < least else { return }
    let (nx, ny) = distance > 0 ? (x / distance, y / distance) : (1, 0)
    let inside =
      distance > radius ? max(2 * radius - distance, least) : min(2 * least - distance, radius)
    (x, y) = (inside * nx, inside * ny)
    let outward = distance > radius ? 1.0 : -1.0
    func mirror(_ vx: inout Double, _ vy: inout Double) {
      let along = vx * nx + vy * ny
      if along * outward > 0 {
        vx -= 2 * along * nx
        vy -= 2 * along * ny
      }
    }
    mirror(&speedX, &speedY)
    mirror(&goalX, &goalY)
  }
}

extension SeededRandom {
  /// In [0, 1), with all 53 bits.
  mutating func fraction() -> Double { Double(next() >> 11) * 0x1p-53 }

  mutating func fraction(_ low: Double, _ high: Double) -> Double {
    low + (high - low) * fraction()
  }
}
