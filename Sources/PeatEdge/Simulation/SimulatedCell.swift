import Foundation
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
  /// Rounds of the cell that came to nothing before this one, as too few delivered. Their time, energy and bytes are counted above.
  public var lostRounds: Int
  /// What the learning model expected after it, in nats over the loss that is never passed.
  public var predictedGap: Double
}

/// A round of a simulated cell that came to nothing: it is played again, as often as a round is tried.
public struct LostRound: Sendable, Equatable {
  /// Of the federation, and which attempt at it this was.
  public var round: Int
  public var attempt: Int
  public var seconds: Double
  /// Seconds that a round lasts at most in the cell.
  public var deadline: Double
  /// Whether it is not tried again: the run ends.
  public var isLast: Bool
  /// Who was asked, and whose update arrived.
  public var asked: [ClientID]
  public var delivered: [ClientID]
  /// Updates that it needed.
  public var needed: Int
}

/// Lets a real federation take place in a simulated cell: its clients are the cell's devices, each round takes the time and the energy that
/// it would take there, and a device that fails there takes no part here.
///
/// Planning a round plays it: who delivers in the cell trains in the federation.
public actor SimulatedCell: RememberingPlanner {
  private let clients: [ClientID]
  private let name: String
  private let planner: any EdgePlanner
  private let learning: LearningModel
  private let settings: WorkSettings
  private let attempts: Int
  private let onLostRound: @Sendable (LostRound) -> Void
  /// All that was asked of the cell, in order: played again, it is where it was.
  private var history: [Step] = []
  private var isPlayingAgain = false
  private var cell: EdgeCell
  private var predictedGap: Double
  /// What was before the round that was planned last: its plan may be asked for again.
  private var before: (round: Int, cell: EdgeCell, predictedGap: Double)?
  /// Attempts at the round that was planned last which were lost here, and not in the federation.
  private var lostHere = 0
  /// The rounds so far.
  public private(set) var rounds: [SimulatedRound] = []

  /// What attempts at a round took that never counted: the run ended with them.
  private var joulesInVain = 0.0
  /// Of all that was played, also in vain.
  public var joules: Double { rounds.reduce(joulesInVain) { $0 + $1.joules } }

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
  ///   - attempts: how often a round is tried, here and in the federation together.
  ///   - onLostRound: told of rounds in which too few delivered.
  /// - Throws: `badData` or `usage` where the configuration or the planner makes no sense.
  public init(
    _ configuration: EdgeConfiguration, planner name: String, share: Double = 0.5,
    clients: [ClientID: Double], settings: WorkSettings, attempts: Int = 3, seed: UInt64,
    onLostRound: @escaping @Sendable (LostRound) -> Void = { _ in }
  ) throws {
    self.onLostRound = onLostRound
    var configuration = configuration
    self.name = String(name.prefix { $0 != ":" })
    self.settings = settings
    self.attempts = attempts
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
    history.append(.renewal(Array(levels)))
    for level in levels { cell.renew(level) }
  }

  /// What a cell was asked.
  private enum Step: Sendable, Codable {
    case plan(Question)
    case renewal([Int])
  }

  /// What of a federation's state a cell looks at.
  private struct Question: Sendable, Codable {
    var round: Int
    var attempt: Int
    var minimumUpdates: Int
    var plugIn: Double?
    /// In nats, where plug-in is something else.
    var loss: Double?
    /// Clients that were not there.
    var absent: [ClientID]
  }

  public func memory() throws -> [UInt8] { Array(try KeptJSON.encode(history)) }

  /// Plays again what was carried out: all chance comes from the seed.
  public func restore(
    _ memory: [UInt8], where isCarriedOut: @Sendable (_ round: Int, _ attempt: Int) -> Bool
  ) async throws {
    let steps = try KeptJSON.decode(
      [Step].self, from: Data(memory), "what the simulated cell remembers")
    isPlayingAgain = true
    defer { isPlayingAgain = false }
    for step in steps {
      switch step {
      case .renewal(let levels):
        // After a round that was rolled back its levels stay.
        renew(levels: levels)
      case .plan(let question):
        guard isCarriedOut(question.round, question.attempt) else { continue }
        let there = Set(clients).subtracting(question.absent)
        var state = FederationState(
          run: "again", round: question.round, attempt: question.attempt, rounds: question.round,
          clients: there.sorted().map { .init($0, allowedLevels: []) }, levels: [],
          minimumUpdates: question.minimumUpdates)
        state.metrics["plugIn"] = question.plugIn
        state.metrics[LearningModel.lossMetric] = question.loss
        _ = try await plan(state)
      }
    }
  }

  /// The largest share of the middle's weights that a device was sent, also one that then failed.
  public var exposure: Double { cell.devices.indices.map { cell.exposure(of: $0) }.max() ?? 0 }

  /// - Throws: `unavailable` where too few delivered in every attempt: the run ends.
  public func plan(_ state: FederationState) async throws -> RoundPlan {
    let present = Set(state.clients.map(\.client))
    history.append(
      .plan(
        .init(
          round: state.round, attempt: state.attempt, minimumUpdates: state.minimumUpdates,
          plugIn: state.metrics["plugIn"], loss: state.metrics[LearningModel.lossMetric],
          absent: clients.filter { !present.contains($0) })))
    var spent = SimulatedRound(round: state.round)
    begin(state, &spent)
    if let measured = learning.gap(measured: state.metrics) { cell.gap = measured }
    let start = cell
    while true {
      let attempt = state.attempt + lostHere
      let decisions = decide(state, attempt: attempt)
      let seen = cell
      let outcome = cell.advance(decisions.all)
      spent.add(outcome)
      violations += outcome.violations
      let arrived = cell.delivered.filter { present.contains(clients[$0]) }
      if arrived.count >= state.minimumUpdates || isIdle {
        finish(state, arrived, &spent)
        return plan(state, seen, since: start, decisions, arrived)
      }
      // Updates that never came did nothing.
      cell.takeBack(to: seen)
      spent.lostRounds += 1
      lostHere += 1
      let lost = LostRound(
        round: state.round, attempt: attempt, seconds: outcome.seconds,
        deadline: cell.configuration.deadline, isLast: attempt >= attempts,
        asked: clients.indices.filter { decisions.all[$0].isSelected }.map { clients[$0] },
        delivered: arrived.map { clients[$0] }, needed: state.minimumUpdates)
      if !isPlayingAgain { onLostRound(lost) }
      if lost.isLast {
        joulesInVain += spent.joules
        throw PeatError.unavailable(
          "Round \(lost.round) was tried \(attempt) times; the last time \(lost.delivered.count) of the \(lost.needed) updates it needs arrived in the simulated cell, whose rounds last at most \(rounded(lost.deadline)) s. "
            + "Give its devices more time, memory or battery (deadline, classes), raise attempts, lower minimumUpdates, or choose another planner."
        )
      }
    }
  }

  /// A round that is planned again did not count, whatever came of it in the cell: its time has passed, and its updates did nothing.
  private func begin(_ state: FederationState, _ spent: inout SimulatedRound) {
    if let before, before.round == state.round, let last = rounds.last, last.round == state.round {
      rounds.removeLast()
      spent = last
      spent.lostRounds += 1
      cell.takeBack(to: before.cell)
      predictedGap = before.predictedGap
    }
    if before?.round != state.round { lostHere = 0 }
    before = (state.round, cell, predictedGap)
  }

  /// Whether nobody is ever asked: then nobody is added either.
  private var isIdle: Bool { planner is EdgeIdle }

  /// What is decided for each device, and who takes part although the planner itself left it out.
  private struct Decisions {
    var all: [EdgeDecision]
    var added: Set<Int> = []
  }

  /// The planner's decisions and, where those are too few for a round to count, the quickest others.
  private func decide(_ state: FederationState, attempt: Int) -> Decisions {
    var result: Decisions
    if let planner = planner as? DrawnShare {
      let drawn = planner.drawing(
        clients, round: state.round, attempt: attempt, minimumUpdates: state.minimumUpdates
      ).draw(cell)
      result = Decisions(all: drawn.decisions, added: drawn.added)
    } else {
      result = Decisions(all: planner.decide(cell))
    }
    if isIdle { return result }
    for added in cell.quickestOthers(result.all, upTo: state.minimumUpdates) {
      result.all[added.number] = added.decision
      result.added.insert(added.number)
    }
    return result
  }

  /// Takes in what came of a round.
  private func finish(_ state: FederationState, _ arrived: [Int], _ spent: inout SimulatedRound) {
    var progress = 0.0
    var share = 0.0
    for number in arrived {
      let device = cell.devices[number]
      share += device.share
      progress += learning.progress(
        share: device.share, fidelity: cell.fidelities[device.held],
        age: cell.age(ofHeldBy: number) - 1, gap: predictedGap, work: device.work)
    }
    predictedGap *=
      1
      - cell.progress(
        ofDevices: progress, share: share, coverage: cell.coverage, gap: predictedGap)
    spent.delivered = arrived.count
    spent.predictedGap = predictedGap
    rounds.append(spent)
  }

  /// - Parameters:
  ///   - seen: the cell as the planner saw it.
  ///   - start: the cell before the first attempt at the round.
  private func plan(
    _ state: FederationState, _ seen: EdgeCell, since start: EdgeCell, _ decisions: Decisions,
    _ arrived: [Int]
  ) -> RoundPlan {
    let (regret, regrets, cost) = seen.regrets(of: decisions.all)
    let reasons = seen.reasons(
      for: decisions.all,
      by: {
        decisions.added.contains($0)
          ? "added, as a round needs \(state.minimumUpdates) updates" : name
      }, isFromLostRound: { seen.devices[$0].held != start.devices[$0].held })
    var plan = RoundPlan([:])
    (plan.regret, plan.cost) = (regret, cost)
    if isIdle { plan.skipped = "idle: nobody is ever asked" }
    for (number, client) in clients.enumerated() {
      let reason = reasons[number]
      var assignment = RoundPlan.Assignment.leftOut(because: reason)
      if arrived.contains(number) {
        assignment = .init(emulatorLevel: max(cell.devices[number].held, 0))
        assignment.take(decisions.all[number].work, settings, choices: cell.configuration.work)
        assignment.isAdded = decisions.added.contains(number)
        assignment.reason = reason
      } else if decisions.all[number].isSelected {
        assignment.reason = reason + "; did not deliver in the simulated cell"
      }
      assignment.regret = regrets[number]
      plan.assignments[client] = assignment
    }
    return plan
  }
}

extension SimulatedRound {
  fileprivate init(round: Int) {
    self.init(
      round: round, seconds: 0, joules: 0, bytesDown: 0, bytesUp: 0, participants: 0, delivered: 0,
      lostRounds: 0, predictedGap: 0)
  }

  /// Counts another attempt at it.
  fileprivate mutating func add(_ outcome: EdgeOutcome) {
    seconds += outcome.seconds
    joules += outcome.joules
    bytesDown += outcome.bytesDown
    bytesUp += outcome.bytesUp
    participants = outcome.participants
  }
}
