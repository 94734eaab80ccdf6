/// Why a planner decided so for a device, in words for a run's log: the same in a live federation and in a simulated cell.
extension PlanningView {
  /// - Parameter planner: its name.
  func reason(for decision: EdgeDecision, of number: Int, by planner: String) -> String {
    if let hindrance = hindrance(of: number) { return hindrance }
    guard decision.isSelected else { return "\(planner): stays out" + expected(of: number) }
    let level = decision.level ?? device(number).held
    guard level >= 0 else { return "\(planner): has no emulator, and is sent none" }
    let isSent = decision.level != nil && bytesToSend(level, to: number) > 0
    return
      "\(planner): \(isSent ? "is sent" : "holds") level \(level), \(rounded(believedSeconds(number, decision))) s expected"
      + lateness(of: number)
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

  /// What its part would have taken: on the level that it holds, else on the best that it may have.
  private func expected(of number: Int) -> String {
    let held = holdsUsable(number) ? device(number).held : nil
    guard let level = held ?? bestLevel(number) else { return "" }
    let decision = EdgeDecision(isSelected: true, level: held == nil ? level : nil)
    return ", \(rounded(believedSeconds(number, decision))) s expected on level \(level)"
      + lateness(of: number)
  }

  private func lateness(of number: Int) -> String {
    let stall = device(number).stall
    return stall < 0.005
      ? "" : ", the deadline's \(rounded(deadline)) s in \(rounded(100 * stall)) % of rounds"
  }

  /// What decisions cost against those of the search that looks ahead, all together and one by one, in its objective; `nil` where that is
  /// not known, or there are so many devices that the search would hold a round up.
  func regrets(of decisions: [EdgeDecision]) -> (all: Double?, each: [Double?]) {
    guard decisions.count <= 250 else { return (nil, decisions.map { _ in nil }) }
    let regret = EdgeSearch.lookAhead.regret(of: decisions, self)
    func finite(_ value: Double) -> Double? { value.isFinite ? value : nil }
    return (finite(regret.all), regret.each.map(finite))
  }
}

/// Seconds as they are shown: a tenth more digits where there are few.
func rounded(_ seconds: Double) -> Double {
  let unit: Double = seconds < 10 ? 100 : 10
  return (min(seconds, 1e9) * unit).rounded() / unit
}
