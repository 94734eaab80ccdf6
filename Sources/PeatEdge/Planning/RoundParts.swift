/// A device's part in a round.
struct RoundPart {
  /// Of the round, and of a later one in which it is sent no emulator.
  var seconds: Double
  var secondsAgain: Double
  /// What it takes off the gap, as a share of it, and its share of all data; both as likely as it delivers.
  var progress: Double
  var share: Double
  /// What its part adds to the share of all data that was used lately; as likely.
  var coverage: Double
  /// Of its memory and energy, in the objective.
  var cost: Double
}

/// All that take part in a round, together.
struct RoundSum {
  var participants = 0
  var seconds = 0.0
  var secondsAgain = 0.0
  var progress = 0.0
  var share = 0.0
  var coverage = 0.0
  var cost = 0.0

  /// Counts a part's work; who takes part is counted elsewhere.
  mutating func add(_ part: RoundPart, times sign: Double = 1) {
    if sign > 0 {
      seconds = max(seconds, part.seconds)
      secondsAgain = max(secondsAgain, part.secondsAgain)
    }
    progress += sign * part.progress
    share += sign * part.share
    coverage += sign * part.coverage
    cost += sign * part.cost
  }
}

/// What each device would bring to a round, and what that takes, as it is believed.
struct RoundParts<View: PlanningView> {
  let view: View
  let devices: [PlannedDevice]
  private let isAble: [Bool]
  private let holdsUsable: [Bool]
  /// Of each device and level, the bits to send; `nil` where it may not have the level.
  private let bits: [[Double?]]
  /// The share of all data that was used lately, where nobody takes part.
  let coverage: Double

  init(_ view: View) {
    self.view = view
    devices = (0..<view.deviceCount).map(view.device)
    coverage = devices.reduce(0) { $0 + $1.share * $1.recency * LearningModel.retained }
    isAble = devices.indices.map(view.canTakePart)
    holdsUsable = devices.indices.map(view.holdsUsable)
    bits = devices.indices.map { number in
      view.levels.indices.map { level in
        view.allows(level, number) ? 8 * view.bytesToSend(level, to: number) : nil
      }
    }
  }

  /// - Parameter rates: in bit/s.
  /// - Returns: `nil` where it can't take part so, or not in time.
  func part(
    _ number: Int, level sent: Int?, work: EdgeWork = .own, at rates: (down: Double, up: Double)
  ) -> RoundPart? {
    let device = devices[number]
    let level = sent ?? device.held
    let bits = sent.map { self.bits[number][$0] } ?? (holdsUsable[number] ? 0 : nil)
    guard isAble[number], level >= 0, let bits else { return nil }
    let again = view.tripSeconds(
      device, bits: 0, level: level, down: rates.down, up: rates.up, work: work)
    let seconds = again + bits / rates.down
    // What comes after the deadline is not waited for.
    guard seconds <= view.deadline else { return nil }
    let cost = view.levels[level]
    let objective = view.objective
    let progress = view.learning.progress(
      share: device.share, fidelity: sent == nil ? device.heldFidelity : cost.fidelity,
      age: sent.map(view.ageWhenSent) ?? device.age, gap: view.gap,
      work: view.choices.effective(work))
    return RoundPart(
      seconds: view.expected(seconds, of: device),
      secondsAgain: view.expected(again, of: device), progress: progress * (1 - device.dropout),
      share: device.share * (1 - device.dropout),
      coverage: device.share * (1 - device.dropout)
        * (1 - device.recency * LearningModel.retained),
      cost: objective.memory * cost.memory / device.memory / Double(devices.count)
        + objective.energy * device.energyPerOperation * cost.work * work.steps
        / objective.referenceEnergy)
  }

  /// What decisions say of a device, where so many take part; `nil` where that is impossible.
  func part(_ number: Int, _ decision: EdgeDecision, participants: Int) -> RoundPart? {
    part(
      number, level: decision.level, work: decision.work,
      at: view.believedRates(number, participants: Double(participants)))
  }

  /// - Returns: `nil` where a decision is impossible.
  func sum(of decisions: [EdgeDecision]) -> RoundSum? {
    var sum = RoundSum()
    sum.participants = decisions.count { $0.isSelected }
    for (number, decision) in decisions.enumerated() where decision.isSelected {
      guard let part = part(number, decision, participants: sum.participants) else { return nil }
      sum.add(part)
    }
    return sum
  }

  /// The exact search over all devices and what they may be sent.
  ///
  /// - Parameters:
  ///   - idle: the objective where nobody takes part.
  ///   - price: of a round's duration.
  ///   - coverage: of all data, where so many do as this part does.
  ///   - gap: at which it counts.
  ///   - option: what becomes of a part, with what it takes off the gap beside the others.
  func search(
    idle: Double, price: (Double) -> Double, coverage: (RoundPart, Double) -> Double, gap: Double,
    option: (_ part: RoundPart, _ progress: Double) -> OneRoundSearch.Option
  ) -> [EdgeDecision] {
    let levels = view.levels.count
    var search = OneRoundSearch()
    let solution = search.solve(
      devices: devices.count, idle: idle, price: price
    ) { number, participants, list in
      let rates = view.believedRates(number, participants: Double(participants))
      for choice in 0...levels {
        guard let part = part(number, level: choice < levels ? choice : nil, at: rates) else {
          list.append(.init(delay: .infinity, cost: .infinity))
          continue
        }
        // As if the others had as much data: exact where they have, and for one alone.
        let factor = view.learning.togetherness(
          share: part.share * Double(participants), coverage: coverage(part, Double(participants)),
          gap: gap)
        list.append(option(part, factor * part.progress))
      }
    }
    return solution.choices.map { choice in
      EdgeDecision(isSelected: choice >= 0, level: choice >= 0 && choice < levels ? choice : nil)
    }
  }
}
