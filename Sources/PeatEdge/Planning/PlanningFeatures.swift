import PeatControl
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A federation in the numbers that a learned planner reads.
///
/// A device is described by times in units of the reference time and by shares, not by hertz and bytes: a controller that was
/// trained in one cell then reads another, and a live federation.
enum PlanningFeatures {
  private static let perDevice = 9
  static let global = 2

  /// What a controller of so many devices and levels sees and decides.
  static func shape(
    devices: Int, levels: Int, work: WorkChoices, learning: LearningModel
  ) throws -> ControlShape {
    ControlShape(
      devices: devices, deviceFeatures: perDevice + (learning.coverage > 0 ? 1 : 0),
      globalFeatures: global,
      branches: try .round(levels: levels, further: work.branches))
  }

  /// Writes the observation, and moves the place behind it.
  static func observe(_ view: some PlanningView, _ place: inout UnsafeMutablePointer<Float>) {
    let reference = view.objective.referenceTime
    let levels = view.levels
    let count = view.deviceCount
    let isMeasured = view.levelsAge == .sinceMade
    let largest = levels.indices.max { levels[$0].bytes < levels[$1].bytes } ?? 0
    func logarithm(_ seconds: Double) -> Float {
      Float(min(max(log10(max(seconds, 1e-9) / reference), -3), 3))
    }
    for number in 0..<count {
      let device = view.device(number)
      let rates = view.believedRates(number, participants: 0.5 * Double(count))
      place[0] = logarithm(8 * levels[largest].bytes / rates.down)
      place[1] = logarithm(8 * view.adapterBytes / rates.up)
      place[2] = logarithm(levels[largest].work / device.compute)
      var fitting = 0
      for level in levels.indices where view.allows(level, number) { fitting += 1 }
      place[3] = Float(fitting) / Float(levels.count)
      // Where a level ages whatever is sent, it is seen as a live federation measures it: by what it is still worth.
      let worth = device.heldFidelity * (isMeasured ? view.learning.freshness(age: device.age) : 1)
      place[4] = device.held < 0 ? -1 : Float(worth)
      place[5] = isMeasured ? 0 : Float(min(device.age, 20) / 10)
      place[6] = Float(min(device.share * Double(count) - 1, 3))
      place[7] = view.canTakePart(number) ? 1 : 0
      place[8] = Float(device.charge)
      place += perDevice
      if view.learning.coverage > 0 {
        place[0] = Float(device.recency)
        place += 1
      }
    }
    place[0] = Float(view.gap / view.learning.startGap)
    place[1] = Float(view.round) / Float(view.rounds)
    place += global
  }

  /// Writes which choices are allowed, and moves the place behind them.
  static func mask(
    _ view: some PlanningView, _ branches: ActionBranches,
    _ place: inout UnsafeMutablePointer<UInt8>
  ) {
    for number in 0..<view.deviceCount {
      let can = view.canTakePart(number)
      var fits = false
      for level in view.levels.indices {
        let allowed = view.allows(level, number)
        place[4 + level] = allowed ? 1 : 0
        fits = fits || allowed
      }
      let holds = view.holdsUsable(number)
      place[0] = 1
      place[1] = can ? 1 : 0
      place[2] = holds || !fits ? 1 : 0
      place[3] = fits || !holds ? 1 : 0
      // A branch must have a choice, also where it does not matter.
      if !fits { place[4] = 1 }
      for choice in 4 + view.levels.count..<branches.width { place[choice] = 1 }
      place += branches.width
    }
  }
}
