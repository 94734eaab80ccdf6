import PeatTensor

/// How many of the clients that are there a planner asks in a round, and how many updates are enough.
///
/// More are asked than needed, so that a round need not wait for the slowest: it closes when the goal is reached.
/// Source: Bonawitz et al. 2019, section 9, who ask 130 %, <https://arxiv.org/abs/1902.01046>.
public struct SampleSize: Sendable, Equatable {
  /// The goal as a share of the clients, rounded up: above 0, up to 1. `count` wins.
  public let share: Double
  /// The goal as a number of clients.
  public let count: Int?
  /// How many times the goal are asked, rounded up: 1, nobody beyond it, up to 10.
  public let overSelection: Double

  /// - Throws: `usage` where one of them lies outside of its range.
  public init(share: Double = 0.5, count: Int? = nil, overSelection: Double = 1) throws {
    guard share > 0, share <= 1 else {
      throw PeatError.usage(
        "The share of clients in a round is \(share); it must be above 0 and at most 1.")
    }
    if let count, count < 1 {
      throw PeatError.usage("clientsPerRound is \(count); it must be at least 1.")
    }
    guard overSelection >= 1, overSelection <= 10 else {
      throw PeatError.usage("overSelection is \(overSelection); it must be between 1 and 10.")
    }
    self.share = share
    self.count = count
    self.overSelection = overSelection
  }

  /// Updates that are wanted of so many clients.
  public func goal(of clients: Int) -> Int {
    min(count ?? Self.roundedUp(share * Double(clients)), clients)
  }

  /// How many are asked for that.
  public func asked(of clients: Int) -> Int {
    min(Self.roundedUp(overSelection * Double(goal(of: clients))), clients)
  }

  /// 1.1 · 10 is 11, though not in binary.
  static func roundedUp(_ value: Double) -> Int { Int((value - 1e-9).rounded(.up)) }
}

extension FederationState {
  /// A plan that asks clients in an order of preference, each with a level and a reason, until as many take part as are to be asked and as a round needs.
  ///
  /// - Parameters:
  ///   - order: all clients that are there.
  ///   - name: of the planner, for the reasons of those who are not asked.
  func plan(
    _ order: [(client: ClientState, level: Int?, reason: String)], size: SampleSize, name: String
  ) -> RoundPlan {
    let asked = size.asked(of: order.count)
    var plan = RoundPlan([:])
    var taking = 0
    for (place, wanted) in order.enumerated() {
      let isBeyond = place >= asked
      guard !isBeyond || taking < minimumUpdates else {
        plan.assignments[wanted.client.client] = .leftOut(because: "\(name): not drawn")
        continue
      }
      var assignment =
        wanted.level.map { self.assignment(of: wanted.client, wanting: $0) }
        ?? fittingAssignment(of: wanted.client)
      if assignment.reason == nil {
        assignment.reason =
          "\(wanted.reason), on level \(assignment.emulatorLevel.map(String.init) ?? "–")"
      }
      if assignment.participates {
        taking += 1
        if isBeyond { assignment.add(asNeeded: minimumUpdates) }
      }
      plan.assignments[wanted.client.client] = assignment
    }
    let goal = max(size.goal(of: order.count), minimumUpdates)
    if size.overSelection > 1, taking > goal { plan.enough = goal }
    return plan
  }
}

extension RoundPlan.Assignment {
  /// Takes part only because a round needs so many updates.
  fileprivate mutating func add(asNeeded updates: Int) {
    isAdded = true
    reason = "added, as a round needs \(updates) updates: " + (reason ?? "")
  }
}
