import PeatControl
import PeatTensor

/// Decides federations one by one, from what is known of them.
protocol EdgePlanner: ControlPolicy<EdgeEnvironment> {
  func decide(_ view: some PlanningView) -> [EdgeDecision]
}

extension EdgePlanner {
  public func decide(_ environment: EdgeEnvironment, into actions: UnsafeMutablePointer<Int32>) {
    let branches = environment.shape.branches.count
    for (index, cell) in environment.cells.enumerated() {
      for (number, decision) in decide(cell).enumerated() {
        decision.write(
          to: actions + (index * cell.devices.count + number) * branches,
          environment.configuration.work)
      }
    }
  }
}

/// Nobody ever takes part.
public struct EdgeIdle: EdgePlanner {
  public init() {}

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    view.nobody
  }
}

/// Everyone that can takes part on the most faithful level that they all can have, sent once or every round.
public struct EdgeEveryone: EdgePlanner {
  public let isRefreshing: Bool

  public init(refreshing: Bool = false) { isRefreshing = refreshing }

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    let levels = view.levels
    let able = (0..<view.deviceCount).filter { number in
      levels.indices.contains { view.allows($0, number) }
    }
    let common = levels.indices.filter { level in able.allSatisfy { view.allows(level, $0) } }.max {
      levels[$0].fidelity < levels[$1].fidelity
    }
    return (0..<view.deviceCount).map { number in
      guard view.canTakePart(number), let level = common, view.allows(level, number) else {
        return EdgeDecision(isSelected: false)
      }
      return EdgeDecision(
        isSelected: true,
        level: isRefreshing || view.device(number).held != level ? level : nil)
    }
  }
}

/// Every choice by chance, among those that are possible.
public final class EdgeRandom: EdgePlanner {
  private var random: SeededRandom

  public init(seed: UInt64) { random = SeededRandom(seed: seed, "random planner") }

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    (0..<view.deviceCount).map { number in
      let levels = view.levels.indices.filter { view.allows($0, number) }
      let isSelected = random.integer(below: 2) == 1 && view.canTakePart(number)
      let isSent = random.integer(below: 2) == 1 || !view.holdsUsable(number)
      let level = levels.isEmpty ? nil : levels[random.integer(below: levels.count)]
      return EdgeDecision(isSelected: isSelected, level: isSent ? level : nil)
    }
  }
}

/// What a device would do by itself: the most faithful level, sent when there is none or it is stale.
private struct OwnPlan {
  let level: Int
  let isSent: Bool
  let seconds: Double

  /// How likely it delivers.
  let reliability: Double

  var decision: EdgeDecision { EdgeDecision(isSelected: true, level: isSent ? level : nil) }
  /// Seconds for each update that arrives.
  var secondsPerUpdate: Double { seconds / max(reliability, 0.01) }
}

extension PlanningView {
  fileprivate var nobody: [EdgeDecision] {
    Array(repeating: EdgeDecision(isSelected: false), count: deviceCount)
  }

  /// The plan of each device; `nil` where it can't take part.
  ///
  /// - Parameter participants: as many as are expected to share the band.
  fileprivate func ownPlans(participants: Double) -> [OwnPlan?] {
    (0..<deviceCount).map { number in
      guard canTakePart(number) else { return nil }
      let best = bestLevel(number)
      let isSent = best != nil && (!holdsUsable(number) || isStale(number))
      let held = device(number).held
      guard let level = isSent ? best : held >= 0 ? held : nil else { return nil }
      return OwnPlan(
        level: level, isSent: isSent,
        seconds: believedSeconds(
          number, level: level, isSent: isSent, participants: participants),
        reliability: 1 - device(number).dropout)
    }
  }
}

