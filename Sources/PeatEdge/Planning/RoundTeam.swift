/// Joint decisions of which one at a time changes: what a change comes to is known without looking at all of them again.
struct RoundTeam<View: PlanningView> {
  private let parts: RoundParts<View>
  private(set) var decisions: [EdgeDecision]
  private var own: [RoundPart?] = []
  private(set) var sum = RoundSum()
  /// The two longest, of the round and of a later one.
  private var longest = (first: 0.0, second: 0.0)
  private var longestAgain = (first: 0.0, second: 0.0)

  /// - Returns: `nil` where a decision is impossible.
  init?(_ decisions: [EdgeDecision], _ parts: RoundParts<View>) {
    self.parts = parts
    self.decisions = decisions
    guard update() else { return nil }
  }

  /// All together, if one device did something else; `nil` where that is impossible.
  func sum(with decision: EdgeDecision, for number: Int) -> RoundSum? {
    let participants =
      sum.participants + (decision.isSelected ? 1 : 0) - (decisions[number].isSelected ? 1 : 0)
    if participants != sum.participants, parts.view.sharesBand {
      // All rates are others.
      var changed = decisions
      changed[number] = decision
      return parts.sum(of: changed)
    }
    var result = sum
    result.participants = participants
    if let old = own[number] {
      result.add(old, times: -1)
      result.seconds = old.seconds == longest.first ? longest.second : longest.first
      result.secondsAgain =
        old.secondsAgain == longestAgain.first ? longestAgain.second : longestAgain.first
    }
    if decision.isSelected {
      guard let part = parts.part(number, decision, participants: participants) else { return nil }
      result.add(part)
    }
    return result
  }

  /// Lets a device do something else, which must be possible.
  mutating func change(_ number: Int, to decision: EdgeDecision) {
    decisions[number] = decision
    _ = update()
  }

  private mutating func update() -> Bool {
    sum = RoundSum()
    sum.participants = decisions.count { $0.isSelected }
    (longest, longestAgain) = ((0, 0), (0, 0))
    own = Array(repeating: nil, count: decisions.count)
    func take(_ seconds: Double, _ two: inout (first: Double, second: Double)) {
      if seconds > two.first {
        two = (seconds, two.first)
      } else {
        two.second = max(two.second, seconds)
      }
    }
    for (number, decision) in decisions.enumerated() where decision.isSelected {
      guard let part = parts.part(number, decision, participants: sum.participants) else {
        return false
      }
      own[number] = part
      sum.add(part)
      take(part.seconds, &longest)
      take(part.secondsAgain, &longestAgain)
    }
    return true
  }
}
