import PeatFederation
import PeatTensor

/// A run's planners `everyone`, `everyone:LEVEL`, `download-once` and `random` in a simulated cell: the rules of `EveryonePlanner` and `RandomPlanner`, by which a coordinator plans.
enum RunPlanners {
  /// The planner of a run: one of these, or another of the edge's.
  ///
  /// - Parameter share: of the devices, that `random` draws.
  static func make(
    _ name: String, share: Double, levels: Int, work: WorkChoices, learning: LearningModel,
    devices: Int, seed: UInt64
  ) throws -> any EdgePlanner {
    if name == "random" { return DrawnShare(share: share, seed: seed) }
    try EdgePlanners.check(name, devices: devices, levels: levels)
    return try EdgePlanners.make(
      name, levels: levels, work: work, learning: learning, devices: devices, seed: seed)
  }
}

extension PlanningView {
  /// A device takes part on a level; where it can't have that, on the largest that it can; where there is none, not at all. It is sent what it does not hold.
  fileprivate func decision(for number: Int, wanting level: Int) -> EdgeDecision {
    let held = device(number).held
    func isPossible(_ level: Int) -> Bool {
      levels.indices.contains(level) && allows(level, number)
        || level == held && holdsUsable(number)
    }
    let own =
      isPossible(level)
      ? level
      : levels.indices.filter(isPossible).max {
        (levels[$0].bytes, $1) < (levels[$1].bytes, $0)
      }
    guard let own, canTakePart(number) else { return EdgeDecision(isSelected: false) }
    return EdgeDecision(isSelected: true, level: own == held ? nil : own)
  }
}

/// Everyone takes part: the first device on the first level, the second on the second, and so on in a circle.
struct AlternatingEveryone: EdgePlanner {
  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    (0..<view.deviceCount).map { view.decision(for: $0, wanting: $0 % view.levels.count) }
  }
}

/// Everyone takes part on one level.
struct FixedEveryone: EdgePlanner {
  let level: Int

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    (0..<view.deviceCount).map { view.decision(for: $0, wanting: level) }
  }
}

/// Everyone takes part on the level that it holds; who holds none gets levels as in `AlternatingEveryone`.
struct StayingEveryone: EdgePlanner {
  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    (0..<view.deviceCount).map { number in
      let held = view.device(number).held
      return view.decision(
        for: number, wanting: held >= 0 ? held : number % view.levels.count)
    }
  }
}

/// ⌈share · devices⌉ take part, drawn anew for each round, each on a level that is drawn too, and where a round needs more updates, others after them: by
/// their names, as `RandomPlanner` draws.
struct DrawnShare: EdgePlanner {
  let share: Double
  let seed: UInt64
  /// The devices' names; `nil`: as `simulate` names clients.
  private var clients: [ClientID]?
  /// The attempt at a run's round that is drawn for; `nil`: the first at the view's round.
  private var place: (round: Int, attempt: Int)?
  private var minimumUpdates = 0

  init(share: Double, seed: UInt64) {
    self.share = share
    self.seed = seed
  }

  /// For an attempt at a round of a run.
  func drawing(
    _ clients: [ClientID]? = nil, round: Int, attempt: Int, minimumUpdates: Int
  ) -> DrawnShare {
    var result = self
    result.clients = clients
    result.place = (round, attempt)
    result.minimumUpdates = minimumUpdates
    return result
  }

  func decide(_ view: some PlanningView) -> [EdgeDecision] { draw(view).decisions }

  /// What is decided for each device, and who takes part only because a round needs so many updates.
  func draw(_ view: some PlanningView) -> (decisions: [EdgeDecision], added: Set<Int>) {
    let names =
      clients ?? (1...max(view.deviceCount, 1)).map { ClientID(stringLiteral: "client-\($0)") }
    let (round, attempt) = place ?? (view.round + 1, 1)
    let order = RandomPlanner.order(
      names, levels: view.levels.count, seed: seed, round: round, attempt: attempt)
    let count = RandomPlanner.count(share, of: order.count)
    let numbers = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
    var decisions = Array(repeating: EdgeDecision(isSelected: false), count: view.deviceCount)
    var added: Set<Int> = []
    var taking = 0
    for (place, drawn) in order.enumerated() {
      let isBeyond = place >= count
      guard !isBeyond || taking < minimumUpdates else { break }
      guard let number = numbers[drawn.client], decisions.indices.contains(number) else { continue }
      decisions[number] = view.decision(for: number, wanting: drawn.level)
      guard decisions[number].isSelected else { continue }
      taking += 1
      if isBeyond { added.insert(number) }
    }
    return (decisions, added)
  }
}
