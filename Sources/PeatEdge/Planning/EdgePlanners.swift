import PeatControl
import PeatTensor

/// Decides cells one by one, from what is believed of them.
protocol EdgePlanner: ControlPolicy<EdgeEnvironment> {
  func decide(_ cell: EdgeCell) -> [EdgeDecision]
}

extension EdgePlanner {
  public func decide(_ environment: EdgeEnvironment, into actions: UnsafeMutablePointer<Int32>) {
    let branches = environment.shape.branches.count
    for (index, cell) in environment.cells.enumerated() {
      for (number, decision) in decide(cell).enumerated() {
        let action = actions + (index * cell.devices.count + number) * branches
        action[ActionBranches.Place.select] = decision.isSelected ? 1 : 0
        action[ActionBranches.Place.exchange] = decision.level == nil ? 0 : 1
        action[ActionBranches.Place.level] = Int32(decision.level ?? 0)
      }
    }
  }
}

extension EdgeCell {
  /// The most faithful level that a device may have.
  func bestLevel(_ number: Int) -> Int? {
    configuration.levels.indices.filter { allows($0, number) }.max {
      configuration.levels[$0].fidelity < configuration.levels[$1].fidelity
    }
  }
}

/// Nobody ever takes part.
public struct EdgeIdle: EdgePlanner {
  public init() {}

  func decide(_ cell: EdgeCell) -> [EdgeDecision] {
    cell.devices.map { _ in EdgeDecision(isSelected: false) }
  }
}

/// Everyone that can takes part on the most faithful level that they all can have, sent once or every round.
public struct EdgeEveryone: EdgePlanner {
  public let isRefreshing: Bool

  public init(refreshing: Bool = false) { isRefreshing = refreshing }

  func decide(_ cell: EdgeCell) -> [EdgeDecision] {
    let levels = cell.configuration.levels
    let able = cell.devices.indices.filter { number in
      levels.indices.contains { cell.allows($0, number) }
    }
    let common = levels.indices.filter { level in able.allSatisfy { cell.allows(level, $0) } }.max {
      levels[$0].fidelity < levels[$1].fidelity
    }
    return cell.devices.enumerated().map { number, device in
      guard cell.canTakePart(number), let level = common, cell.allows(level, number) else {
        return EdgeDecision(isSelected: false)
      }
      return EdgeDecision(
        isSelected: true, level: isRefreshing || device.held != level ? level : nil)
    }
  }
}

/// Every choice by chance, among those that are possible.
public final class EdgeRandom: EdgePlanner {
  private var random: SeededRandom

  public init(seed: UInt64) { random = SeededRandom(seed: seed, "random planner") }

  func decide(_ cell: EdgeCell) -> [EdgeDecision] {
    cell.devices.indices.map { number in
      let levels = cell.configuration.levels.indices.filter { cell.allows($0, number) }
      let isSelected = random.integer(below: 2) == 1 && cell.canTakePart(number)
      let isSent = random.integer(below: 2) == 1 || !cell.holdsUsable(number)
      let level = levels.isEmpty ? nil : levels[random.integer(below: levels.count)]
      return EdgeDecision(isSelected: isSelected, level: isSent ? level : nil)
    }
  }
}

extension EdgeCell {
  /// What a device would do by itself: the most faithful level, sent when there is none or after ten rounds.
  struct Plan {
    let level: Int
    let isSent: Bool
    let seconds: Double

    var decision: EdgeDecision { EdgeDecision(isSelected: true, level: isSent ? level : nil) }
  }

  /// - Parameter participants: as many as are expected to share the band.
  func plan(_ number: Int, participants: Double) -> Plan? {
    guard canTakePart(number) else { return nil }
    let best = bestLevel(number)
    let isSent = best != nil && (!holdsUsable(number) || devices[number].age >= 10)
    guard let level = isSent ? best : devices[number].held >= 0 ? devices[number].held : nil else {
      return nil
    }
    return Plan(
      level: level, isSent: isSent,
      seconds: believedSeconds(number, level: level, isSent: isSent, participants: participants))
  }
}

/// The largest level that fits; the slowest 30 % stay out; emulators are sent again after ten rounds.
public struct EdgeHeuristic: EdgePlanner {
  public init() {}

  func decide(_ cell: EdgeCell) -> [EdgeDecision] {
    let plans = cell.devices.indices.map {
      cell.plan($0, participants: 0.7 * Double(cell.devices.count))
    }
    let times = plans.compactMap { $0?.seconds }.sorted()
    guard !times.isEmpty else { return cell.devices.map { _ in EdgeDecision(isSelected: false) } }
    let place = 0.7 * Double(times.count - 1)
    let below = Int(place)
    let above = min(below + 1, times.count - 1)
    let bound = times[below] + (place - Double(below)) * (times[above] - times[below])
    return plans.map { plan in
      guard let plan, plan.seconds <= bound else { return EdgeDecision(isSelected: false) }
      return plan.decision
    }
  }
}

