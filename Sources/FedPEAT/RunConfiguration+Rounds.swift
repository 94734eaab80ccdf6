import Foundation

/// What a run's rounds are bound by.
extension RunConfiguration {
  /// Whether all wait for each other.
  public enum Mode: String, Sendable, Codable, CaseIterable {
    case synchronous, asynchronous
  }

  var rules: RoundRules {
    var rules = RoundRules(
      rounds: rounds, minimumClients: minimumClients, minimumUpdates: minimumUpdates,
      deadline: .seconds(roundDeadline), gatheringDeadline: .seconds(gatheringDeadline),
      attempts: attempts, target: targetPerplexity.map { .init("plugIn", atMost: $0) })
    rules.stillness = stallTimeout.map { .seconds(min($0, roundDeadline)) }
    rules.longest = .seconds(longestRound ?? 4 * roundDeadline)
    let isAsynchronous = mode == .asynchronous
    rules.buffer =
      isAsynchronous
      ? BufferRules(
        size: usedBufferSize, concurrency: concurrency, share: bufferShare ?? 0.5) : nil
    rules.staleness = (maximumStaleness ?? (isAsynchronous ? 10 : nil)).map {
      Staleness(maximum: $0, exponent: stalenessExponent ?? 0.5)
    }
    rules.plateau = plateauRounds.map {
      .init(
        "plugIn", higherIsBetter: metric.higherIsBetter, gain: plateauGain ?? 0, rounds: $0)
    }
    rules.budget = .init(time: timeBudget.map { .seconds($0) }, bytes: byteBudget)
    return rules
  }

  /// As the paper of FedBuff recommends, and no less than a round needs.
  private var usedBufferSize: Int { bufferSize ?? max(10, minimumUpdates) }

  /// How many clients the planners ask that ask a part of them.
  var sampleSize: SampleSize {
    get throws {
      try SampleSize(share: share, count: clientsPerRound, overSelection: overSelection)
    }
  }

  private func expect(_ holds: Bool, _ message: String) throws {
    if !holds { throw PeatError.usage(message) }
  }

  /// Throws where the numbers make no sense, or one is given that does nothing.
  func checkRounds() throws {
    try expect(
      stallTimeout.map { $0 > 0 && $0 < 1e9 } ?? true,
      "stallTimeout is \(stallTimeout ?? 0) seconds; it must be above 0. null makes the deadline the same for all."
    )
    try expect(
      longestRound == nil || stallTimeout != nil,
      "longestRound bounds how far progress moves a round's deadline, which stallTimeout: null switches off. Leave one of both out."
    )
    try expect(
      longestRound.map { $0 >= roundDeadline && $0 < 1e9 } ?? true,
      "longestRound is \(longestRound ?? 0) seconds; it must be at least roundDeadline, which is \(roundDeadline)."
    )
    try expect(
      bufferSize.map { $0 >= 1 && $0 <= 1_000_000 } ?? true,
      "bufferSize is \(bufferSize ?? 0); it must be between 1 and 1000000.")
    try expect(
      bufferSize.map { $0 >= minimumUpdates } ?? true,
      "bufferSize is \(bufferSize ?? 0), fewer than the minimumUpdates of \(minimumUpdates): the buffer would be aggregated before they are there. Raise one, or lower the other."
    )
    try expect(
      concurrency.map { $0 >= 1 } ?? true,
      "concurrency is \(concurrency ?? 0); it must be at least 1. null gives work to all that are there."
    )
    try expect(
      maximumStaleness.map { (1...1000).contains($0) } ?? true,
      "maximumStaleness is \(maximumStaleness ?? 0) rounds; it must be between 1 and 1000. Leave it out to drop late updates."
    )
    try expect(
      stalenessExponent.map { (0...10).contains($0) } ?? true,
      "stalenessExponent is \(stalenessExponent ?? 0); it must be between 0 and 10.")
    try expect(
      stalenessExponent == nil || rules.staleness != nil,
      "stalenessExponent discounts late updates, which are dropped as it is: give maximumStaleness, too, or leave it out."
    )
    try expect(
      bufferShare.map { $0 > 0 && $0 <= 1 } ?? true,
      "bufferShare is \(bufferShare ?? 0); it must be above 0 and at most 1, which lets one client fill the buffer."
    )
    let ofBuffers: [(String, Bool)] = [
      ("bufferSize", bufferSize != nil), ("concurrency", concurrency != nil),
      ("bufferShare", bufferShare != nil),
    ]
    for (name, isGiven) in ofBuffers where isGiven && mode == .synchronous {
      throw PeatError.usage(
        "\(name) is of asynchronous runs: set mode: asynchronous, or leave it out.")
    }
    try checkEnds()
    try rules.validate()
  }

