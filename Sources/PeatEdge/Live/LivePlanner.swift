import PeatControl
import PeatFederation
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Plans the rounds of a live federation with the planners of the simulated edge, from what its clients report, as far as the coordinator's
/// own clock bears that out.
///
/// A client of which nothing is known yet begins on the smallest emulator that it may have and that leaves the best one open to it:
/// its first round says how fast it is.
/// What the chosen planner decides passes a shield: a client that would take more than three times as long as the
/// heuristic's slowest, or whose memory would be all but full, is decided for by the heuristic. Every decision is given its reason, and
/// what it costs against those of the exact search that looks ahead.
public actor LivePlanner: RoundPlanner {
  private let name: String
  private let planner: any EdgePlanner
  var settings: LiveSettings
  var estimates = FleetEstimates()
  var gap: Double
  /// What each client trained on last: the level, and its fidelity when it had first trained on it.
  var held: [ClientID: Held] = [:]
  /// How lately each client's data was used.
  var recency: [ClientID: Double] = [:]
  /// What clients were last told to do.
  var assigned: [ClientID: Assigned] = [:]

  /// The round that was planned last; its plan may be asked for again.
  var plannedRound = 0

  /// For so many rounds after a run progress is worth as much as during it.
  public static let roundsAfter = 20

  /// The planners by name, beside `learned:FILE`.
  public static let names = ["heuristic", "lookahead", "one-round", "oort"]

  /// - Parameters:
  ///   - name: `heuristic`, `lookahead`, `one-round`, `oort`, or `learned:FILE` with a file that `train-controller` wrote.
  ///   - seed: for planners that draw.
  /// - Throws: `usage` where there is no such planner; `badData` where the file is not for so many levels.
  public init(_ name: String, settings: LiveSettings, seed: UInt64) throws {
    self.name = String(name.prefix { $0 != ":" })
    self.settings = settings
    gap = settings.learning.startGap
    // Clients come and go: any number of devices.
    planner = try EdgePlanners.make(
      name, levels: settings.levels.count, work: settings.choices,
      learning: settings.learning, devices: nil, seed: seed)
  }

  /// Whether this plans under a name.
  public static func knows(_ name: String) -> Bool {
    names.contains(name) || EdgePlanners.learnedFile(name) != nil
  }

  /// Throws where a planner can't be had: before any work. Whether it is for a run is seen when that is known.
  public static func check(_ name: String) throws {
    _ = try EdgePlanners.make(name, levels: nil, learning: LearningModel(), devices: 1, seed: 0)
  }

  /// Fidelities were measured again, with the adapter as it is now.
  public func update(fidelities: [Double]) {
    for (level, fidelity) in fidelities.enumerated() { update(level, fidelity: fidelity) }
  }

  private func update(_ level: Int, fidelity: Double) {
    guard settings.levels.indices.contains(level) else { return }
    settings.levels[level].fidelity = min(max(fidelity, 0), 1)
  }

  /// A level was made anew, and is worth so much: copies of the old one are none of it.
  public func renew(_ level: Int, fidelity: Double) {
    update(level, fidelity: fidelity)
    held = held.filter { $0.value.level != level }
  }

  // MARK: A round

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    learn(from: state)
    let view = view(of: state)
    let heuristic = EdgeHeuristic().decide(view)
    let chosen = planner.decide(view)
    var decisions = zip(chosen, view.reasons(for: chosen, by: { _ in name })).map {
      LiveDecision($0, reason: $1, .planner)
    }
    begin(&decisions, view, state)
    shield(&decisions, with: heuristic, view)
    complete(&decisions, view, state)
    return record(decisions, view, state)
  }

  /// Takes in what is new since the last plan.
  private func learn(from state: FederationState) {
    var progress = 0.0
    var share = 0.0
    let shares = shares(of: state.clients)
    let isNew = state.round != plannedRound
    plannedRound = state.round
    if isNew { recency = recency.mapValues { $0 * LearningModel.retained } }
    for (number, client) in state.clients.enumerated() {
      estimates.begin(client, round: state.round)
      let task = assigned[client.client]
      let operations = task.map { settings.levels[$0.level].work * $0.work.steps }
      estimates.takeMiss(client, work: operations, round: state.round)
      guard estimates.take(client, work: operations, round: state.round), let task else {
        continue
      }
      let level = task.level
      let fidelity = settings.levels[level].fidelity
      if held[client.client]?.level != level {
        held[client.client] = Held(level: level, fidelity: fidelity)
      }
      share += shares[number]
      recency[client.client] = 1
      progress += settings.learning.progress(
        share: shares[number], fidelity: fidelity, age: 0, gap: gap, work: task.work)
    }
    if isNew {
      let coverage = zip(shares, state.clients).reduce(0) {
        $0 + $1.0 * (recency[$1.1.client] ?? 0)
      }
      let devices = settings.learning.progress(
        together: progress, share: share, coverage: coverage, gap: gap)
      gap *= 1 - settings.server.progress(beside: devices, settings.learning, gap: gap)
    }
    if let measured = settings.learning.gap(measured: state.metrics) { gap = measured }
  }

  /// Shares of all examples; a client that never said is believed to have as many as the median.
  private func shares(of clients: [FederationState.ClientState]) -> [Double] {
    let known = clients.compactMap(\.exampleCount).map(Double.init).sorted()
    let median = known.isEmpty ? 1 : known[(known.count - 1) / 2]
    // Nobody's claim counts for more than ten times the median's.
    let counts = clients.map { min($0.exampleCount.map(Double.init) ?? median, 10 * median) }
    let sum = counts.reduce(0, +)
    return counts.map { $0 / max(sum, 1) }
  }

  private func view(of state: FederationState) -> LiveView {
    let names = state.clients.map(\.client)
    let down = estimates.believed(.down, of: names, round: state.round)
    let up = estimates.believed(.up, of: names, round: state.round)
    let compute = estimates.believed(.compute, of: names, round: state.round)
    let shares = shares(of: state.clients)
    let smallest = settings.levels.map(\.memory).min() ?? 0
    let clients = state.clients.enumerated().map { number, client in
      // What it lost since, a restarted client for example, it does not hold.
      let own = held[client.client].flatMap { client.holds.contains($0.level) ? $0 : nil }
      let fidelity = own.map { settings.levels[$0.level].fidelity } ?? 0
      return LiveView.Client(
        device: PlannedDevice(
          share: shares[number], held: own?.level ?? -1, heldFidelity: fidelity,
          // What it holds does not age: what that is worth is measured.
          age: 0, recency: recency[client.client] ?? 0, compute: compute[number],
          // Who does not say what it has gets the smallest.
          memory: client.freeMemoryBytes.map(Double.init) ?? smallest,
          dropout: client.dropout, stall: client.stall(in: state.round), energyPerOperation: 0,
          charge: 1, isThere: true),
        down: down[number], up: up[number], allowed: client.allowedLevels, holds: client.holds,
        isStale: own.map { fidelity < 0.9 * $0.fidelity } ?? false)
    }
    var objective = settings.objective
    if settings.isReferenceTimeMeasured {
      // A round of the median device on the first level.
      let times = clients.map {
        8 * (settings.downloadBytes / $0.down + settings.adapterBytes / $0.up)
          + settings.levels[0].work / $0.device.compute
      }.sorted()
      objective.referenceTime = max(times.isEmpty ? 1 : times[times.count / 2], 1e-3)
    }
    return LiveView(
      levels: settings.levels, objective: objective, learning: settings.learning,
      server: settings.server, adapterBytes: settings.adapterBytes,
      adapterDownBytes: settings.downloadBytes, uploads: settings.uploads,
      choices: settings.choices, deadline: settings.deadline,
      round: state.round - 1,
      // What is learned is of use after the run too.
      rounds: state.rounds + Self.roundsAfter, gap: gap, target: settings.target, clients: clients)
  }

  // MARK: What is made of the planner's decisions

  /// Who never reported begins on the smallest level that it may have.
  private func begin(
    _ decisions: inout [LiveDecision], _ view: LiveView, _ state: FederationState
  ) {
    for (number, client) in state.clients.enumerated() where !estimates.knows(client.client) {
      guard let best = view.bestLevel(number) else { continue }
      // One after which the best may still be seen.
      let open = view.levels.indices.filter { level in
        var exposure = state.exposure
        exposure.note(level, for: client.client)
        return view.allows(level, number) && exposure.allows(best, for: client.client)
      }
      let smallest = open.min { view.levels[$0].bytes < view.levels[$1].bytes } ?? best
      decisions[number] = LiveDecision(
        EdgeDecision(isSelected: true, level: smallest),
        reason: "nothing is known of it yet: begins on level \(smallest)", .beginning)
    }
  }

  private func shield(
    _ decisions: inout [LiveDecision], with heuristic: [EdgeDecision], _ view: LiveView
  ) {
    let slowest = heuristic.enumerated().map { view.believedSeconds($0, $1) }.max() ?? 0
    for number in decisions.indices where decisions[number].edge.isSelected {
      let decision = decisions[number].edge
      guard decisions[number].source == .planner else { continue }
      let level = decision.level ?? view.device(number).held
      let own = view.believedSeconds(number, decision)
      let memory = view.levels[level].memory / view.device(number).memory
      let fault: String? =
        if slowest > 0, own > 3 * slowest {
          "\(rounded(own)) s expected, more than 3 times the heuristic's \(rounded(slowest)) s"
        } else if memory > 0.9, heuristic[number] != decision {
          "level \(level) would leave less than a tenth of its memory"
        } else {
          nil
        }
      guard let fault else { continue }
      decisions[number] = LiveDecision(
        heuristic[number],
        reason: "shield: \(fault); the heuristic decides: "
          + (heuristic[number].isSelected ? "takes part" : "stays out"), .shield)
    }
  }

  /// Where too few take part for a round to count, the quickest others are added.
  private func complete(
    _ decisions: inout [LiveDecision], _ view: LiveView, _ state: FederationState
  ) {
    let added = view.quickestOthers(decisions.map(\.edge), upTo: state.minimumUpdates)
    for (number, decision, seconds) in added {
      decisions[number] = LiveDecision(
        decision,
        reason:
          "added: a round needs \(state.minimumUpdates) updates; \(rounded(seconds)) s expected",
        .addition)
    }
  }

  private func record(
    _ decisions: [LiveDecision], _ view: LiveView, _ state: FederationState
  ) -> RoundPlan {
    let chosen = decisions.map(\.edge)
    let (regret, regrets, cost) = view.regrets(of: chosen)
    var plan = RoundPlan([:])
    (plan.regret, plan.cost) = (regret, cost)
    for (number, client) in state.clients.enumerated() {
      let decision = chosen[number]
      let level = decision.level ?? view.device(number).held
      var assignment = RoundPlan.Assignment.leftOut(because: nil)
      if decision.isSelected, level >= 0 {
        assignment = .init(emulatorLevel: level)
        assignment.take(decision.work, settings.work, choices: settings.choices)
        assignment.isAdded = decisions[number].source == .addition
        assigned[client.client] = Assigned(
          level: level, work: settings.choices.effective(decision.work))
      }
      assignment.reason = decisions[number].reason
      assignment.regret = regrets[number]
      plan.assignments[client.client] = assignment
    }
    return plan
  }
}

extension FederationState.ClientState {
  /// How likely it fails in a round. Who never did is as likely to whether it was asked often or never: else newcomers would have no chance
  /// beside those that are as quick.
  fileprivate var dropout: Double {
    max(0.02, Double(failed) / (Double(delivered) + Double(failed) + 2))
  }

  /// How likely a round waits for it until the deadline; what happened long ago counts for less.
  fileprivate func stall(in round: Int) -> Double {
    guard late > 0, let lastLate else { return 0 }
    let weight = Double(late) * pow(FleetEstimates.keeps, Double(max(round - lastLate - 1, 0)))
    return weight / (Double(delivered) + weight + 1)
  }
}

/// A decision on its way to a plan.
private struct LiveDecision {
  var edge: EdgeDecision
  var reason: String
  let source: Source

  /// Who made it: the chosen planner, or what passes over it.
  enum Source { case planner, beginning, shield, addition }

  init(_ edge: EdgeDecision, reason: String, _ source: Source) {
    self.edge = edge
    self.reason = reason
    self.source = source
  }
}