/// The largest level that fits; the slowest 30 %, rounded down, by the time for each update that arrives, stay out; emulators are sent again
/// after ten rounds. Of the others, slowest first, those stay out whom the deadline would cut off, with the band shared among all that take part;
/// one that has no time for what it should be sent goes on with what it holds, or is sent the largest level that it has time for.
public struct EdgeHeuristic: EdgePlanner {
  public init() {}

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    let plans = view.ownPlans(participants: 0.7 * Double(view.deviceCount))
    let times = plans.compactMap { $0?.secondsPerUpdate }.sorted()
    guard !times.isEmpty else { return view.nobody }
    // Whoever is as quick as the last of them takes part, too.
    let bound = times[times.count - 1 - 3 * times.count / 10]
    let quick = plans.indices.compactMap { number in
      plans[number].flatMap { $0.secondsPerUpdate <= bound ? (number, $0) : nil }
    }
    var decisions = view.nobody
    for (number, plan) in view.inTime(quick) { decisions[number] = plan.decision }
    return decisions
  }
}

extension PlanningView {
  /// Those that are done before the deadline, where each gets as much of the band as it needs for that, quickest first until all is given away.
  /// Twice the band is taken for twice the rate.
  fileprivate func inTime(_ plans: [(Int, OwnPlan)]) -> [(Int, OwnPlan)] {
    /// Of an equal share of the band.
    func need(_ number: Int, _ plan: OwnPlan) -> Double {
      let device = device(number)
      let (down, up) = believedRates(number, participants: Double(plans.count))
      let left = deadline - levels[plan.level].work / device.compute
      let sending =
        tripSeconds(
          device, bits: plan.isSent ? 8 * bytesToSend(plan.level, to: number) : 0,
          level: plan.level,
          down: down, up: up) - levels[plan.level].work / device.compute
      return left > 0 ? sending / left : .infinity
    }
    var band = Double(plans.count)
    return plans.sorted { ($0.1.secondsPerUpdate, $0.0) < ($1.1.secondsPerUpdate, $1.0) }
      .compactMap { number, plan in
        for plan in [plan] + smallerPlans(number, than: plan) {
          let need = need(number, plan)
          guard need <= (sharesBand ? band : 1) else { continue }
          band -= need
          return (number, plan)
        }
        return nil
      }
  }

  /// What a device may do instead where it has no time for its own plan: best first.
  private func smallerPlans(_ number: Int, than plan: OwnPlan) -> [OwnPlan] {
    guard plan.isSent else { return [] }
    func instead(_ level: Int, isSent: Bool) -> OwnPlan {
      OwnPlan(level: level, isSent: isSent, seconds: plan.seconds, reliability: plan.reliability)
    }
    let held = holdsUsable(number) ? [instead(device(number).held, isSent: false)] : []
    let smaller = levels.indices.filter {
      allows($0, number) && levels[$0].fidelity < levels[plan.level].fidelity
    }
    return held
      + smaller.sorted { levels[$0].fidelity > levels[$1].fidelity }.map {
        instead($0, isSent: true)
      }
  }
}

/// Those whose data helps most for their time: half of the devices, by what their data is worth, how likely it arrives and how slow they are.
///
///     utility_i = (1 − p_i) · w_i · min(1, T_pref / T_i)²
///
/// After Lai et al. 2021, *Oort*, <https://arxiv.org/abs/2010.06081>, whose utility also has each device's own loss: here all have the round's.
/// T_pref is the median time, p_i how likely a device fails.
public struct EdgeOort: EdgePlanner {
  public init() {}

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    let plans = view.ownPlans(participants: 0.5 * Double(view.deviceCount))
    let times = plans.compactMap { $0?.seconds }.sorted()
    guard !times.isEmpty else { return view.nobody }
    let preferred = times[times.count / 2]
    func utility(_ number: Int) -> Double {
      let late = min(1, preferred / (plans[number]?.seconds ?? .infinity))
      let device = view.device(number)
      return (1 - device.dropout) * (device.share * late * late)
    }
    let ranked = plans.indices.filter { plans[$0] != nil }.sorted {
      (utility($0), $1) > (utility($1), $0)
    }
    let chosen = Set(ranked.prefix(max(1, view.deviceCount / 2)))
    return plans.enumerated().map { number, plan in
      guard let plan, chosen.contains(number) else { return EdgeDecision(isSelected: false) }
      return plan.decision
    }
  }
}
