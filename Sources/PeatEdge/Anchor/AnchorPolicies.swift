import PeatControl
import PeatTensor

/// Decides `AnchorCell` process by process.
protocol AnchorPolicy: ControlPolicy<AnchorCell> {
  /// What a device does; `action` has a place per branch.
  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int)
}

extension AnchorPolicy {
  public func decide(_ cell: AnchorCell, into actions: UnsafeMutablePointer<Int32>) {
    for (index, process) in cell.processes.enumerated() {
      decide(
        process, into: actions + index * cell.shape.choices, branches: cell.shape.branches.count)
    }
  }
}

extension UnsafeMutablePointer<Int32> {
  fileprivate func set(selected: Bool, level: Int?) {
    self[ActionBranches.Place.select] = selected ? 1 : 0
    self[ActionBranches.Place.exchange] = level == nil ? 0 : 1
    self[ActionBranches.Place.level] = Int32(level ?? 0)
  }
}

/// Nobody ever takes part.
public struct AnchorIdle: AnchorPolicy {
  public init() {}

  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int
  ) {
    for device in process.devices.indices {
      (actions + device * branches).set(selected: false, level: nil)
    }
  }
}

/// Everyone takes part on one level, which is sent once or every round.
public struct AnchorFixedLevel: AnchorPolicy {
  public let level: Int
  public let isRefreshing: Bool

  public init(_ level: Int, refreshing: Bool = false) {
    self.level = level
    isRefreshing = refreshing
  }

  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int
  ) {
    for (number, device) in process.devices.enumerated() {
      (actions + number * branches).set(
        selected: true, level: isRefreshing || device.held < 0 ? level : nil)
    }
  }
}

/// Everyone takes part on the level that it holds; who holds none is sent one of them in turn, or the largest smaller one that fits.
public struct AnchorStaying: AnchorPolicy {
  public init() {}

  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int
  ) {
    for (number, device) in process.devices.enumerated() {
      let fitting =
        AnchorCell.needed.firstIndex { $0 <= device.memory } ?? AnchorCell.levels - 1
      (actions + number * branches).set(
        selected: true,
        level: device.held < 0 ? max(number % AnchorCell.levels, fitting) : nil)
    }
  }
}

/// Every choice by chance.
public final class AnchorRandom: AnchorPolicy {
  private var random: SeededRandom

  public init(seed: UInt64) { random = SeededRandom(seed: seed, "random policy") }

  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int
  ) {
    for number in process.devices.indices {
      let isSelected = random.integer(below: 2) == 1
      let level = random.integer(below: AnchorCell.levels)
      let isSent = random.integer(below: 2) == 1
      (actions + number * branches).set(selected: isSelected, level: isSent ? level : nil)
    }
  }
}

/// The largest level that fits; the slowest 30 % stay out; emulators are sent again after ten rounds.
public struct AnchorHeuristic: AnchorPolicy {
  public init() {}

  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int
  ) {
    let count = process.devices.count
    let band = 0.7 * Double(count)
    var times: [Double] = []
    var levels: [Int] = []
    for device in process.devices {
      let level =
        AnchorCell.needed.firstIndex { $0 <= device.memory } ?? AnchorCell.levels - 1
      let isSent = device.held < 0 || device.age >= 10
      let rates = AnchorCell.rates(device.gain, participants: band)
      levels.append(level)
      times.append(
        (AnchorCell.adapterBits + (isSent ? AnchorCell.emulatorBits * AnchorCell.kept[level] : 0))
          / rates.down
          + (AnchorCell.adapterWork + AnchorCell.emulatorWork * AnchorCell.kept[level])
          / device.compute + AnchorCell.adapterBits / rates.up)
    }
    // The quantile as numpy computes it, between its neighbours.
    let sorted = times.sorted()
    let place = 0.7 * Double(count - 1)
    let below = Int(place)
    let above = min(below + 1, count - 1)
    let bound = sorted[below] + (place - Double(below)) * (sorted[above] - sorted[below])
    for (number, device) in process.devices.enumerated() {
      let isSent = device.held < 0 || device.age >= 10
      (actions + number * branches).set(
        selected: times[number] <= bound, level: isSent ? levels[number] : nil)
    }
  }
}

/// The exact optimum of a round in which lower perplexity counts for `rounds` rounds: 1 is myopic, 20 looks ahead.
public struct AnchorSearch: AnchorPolicy {
  public let rounds: Double

  public init(rounds: Double) { self.rounds = rounds }

  func decide(
    _ process: AnchorCell.Process, into actions: UnsafeMutablePointer<Int32>, branches: Int
  ) {
    let solution = solve(process)
    for (number, choice) in solution.choices.enumerated() {
      (actions + number * branches).set(
        selected: choice >= 0, level: choice >= 0 && choice < AnchorCell.levels ? choice : nil)
    }
  }

  /// Options 0 ..< levels send that emulator; the last trains on the one that is held.
  func solve(_ process: AnchorCell.Process) -> OneRoundSearch.Solution {
    let count = process.devices.count
    let worth = rounds * process.gap
    var search = OneRoundSearch()
    return search.solve(devices: count, idle: worth) { delay in
      AnchorCell.timeWeight * min(delay, 6 * AnchorCell.referenceTime) / AnchorCell.referenceTime
    } options: { number, participants, list in
      let device = process.devices[number]
      let rates = AnchorCell.rates(device.gain, participants: Double(participants))
      for option in 0...AnchorCell.levels {
        let isSent = option < AnchorCell.levels
        let level = isSent ? option : device.held
        guard level >= 0, AnchorCell.needed[level] <= device.memory else {
          list.append(.init(delay: .infinity, cost: .infinity))
          continue
        }
        let delay =
          (AnchorCell.adapterBits + (isSent ? AnchorCell.emulatorBits * AnchorCell.kept[level] : 0))
          / rates.down
          + (AnchorCell.adapterWork + AnchorCell.emulatorWork * AnchorCell.kept[level])
          / device.compute + AnchorCell.adapterBits / rates.up
        let quality = AnchorCell.quality[level] * exponential(isSent ? 0 : -0.06 * device.age)
        list.append(
          .init(
            delay: delay,
            cost: -worth * 0.25 * quality * device.share
              + AnchorCell.memoryWeight * AnchorCell.needed[level] / device.memory / Double(count)))
      }
    }
  }
}
