import Foundation
import PeatFederation
import PeatTensor

/// What a live planner knows of its clients is kept with the run. It comes from clocks: a run that goes on plans as one would that was never stopped, and, like that one, not
/// twice the same.
extension LivePlanner: RememberingPlanner {
  /// What a client trained on last.
  struct Held: Sendable, Codable {
    var level: Int
    var fidelity: Double
  }

  /// What a client was last told to do.
  struct Assigned: Sendable, Codable {
    var level: Int
    var work: EdgeWork
  }

  private struct Memory: Codable {
    var fidelities: [Double]
    var estimates: FleetEstimates
    var gap: Double
    var held: [ClientID: Held]
    var recency: [ClientID: Double]
    var assigned: [ClientID: Assigned]
    var plannedRound: Int
  }

  public func memory() throws -> [UInt8] {
    Array(
      try KeptJSON.encode(
        Memory(
          fidelities: settings.levels.map(\.fidelity), estimates: estimates, gap: gap, held: held,
          recency: recency, assigned: assigned, plannedRound: plannedRound)))
  }

  public func restore(
    _ memory: [UInt8], where isCarriedOut: @Sendable (_ round: Int, _ attempt: Int) -> Bool
  ) throws {
    let memory = try KeptJSON.decode(
      Memory.self, from: Data(memory), "what the planner remembers")
    guard memory.fidelities.count == settings.levels.count else {
      throw PeatError.badData(
        "What the planner remembers is of \(memory.fidelities.count) emulators; the run has \(settings.levels.count)."
      )
    }
    for (level, fidelity) in memory.fidelities.enumerated() {
      settings.levels[level].fidelity = fidelity
    }
    (estimates, gap, held) = (memory.estimates, memory.gap, memory.held)
    (recency, assigned, plannedRound) = (memory.recency, memory.assigned, memory.plannedRound)
  }
}