/// Those whose data helps most for their time: half of the devices, by what their data is worth and how slow they are.
///
///     utility_i = w_i · min(1, T_pref / T_i)²
///
/// After Lai et al. 2021, *Oort*, <https://arxiv.org/abs/2010.06081>, whose utility also has each device's own loss: here all have the round's.
/// T_pref is the median time.
public struct EdgeOort: EdgePlanner {
  public init() {}

  func decide(_ cell: EdgeCell) -> [EdgeDecision] {
    let plans = cell.devices.indices.map {
      cell.plan($0, participants: 0.5 * Double(cell.devices.count))
    }
    let times = plans.compactMap { $0?.seconds }.sorted()
    guard !times.isEmpty else { return cell.devices.map { _ in EdgeDecision(isSelected: false) } }
    let preferred = times[times.count / 2]
    func utility(_ number: Int) -> Double {
      let late = min(1, preferred / (plans[number]?.seconds ?? .infinity))
      return cell.devices[number].share * late * late
    }
    let ranked = plans.indices.filter { plans[$0] != nil }.sorted {
      (utility($0), $1) > (utility($1), $0)
    }
    let chosen = Set(ranked.prefix(max(1, cell.devices.count / 2)))
    return plans.enumerated().map { number, plan in
      guard let plan, chosen.contains(number) else { return EdgeDecision(isSelected: false) }
      return plan.decision
    }
  }
}

/// The exact optimum of a round as it is believed, bands shared equally, in which progress counts for `rounds` rounds.
public struct EdgeSearch: EdgePlanner {
  public let rounds: Double

  public init(rounds: Double) { self.rounds = rounds }

  func decide(_ cell: EdgeCell) -> [EdgeDecision] {
    let configuration = cell.configuration
    let levels = configuration.levels
    let objective = configuration.objective
    let count = cell.devices.count
    // No more rounds can profit than there are.
    let credit = min(rounds, Double(max(configuration.rounds - cell.round, 1)))
    let worth = credit * objective.gap * cell.gap / configuration.learning.startGap
    // What does not depend on how many take part.
    let able = cell.devices.indices.map(cell.canTakePart)
    let allowed = cell.devices.indices.map { number in
      levels.indices.map { cell.allows($0, number) }
    }
    let usable = cell.devices.indices.map(cell.holdsUsable)
    var search = OneRoundSearch()
    let solution = search.solve(devices: count, idle: worth) { seconds in
      objective.time * min(seconds, configuration.deadline) / objective.referenceTime
    } options: { number, participants, list in
      let device = cell.devices[number]
      let (down, up) = cell.believedRates(number, participants: Double(participants))
      for option in 0...levels.count {
        let isSent = option < levels.count
        let level = isSent ? option : device.held
        guard able[number], level >= 0,
          isSent ? allowed[number][level] : usable[number]
        else {
          list.append(.init(delay: .infinity, cost: .infinity))
          continue
        }
        let own = configuration.classes[device.kind]
        let seconds = cell.believedSeconds(
          number, level: level, isSent: isSent, down: down, up: up)
        // What comes after the deadline is not waited for.
        guard seconds <= configuration.deadline else {
          list.append(.init(delay: .infinity, cost: .infinity))
          continue
        }
        let progress = configuration.learning.progress(
          share: device.share, fidelity: levels[level].fidelity, age: isSent ? 0 : device.age,
          gap: cell.gap)
        list.append(
          .init(
            delay: seconds,
            cost: -worth * progress * (1 - own.dropout)
              + objective.memory * levels[level].memory / device.memory / Double(count)
              + objective.energy * own.energyPerOperation * levels[level].work
              / objective.referenceEnergy))
      }
    }
    return solution.choices.map { choice in
      EdgeDecision(
        isSelected: choice >= 0, level: choice >= 0 && choice < levels.count ? choice : nil)
    }
  }
}

extension EdgeEnvironment {
  /// The planners that need no training, by name.
  public static let plannerNames = [
    "idle", "random", "everyone", "download-once", "heuristic", "oort", "one-round", "lookahead",
  ]

  /// - Throws: `usage` where there is no planner of this name.
  public static func planner(
    named name: String, seed: UInt64
  ) throws -> any ControlPolicy<EdgeEnvironment> {
    switch name {
    case "idle": return EdgeIdle()
    case "random": return EdgeRandom(seed: seed)
    case "everyone": return EdgeEveryone(refreshing: true)
    case "download-once": return EdgeEveryone()
    case "heuristic": return EdgeHeuristic()
    case "oort": return EdgeOort()
    case "one-round": return EdgeSearch(rounds: 1)
    case "lookahead": return EdgeSearch(rounds: 20)
    default:
      throw PeatError.usage(
        "Unknown planner '\(name)'. \(suggestion(for: name, among: plannerNames))")
    }
  }
}
