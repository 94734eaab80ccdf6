import PeatControl

/// The exact optimum of a round as it is believed, bands shared equally, in which progress counts for `rounds` rounds.
public struct EdgeSearch: EdgePlanner, Sendable {
  public let rounds: Double

  public init(rounds: Double) { self.rounds = rounds }

  /// As far as a planner that looks ahead counts progress.
  static let lookAhead = EdgeSearch(rounds: 20)

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    let pricing = RoundPricing(view, creditedRounds: rounds)
    let levels = view.levels.count
    var search = OneRoundSearch()
    let solution = search.solve(
      devices: view.deviceCount, idle: pricing.idle, price: pricing.price
    ) { number, participants, list in
      let rates = view.believedRates(number, participants: Double(participants))
      for option in 0...levels {
        list.append(
          pricing.option(number, level: option < levels ? option : nil, at: rates))
      }
    }
    return solution.choices.map { choice in
      EdgeDecision(isSelected: choice >= 0, level: choice >= 0 && choice < levels ? choice : nil)
    }
  }
}

/// What a round's decisions cost, as it is believed: less than nothing where progress is worth more than it takes.
struct RoundPricing<View: PlanningView> {
  private let view: View
  private let devices: [PlannedDevice]
  private let isAble: [Bool]
  private let holdsUsable: [Bool]
  /// Of each device and level, the bits to send; `nil` where it may not have the level.
  private let bits: [[Double?]]
  /// What the whole gap is worth: the objective where nobody takes part.
  let idle: Double

  /// - Parameter creditedRounds: how many rounds progress counts for; no more can profit than there are.
  init(_ view: View, creditedRounds: Double) {
    self.view = view
    let count = view.deviceCount
    let credit = min(creditedRounds, Double(max(view.rounds - view.round, 1)))
    idle = credit * view.objective.gap * view.gap / view.learning.startGap
    devices = (0..<count).map(view.device)
    isAble = (0..<count).map(view.canTakePart)
    holdsUsable = (0..<count).map(view.holdsUsable)
    bits = (0..<count).map { number in
      view.levels.indices.map { level in
        view.allows(level, number) ? 8 * view.bytesToSend(level, to: number) : nil
      }
    }
  }

  /// Of a round's duration in seconds.
  func price(_ seconds: Double) -> Double {
    view.objective.time * min(seconds, view.deadline) / view.objective.referenceTime
  }

  /// Delay and cost of a device that takes part; infinite where it can't, or not in time.
  ///
  /// - Parameters:
  ///   - level: what it is sent; `nil`: nothing, it trains on what it holds.
  ///   - rates: in bit/s.
  func option(
    _ number: Int, level sent: Int?, work: EdgeWork = .own, at rates: (down: Double, up: Double)
  ) -> OneRoundSearch.Option {
    let impossible = OneRoundSearch.Option(delay: .infinity, cost: .infinity)
    let device = devices[number]
    let level = sent ?? device.held
    let bits = sent.map { self.bits[number][$0] } ?? (holdsUsable[number] ? 0 : nil)
    guard isAble[number], level >= 0, let bits else { return impossible }
    let seconds = view.believedSeconds(
      device, bits: bits, level: level, down: rates.down, up: rates.up, work: work)
    // What comes after the deadline is not waited for.
    guard seconds <= view.deadline else { return impossible }
    let cost = view.levels[level]
    let objective = view.objective
    let progress = view.learning.progress(
      share: device.share, fidelity: sent == nil ? device.heldFidelity : cost.fidelity,
      age: sent == nil ? device.age : 0, gap: view.gap, work: work)
    return .init(
      delay: seconds,
      cost: -idle * progress * (1 - device.dropout)
        + objective.memory * cost.memory / device.memory / Double(devices.count)
        + objective.energy * device.energyPerOperation * cost.work * work.steps
        / objective.referenceEnergy)
  }

  /// The objective of a joint decision; infinite where a part of it is impossible.
  func value(of decisions: [EdgeDecision]) -> Double {
    let participants = Double(decisions.count { $0.isSelected })
    var value = idle
    var longest = 0.0
    for (number, decision) in decisions.enumerated() where decision.isSelected {
      let option = option(
        number, level: decision.level, work: decision.work,
        at: view.believedRates(number, participants: participants))
      value += option.cost
      longest = max(longest, option.delay)
    }
    return participants > 0 ? value + price(longest) : value
  }
}
