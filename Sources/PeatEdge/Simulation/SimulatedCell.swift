import PeatFederation
import PeatTensor

/// What a round of a real federation took in its simulated cell.
public struct SimulatedRound: Sendable, Codable, Equatable {
  public var round: Int
  public var seconds: Double
  public var joules: Double
  /// Payload to and from all devices, in bytes, also of those that then failed.
  public var bytesDown: Double
  public var bytesUp: Double
  public var participants: Int
  public var delivered: Int
  /// Rounds of the cell in which nobody delivered, before this one.
  public var lostRounds: Int
  /// What the learning model expected after it, in nats over the loss that is never passed.
  public var predictedGap: Double
}

/// Lets a real federation take place in a simulated cell: its clients are the cell's devices, each round takes the time and the energy that
/// it would take there, and a device that fails there takes no part here.
///
/// Planning a round plays it: who delivers in the cell trains in the federation.
public actor SimulatedCell: RoundPlanner {
  private let clients: [ClientID]
  private let name: String
  private let planner: any EdgePlanner
  private let learning: LearningModel
  private let settings: WorkSettings
  private var cell: EdgeCell
  private var predictedGap: Double
  private var predictedRound = 0
  /// The rounds so far.
  public private(set) var rounds: [SimulatedRound] = []

  /// Devices that were told to train on more than they have memory for.
  public private(set) var violations = 0

  /// Simulated seconds so far.
  public var seconds: Double { cell.time }

  /// - Parameters:
  ///   - configuration: its levels are the run's emulators; there will be as many devices as clients.
  ///   - planner: `everyone` and `random` as a coordinator plans them, `heuristic`, …, or `learned:FILE`.
  ///   - share: of the clients, that `random` draws.
  ///   - clients: with their shares of all data.
  ///   - settings: the run's own, which a planner's choices are multiples of.
  /// - Throws: `badData` or `usage` where the configuration or the planner makes no sense.
  public init(
    _ configuration: EdgeConfiguration, planner name: String, share: Double = 0.5,
    clients: [ClientID: Double], settings: WorkSettings, seed: UInt64
  ) throws {
    var configuration = configuration
    self.name = String(name.prefix { $0 != ":" })
    self.settings = settings
    configuration.devices = clients.count
    try configuration.validate()
    self.clients = clients.keys.sorted()
    planner = try RunPlanners.make(
      name, share: share, levels: configuration.levels.count, work: configuration.work,
      learning: configuration.learning, devices: clients.count, seed: seed)
    learning = configuration.learning
    predictedGap = learning.startGap
    cell = EdgeCell(EdgeCell.World(configuration), seed: seed, number: 0)
    let total = clients.values.reduce(0, +)
    for (number, client) in self.clients.enumerated() where total > 0 {
      cell.devices[number].share = (clients[client] ?? 0) / total
    }
  }

  /// Levels were made anew: who held one of them holds it no more, and is sent the new one before it trains on that level.
  public func renew(levels: some Sequence<Int>) {
    for level in levels { cell.renew(level) }
  }

  /// The largest share of the middle's weights that a device was sent, also one that then failed.
  public var exposure: Double { cell.devices.indices.map { cell.exposure(of: $0) }.max() ?? 0 }

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    let present = Set(state.clients.map(\.client))
    if let measured = state.metrics["plugIn"].flatMap(learning.gap) { cell.gap = measured }
    var lost = 0
    var spent = EdgeOutcome()
    while true {
      let (decisions, reasons) = decide(state)
      let before = cell
      let outcome = cell.advance(decisions)
      spent.seconds += outcome.seconds
      spent.joules += outcome.joules
      spent.bytesDown += outcome.bytesDown
      spent.bytesUp += outcome.bytesUp
      spent.participants = outcome.participants
      violations += outcome.violations
      let arrived = cell.delivered.filter { present.contains(clients[$0]) }
      if arrived.count >= state.minimumUpdates {
        return finish(state, before, decisions, reasons, arrived, spent, lost)
      }
      // Updates that never came did nothing.
      cell.takeBack(to: before)
      lost += 1
      guard lost < 1000 else {
        throw PeatError.unavailable(
          "In 1000 simulated rounds no \(state.minimumUpdates) devices delivered. Give them more memory, battery or time (classes, deadline), or choose another planner."
        )
      }
    }
  }

  /// The planner's decisions and, where those are too few for a round to count, the quickest others; each with its reason.
  private func decide(_ state: FederationState) -> ([EdgeDecision], [String]) {
    var decisions = planner.decide(cell)
    var reasons = decisions.enumerated().map { cell.reason(for: $1, of: $0, by: name) }
    for added in cell.quickestOthers(decisions, upTo: state.minimumUpdates) {
      decisions[added.number] = added.decision
      reasons[added.number] =
        "added: a round needs \(state.minimumUpdates) updates; \(rounded(added.seconds)) s expected"
    }
    return (decisions, reasons)
  }

  /// - Parameters:
  ///   - before: the cell as the planner saw it.
  ///   - spent: also in rounds in which nobody delivered.
  private func finish(
    _ state: FederationState, _ before: EdgeCell, _ decisions: [EdgeDecision],
    _ reasons: [String], _ arrived: [Int], _ spent: EdgeOutcome, _ lost: Int
  ) -> RoundPlan {
    var progress = 0.0
    var share = 0.0
    for number in arrived {
      let device = cell.devices[number]
      share += device.share
      progress += learning.progress(
        share: device.share, fidelity: cell.fidelities[device.held], age: device.age - 1,
        gap: predictedGap, work: device.work)
    }
    if state.round > predictedRound {
      predictedGap *=
        1
        - cell.progress(
          ofDevices: progress, share: share, coverage: cell.coverage, gap: predictedGap)
    }
    predictedRound = state.round
    rounds.append(
      SimulatedRound(
        round: state.round, seconds: spent.seconds, joules: spent.joules,
        bytesDown: spent.bytesDown, bytesUp: spent.bytesUp, participants: spent.participants,
        delivered: arrived.count, lostRounds: lost, predictedGap: predictedGap))
    let (regret, regrets) = before.regrets(of: decisions)
    var plan = RoundPlan([:])
    plan.regret = regret
    for (number, client) in clients.enumerated() {
      let isThere = arrived.contains(number)
      var assignment = RoundPlan.Assignment(
        participates: isThere, emulatorLevel: max(cell.devices[number].held, 0))
      assignment.reason = reasons[number]
      assignment.regret = regrets[number]
      if isThere {
        assignment.take(decisions[number].work, settings, choices: cell.configuration.work)
      } else if decisions[number].isSelected {
        assignment.reason = reasons[number] + "; did not deliver in the simulated cell"
      }
      plan.assignments[client] = assignment
    }
    return plan
  }
}
