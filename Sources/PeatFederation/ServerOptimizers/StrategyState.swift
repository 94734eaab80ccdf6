import Foundation
import PeatTensor

/// What a strategy remembers from one round to the next: a server optimizer's moments, SCAFFOLD's clients.
///
/// It is all there is: a strategy that goes on from a saved state makes the same bits as one that was never stopped. Values are float32 in memory, too.
public struct StrategyState: Sendable, Equatable {
  /// The strategy that it is of, in one word; empty where nothing is remembered yet.
  public var owner = ""
  /// Rounds that it has seen.
  public var rounds = 0
  public var tensors: NamedTensors = [:]
  /// Examples of each client that was ever counted; only where a strategy needs to know.
  public var clients: [String: Int] = [:]

  public init() {}

  private static let ownerKey = "fedpeat.strategy"
  private static let roundsKey = "fedpeat.rounds"
  private static let clientsKey = "fedpeat.clients"

  /// Writes it as one safetensors file, whole or not at all.
  public func write(to file: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try SafeTensors.write(
      tensors, to: file,
      metadata: [
        Self.ownerKey: owner, Self.roundsKey: "\(rounds)",
        Self.clientsKey: String(decoding: try encoder.encode(clients), as: UTF8.self),
      ])
  }

  /// - Throws: `badData` where the file is no such state, or holds what is no number.
  public init(contentsOf file: URL) throws {
    let stored = try SafeTensorsFile(contentsOf: file)
    guard let owner = stored.metadata[Self.ownerKey],
      let rounds = stored.metadata[Self.roundsKey].flatMap(Int.init), rounds >= 0,
      let clients = stored.metadata[Self.clientsKey].flatMap({
        try? JSONDecoder().decode([String: Int].self, from: Data($0.utf8))
      }), clients.values.allSatisfy({ $0 > 0 && $0 <= 1 << 40 })
    else {
      throw PeatError.badData(
        "'\(file.path)' is no state of a strategy: it does not say of which. Name a file that aggregate wrote, or one that is not there yet."
      )
    }
    tensors = try stored.tensors().copied()
    if let name = tensors.firstNotFinite {
      throw PeatError.badData("'\(file.path)' holds a value that is not finite in '\(name)'.")
    }
    (self.owner, self.rounds, self.clients) = (owner, rounds, clients)
  }

  /// Throws where it is another strategy's.
  func check(isOf owner: String) throws {
    guard self.owner.isEmpty || self.owner == owner else {
      throw PeatError.badData(
        "The state is of '\(self.owner)', the strategy is '\(owner)'. Go on with the strategy that it is of, or begin with a new state."
      )
    }
  }
}