  private func checkEnds() throws {
    try expect(
      plateauRounds.map { (1...1_000_000).contains($0) } ?? true,
      "plateauRounds is \(plateauRounds ?? 0); it must be at least 1. Leave it out to make all rounds."
    )
    try expect(
      plateauGain.map { $0 >= 0 && $0 < 1 } ?? true,
      "plateauGain is \(plateauGain ?? 0); it is a share of the best value, from 0 to below 1.")
    try expect(
      plateauGain == nil || plateauRounds != nil,
      "plateauGain says what counts as better within plateauRounds: give that, too, or leave it out."
    )
    try expect(
      timeBudget.map { $0 > 0 && $0 < 1e9 } ?? true,
      "timeBudget is \(timeBudget ?? 0) seconds; it must be above 0. Leave it out to take any time."
    )
    try expect(
      (lastReleased != nil) == (releaseGate == .lastReleased),
      "releaseGate: last-released and lastReleased, the folder of the adapter that was released last, belong together: give both, or neither."
    )
    try expect(
      byteBudget.map { $0 >= 1 } ?? true,
      "byteBudget is \(byteBudget ?? 0); it must be at least 1. Leave it out to take any number.")
  }

  /// Throws where how many are asked, or that work is given as clients come free, does not go with who plans.
  func checkSampling() throws {
    let size = try sampleSize
    if size.count != nil || size.overSelection > 1, !Planners.samplers.contains(planner) {
      throw PeatError.usage(
        "\(size.count != nil ? "clientsPerRound" : "overSelection") says how many clients \(Planners.samplers.joined(separator: ", ")) ask; the planner '\(planner)' decides that itself. Choose one of them, or leave it out."
      )
    }
    if edge != nil {
      let own = Planners.samplers.filter { $0 != RandomPlanner.name } + ["by-memory"]
      try expect(
        !own.contains(planner) && size.count == nil && size.overSelection == 1,
        "In a simulated cell (edge) the planner '\(planner)'\(size.count != nil || size.overSelection > 1 ? " with clientsPerRound or overSelection" : "") can't be played. Choose random with a share, or oort, heuristic, lookahead; or leave edge out."
      )
    }
    guard mode == .asynchronous else { return }
    try expect(
      Planners.isOfLevels(planner),
      "mode: asynchronous gives work to clients as they come free, so nobody chooses among them: the planner '\(planner)' can't be used. Take everyone, everyone:LEVEL, by-memory or download-once."
    )
    try expect(
      edge == nil,
      "mode: asynchronous can't be played in a simulated cell, which goes by rounds: leave edge out."
    )
    try expect(
      rankComponents == .first,
      "mode: asynchronous gives a client several tasks of one round, whose components would have to be others: rankComponents random is of rounds. Leave it out."
    )
    try expect(
      !participate,
      "mode: asynchronous has no part of the coordinator's own (participate): that is a share of a round in which all train. Leave it out."
    )
  }

  /// Throws where late updates are to be taken, and the strategy can't.
  func checkStaleness(_ rule: any AggregationStrategy) throws {
    guard rules.staleness != nil, let reason = rule.staleRefusal else { return }
    let key = mode == .asynchronous ? "mode: asynchronous" : "maximumStaleness"
    throw PeatError.usage(
      "\(key) takes updates that began with an older adapter; the strategy '\(strategy)' can't: \(reason)"
    )
  }

  /// A key that says something of a run alone that is tuned and measured; `nil` where there is none.
  var keyOfTunedRuns: String? {
    let given: [(String, Bool)] = [
      ("plateauRounds", plateauRounds != nil), ("timeBudget", timeBudget != nil),
      ("byteBudget", byteBudget != nil), ("releaseGate", releaseGate != .none),
      ("maximumStaleness", maximumStaleness != nil),
      ("clientDropouts", clientDropouts > 0), ("attackers", attackers > 0),
    ]
    return given.first(where: \.1)?.0
  }

  /// All rounds are made, by all clients together.
  mutating func makeAllRounds() {
    (clientsPerRound, overSelection) = (nil, 1)
    (mode, bufferSize, concurrency, bufferShare) = (.synchronous, nil, nil, nil)
    (maximumStaleness, stalenessExponent) = (nil, nil)
    (plateauRounds, plateauGain, timeBudget, byteBudget) = (nil, nil, nil, nil)
    (releaseGate, lastReleased) = (.none, nil)
    (clientDropouts, attackers, attacks) = (0, 0, nil)
  }
}
