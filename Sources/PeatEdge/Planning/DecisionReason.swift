/// Why a planner decided so for each device, in words for a run's log: the same in a live federation and in a simulated cell.
extension PlanningView {
  /// Where each has a link of its own, or the band is shared equally.
  func believedSeconds(of decisions: [EdgeDecision]) -> [Double] {
    let participants = decisions.count { $0.isSelected }
    return decisions.enumerated().map { number, decision in
      let level = decision.level ?? device(number).held
      guard decision.isSelected, level >= 0 else { return 0 }
      return believedSeconds(
        number, level: level, isSent: decision.level != nil, participants: Double(participants),
        work: decision.work)
    }
  }

  /// - Parameters:
  ///   - decisions: of all devices, as they will be carried out together.
  ///   - source: who decided for a device: a planner's name.
  ///   - isFromLostRound: whether a device got what it holds in a round that came to nothing.
  func reasons(
    for decisions: [EdgeDecision], by source: (_ number: Int) -> String,
    isFromLostRound: (_ number: Int) -> Bool = { _ in false }
  ) -> [String] {
    let seconds = believedSeconds(of: decisions)
    return decisions.indices.map { number in
      let decision = decisions[number]
      if let hindrance = hindrance(of: number) { return hindrance }
      guard decision.isSelected else {
        return "\(source(number)): stays out" + expected(of: number, beside: decisions)
      }
      let level = decision.level ?? device(number).held
      guard level >= 0 else { return "\(source(number)): has no emulator, and is sent none" }
      let isSent = decision.level != nil && bytesToSend(level, to: number) > 0
      let what =
        if isSent {
          "is sent level \(level)"
        } else if isFromLostRound(number) {
          "was sent level \(level) in a lost round"
        } else {
          "holds level \(level)"
        }
      return "\(source(number)): \(what), \(said(seconds[number], of: number))"
    }
  }

  /// Why a device can't take part; `nil` where it can.
  private func hindrance(of number: Int) -> String? {
    if canTakePart(number) { return nil }
    let device = device(number)
    if !device.isThere { return "can't be reached" }
    if device.charge <= 0 { return "its battery is empty" }
    return levels.contains { $0.memory <= device.memory }
      ? "every level that fits its memory would pass maxExposure" : "no level fits its memory"
  }

  /// For so many devices it is looked how long each that stays out would take beside the others; for more, as if all shared the band equally.
  private static var most: Int { 64 }

  /// What its part would take beside the others': on the level that it holds, else on the best that it may have.
  private func expected(of number: Int, beside decisions: [EdgeDecision]) -> String {
    let held = holdsUsable(number) ? device(number).held : nil
    guard let level = held ?? bestLevel(number) else { return "" }
    let decision = EdgeDecision(isSelected: true, level: held == nil ? level : nil)
    let seconds: Double
    if decisions.count <= Self.most {
      var all = decisions
      all[number] = decision
      seconds = believedSeconds(of: all)[number]
    } else {
      seconds = believedSeconds(number, decision)
    }
    return ", \(said(seconds, of: number)) on level \(level)"
  }

  private func said(_ seconds: Double, of number: Int) -> String {
    let device = device(number)
    let lateness =
      device.stall < 0.005
      ? ""
      : ", the deadline's \(rounded(deadline)) s in \(rounded(100 * device.stall)) % of rounds"
    let tooLong =
      seconds > deadline ? ", more than the deadline's \(rounded(deadline)) s" : lateness
    return "\(rounded(seconds)) s expected" + tooLong
  }

  /// What decisions cost against those of the search that looks ahead, all together and one by one, in its objective; `nil` where that is
  /// not known, or there are so many devices that the search would hold a round up. Beside it what they cost.
  func regrets(of decisions: [EdgeDecision]) -> (all: Double?, each: [Double?], cost: Double?) {
    guard decisions.count <= 250 else { return (nil, decisions.map { _ in nil }, nil) }
    let regret = EdgeSearch.lookAhead.regret(of: decisions, self)
    return (regret.all.finite, regret.each.map(\.finite), regret.cost.finite)
  }
}

/// Seconds as they are shown: a tenth more digits where there are few.
func rounded(_ seconds: Double) -> Double {
  let unit: Double = seconds < 10 ? 100 : 10
  return (min(seconds, 1e9) * unit).rounded() / unit
}
